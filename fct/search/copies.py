"""Which rows show one item again: a picture saved twice, rotated, sent again by another camera. Copies must not fit *and* judge.

Two rows are copies when they are near in the old *and* in the new space. Near is no distance but a gap: the nearest neighbours of a row
that both spaces name, in the order of their distance in both at once (the root of the mean square of the two, each as a share of that to
the row's 64th neighbour: the noise of two spaces averages, a neighbour that is far in one is far), and then nobody for a while. Where
points lie at random in m dimensions, the k-th distance is less than a share r of the next one with probability r^(k·m). What is likelier
than 1 in 100 k² by this is no gap: over all k that leaves 1.6 % of random rows a gap, and both rows must have it and name each other, which
leaves less than 1 %. m is measured between the 4th and the 64th neighbour, where copies count alike at both ends; k counts what was a copy
already as one. So it needs no scale, works where every item has copies, and finds nothing in a collapsed class, within which there is no
gap; a class's own outer gap is told by its size, or by its labels.

Legend: N rows, D old, E new dimensions, K neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fct.arrays.shapes import Int64, Num, Shaped

if TYPE_CHECKING:  # seconds, which grouping what is known does not need
    import torch

NEIGHBOURS = 64
CHANCE = 1e-2  # of a gap after the first neighbour; a quarter of it after the second, a ninth after the third: 1.6 times as much in all
LEAST_GAP = 1.4  # the next row is so many times as far
NEAR = 0.12  # of a row's length; copies with noise of 5 % of it lie 0.07 apart
SMALL = 12  # rows, copies of each other counted once, of a group that may be a whole class; it may have more where labels deny that
WHOLE = 0.9  # of a class's rows in one group: the group is the class, not an item
SHARE = 0.01  # of all rows in one group: what is larger (and no exact copy) is a chain
WINDOWS = ((4, 8), (8, 16), (16, 32), (32, 64))
MANY = 20_000  # rows beyond which neighbours are looked for in cells
CELL, PROBES = 256, 8  # rows of a cell; cells that are looked into
BLOCK, PART = 256, 8192  # rows at a time: compared, read
WARN = 0.2  # share of rows that are copies from which a person is told
DOUBT = 0.01  # share of rows in groups that may be items or classes from which a person is told; a tenth of that comes about by chance


def find(
    old: Num[np.ndarray, "N D"], new: Num[np.ndarray, "N E"], labels: Shaped[np.ndarray, " N"] | None = None
) -> Int64[np.ndarray, " N"]:
    """Group rows that are copies of each other; the same arrays give the same groups.

    Args:
        old: (N, D), new: (N, E): row by row of the same items, any dtype.
        labels: (N,) class numbers, −1 where unknown; they tell a small collapsed class from copies, and copies may differ in them.

    Returns:
        (N,) int64, the first row of each row's group: its own number where it has no copy.
    """
    return look(old, new, labels)[0]


def look(old: np.ndarray, new: np.ndarray, labels: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """The groups of :func:`find`, and the share of the rows that lie in groups which were found and not joined for their size.

    Those have a gap around them like copies, in both spaces, and 12 to 64 rows that differ, without labels that would tell a class from
    an item; or they are chains of more than a hundredth of the rows. Either may be a collapsed class, or one item many times.
    """
    firsts, exact = _equal(old, new)
    if len(firsts) <= 2:
        return firsts[exact], 0.0
    names = None if labels is None else np.asarray(labels)[firsts]
    a, b, doubtful = _links(_Space(old, firsts), _Space(new, firsts), names)
    connected, most = _connected(len(firsts), a, b), max(SMALL, round(SHARE * len(old)))
    chains = np.bincount(connected, minlength=len(firsts))[connected] > most
    groups = np.where(chains, np.arange(len(firsts)), connected)  # each row of a chain stands alone
    return firsts[groups][exact], float((doubtful | chains)[exact].mean())


def together(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """(N,) int64: what any of several groupings (N,) holds together, named by its first row."""
    rows = [_first_rows(grouping) for grouping in (first, *others)]
    return _connected(len(first), np.tile(np.arange(len(first)), len(rows)), np.concatenate(rows))


def share(groups: np.ndarray) -> float:
    """Share of the rows (N,) that have a copy."""
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return float((counts[number] > 1).mean())


def told(joined: float, doubtful: float) -> dict[str, float]:
    """Both shares as a verdict says them, the second where it is more than nothing."""
    return {"share": joined} | ({"doubtful": doubtful} if doubtful else {})


def warnings(joined: float, what: str = "rows", doubtful: float = 0.0) -> list[str]:
    """A sentence where more than a fifth of the ``what`` are copies; one where more than a hundredth may be (``doubtful``, of :func:`look`)."""
    said = []
    if joined > WARN:
        said.append(
            f"{joined:.0%} of the {what} are copies of others, near them in both spaces: there are fewer items than {what}. Copies stay "
            "together, so that none fits and judges; pairs of more different items would say more"
        )
    if doubtful > DOUBT:
        said.append(
            f"{doubtful:.0%} of the {what} lie in groups of {SMALL} or more near-copies, each of them a class or one item many times: they are not "
            "held together. Give labels or sources (`--sources`, of given pairs `--pairs-sources`), so that no item fits and judges"
        )
    return said


def _first_rows(values: np.ndarray) -> np.ndarray:
    """(N,) the first row that has the same value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def _equal(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of those that are equal in both spaces, ascending, and (N,) which of them each row equals."""
    seen: dict[bytes, int] = {}
    number = np.empty(len(old), dtype=np.int64)
    firsts: list[int] = []
    for start in range(0, len(old), BLOCK):
        both = [np.ascontiguousarray(np.asarray(array[start : start + BLOCK], dtype=np.float32) + 0.0) for array in (old, new)]  # −0 is 0
        for row, (a, b) in enumerate(zip(*both, strict=True), start=start):
            number[row] = seen.setdefault(hashlib.blake2b(a.tobytes() + b.tobytes(), digest_size=16).digest(), len(seen))
            if number[row] == len(firsts):
                firsts.append(row)
    return np.array(firsts, dtype=np.int64), number


class _Space:
    """The distinct rows in one space, float32 around their mean, so that distances far from the origin keep their digits.

    Of more than 20,000 rows 64 random projections stand for wider vectors: they keep distances to a tenth (Johnson and Lindenstrauss 1984).
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        import torch

        wide, many = array.shape[1], len(rows) > MANY
        mean = sum(np.asarray(array[part], dtype=np.float64).sum(axis=0) for part in _parts(rows)) / len(rows)
        project = None
        if many and wide > NEIGHBOURS:
            project = torch.randn(wide, NEIGHBOURS, generator=torch.Generator().manual_seed(0)) / NEIGHBOURS**0.5
        moved, length = [], []
        for part in _parts(rows):
            values = np.asarray(array[part], dtype=np.float64)
            length.append(torch.from_numpy(np.linalg.norm(values, axis=1)))
            block = torch.from_numpy((values - mean).astype(np.float32))
            moved.append(block if project is None else block @ project)
        self.rows, self.many = torch.cat(moved), many
        # far from the origin lengths say nothing: no row counts as longer than twice the mean row around the mean of all
        self.length = torch.cat(length).float().clamp(max=2 * float(self.rows.square().sum(dim=1).mean().sqrt()))

    def nearest(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, K) numbers and distances of the nearest other rows, nearest first; of more than 20,000 rows nearly all of them."""
        import torch

        found = self._by_cells(count) if self.many else self._by_all(count)
        far = torch.cat([(self.rows[one] - self.rows[at, None]).square().sum(dim=2).sqrt() for at, one in _blocks(found)])
        far, order = far.sort(dim=1, stable=True)
        return found.gather(1, order), far

    def _by_all(self, count: int) -> torch.Tensor:
        import torch

        squares, found = self.rows.square().sum(dim=1), []
        for at, block in _blocks(self.rows):
            distance = torch.addmm(squares[None], block, self.rows.T, alpha=-2)  # less the row's own square, which orders nothing
            distance[torch.arange(len(block)), torch.arange(at.start, at.start + len(block))] = torch.inf
            found.append(distance.topk(count, dim=1, largest=False).indices)
        return torch.cat(found)

    def _by_cells(self, count: int) -> torch.Tensor:
        """Each row belongs to the nearest of some rows, and looks where the nearest ``PROBES`` of them are."""
        import torch

        rows, number = self.rows, len(self.rows)
        squares = rows.square().sum(dim=1)
        centres = torch.randperm(number, generator=torch.Generator().manual_seed(0))[: number // CELL]
        probes = torch.cat(
            [
                torch.addmm(squares[centres][None], block, rows[centres].T, alpha=-2).topk(PROBES, dim=1, largest=False).indices
                for _, block in _blocks(rows)
            ]
        )
        members = probes[:, 0].argsort(stable=True).split(torch.bincount(probes[:, 0], minlength=len(centres)).tolist())
        askers = probes.flatten().argsort(stable=True).split(torch.bincount(probes.flatten(), minlength=len(centres)).tolist())
        far = torch.full((number, count), torch.inf)
        found = torch.full((number, count), -1)
        for cell, asking in zip(members, askers, strict=True):
            if not len(cell) or not len(asking):
                continue
            ask = asking // PROBES
            distance = torch.addmm(squares[cell][None], rows[ask], rows[cell].T, alpha=-2)
            distance[ask[:, None] == cell[None]] = torch.inf
            best = torch.cat([far[ask], distance], dim=1).topk(count, dim=1, largest=False)
            far[ask], found[ask] = best.values, torch.cat([found[ask], cell.expand(len(ask), -1)], dim=1).gather(1, best.indices)
        return torch.where(found < 0, found[:, :1], found)  # a row in a thin place may see fewer: its nearest stands for those missing


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), PART):
        yield rows[start : start + PART]


def _blocks(array: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    for start in range(0, len(array), BLOCK):
        yield slice(start, start + BLOCK), array[start : start + BLOCK]


def _dimensions(far: np.ndarray) -> float:
    """How the number of neighbours grows with their distance: the second of the windows' medians, for copies and a class's border lie in others."""
    found = [1.0, 1.0]
    for few, many in WINDOWS:
        if many <= far.shape[1]:
            grown = np.log(np.maximum(far[:, many - 1], 1e-30) / np.maximum(far[:, few - 1], 1e-30))
            found.append(float(np.median(np.log(many / few) / np.maximum(grown, 1e-3))))
    return sorted(found)[-2]


def _links(old: _Space, new: _Space, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows that say of each other that they are copies, both ways round; (N,) bool, rows of groups too large to say so."""
    import torch

    rows = len(old.rows)
    count = min(NEIGHBOURS, rows - 1)
    (one, far_old), (two, far_new) = old.nearest(count), new.nearest(count)
    m = min(_dimensions(far.numpy()) for far in (far_old, far_new))
    # rows that only one space names are as far as its last neighbour, or further
    order = two.sort(dim=1)
    at = torch.searchsorted(order.values, one).clamp(max=count - 1)
    both = order.values.gather(1, at) == one
    there = order.indices.gather(1, at)
    shares = far_old / far_old[:, -1:].clamp(min=1e-30), far_new.gather(1, there) / far_new[:, -1:].clamp(min=1e-30)
    apart = ((shares[0].square() + shares[1].square()) / 2).sqrt()
    close = both & (far_old <= NEAR * old.length[:, None]) & (far_new.gather(1, there) <= NEAR * new.length[:, None])
    apart, order_ = torch.where(both, apart, torch.inf).sort(dim=1, stable=True)
    neighbours, near = one.gather(1, order_).numpy(), close.gather(1, order_).numpy()
    log = np.log(np.clip(np.concatenate([apart.numpy(), np.ones((rows, 1))], axis=1), 1e-12, 1))
    size = np.full(rows, rows) if labels is None else np.where(labels < 0, rows, np.bincount(np.maximum(labels, 0))[labels])
    mates = np.ones(rows, dtype=np.int64)  # of the row's class among it and its nearest
    unit, last, refused = np.ones(rows), np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    for k in range(1, count + 1):
        if labels is not None:
            mates += (labels[neighbours[:, k - 1]] == labels) & np.isfinite(apart[:, k - 1].numpy())
        gap = log[:, k] - log[:, k - 1]
        shown = near[:, k - 1] & (gap > np.log(LEAST_GAP)) & (k / unit * m * gap > np.log((k / unit) ** 2 / CHANCE))
        whole = mates >= WHOLE * size if labels is not None else np.ones(rows, dtype=bool)
        small = (k < SMALL * unit) | ~whole
        last, refused = np.where(shown & small, k, last), np.where(shown & ~small, k, refused)
        unit = np.where(shown, k + 1, unit)
    a, b = _mutual(neighbours, last)
    doubtful = np.zeros(rows, dtype=bool)
    if labels is None:  # else the group is its class
        doubtful = (refused > 0) & (2 * np.bincount(_mutual(neighbours, refused)[0], minlength=rows) >= refused)
    return a, b, doubtful


def _mutual(
    neighbours: Int64[np.ndarray, "N K"], first: Int64[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    """Pairs of rows that are among the ``first`` (N,) so many of each other's neighbours (N, K), both ways round."""
    near = np.arange(neighbours.shape[1])[None] < first[:, None]
    a, b = np.nonzero(near)[0], neighbours[near]
    mutual = np.isin(a * len(first) + b, b * len(first) + a)
    return a[mutual], b[mutual]


def _connected(rows: int, a: Int64[np.ndarray, " P"], b: Int64[np.ndarray, " P"]) -> Int64[np.ndarray, " N"]:
    """(rows,) the least number that each one is connected to by pairs (a, b), which go both ways round."""
    name = np.arange(rows)
    while True:
        least = name.copy()
        np.minimum.at(least, a, name[b])
        np.minimum.at(least, b, name[a])
        least = np.minimum(least, least[least])
        if (least == name).all():
            return name
        name = least
