"""Ranks by counting: exact search where no row of scores is ever sorted and no gallery is ever held whole.

The scores of a query's own positives are taken out first; then every score of the gallery is only put between them
(:class:`~fct.search.levels.Levels`) and counted. One walk serves several mixed galleries at once: a row belongs to the first gallery until its *move*,
the step at which it changes over to the second.

Legend: Q queries, G gallery rows, D dimensions, B queries of a block, W gallery rows of a block, K galleries (1 or 2), C positives
of a query times K (padded), L = 2·C levels, O orders, S steps, R queries that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from fct.arrays.shapes import Bool, Float64, Int, Int64, Num
from fct.search.levels import Levels

SCORES = 1 << 21  # of one block: 16 MB
FEW = 64  # queries of a block make a product fast enough
COUNTERS = 1 << 22  # of one block of queries: 32 MB


@dataclass(frozen=True)
class Task:
    """What is searched for and what counts.

    ``query``: (Q, D) any real dtype. ``query_labels``, ``gallery_labels``: (Q,), (G,) int32 codes. ``hides``: pairs of such codes; a gallery
    row is hidden from a query where they are equal. ``metric``: cosine or l2. ``middle``: (D,) float64, what is taken from all vectors for l2:
    far from the origin distances would be lost in the squares.
    """

    query: np.ndarray
    query_labels: np.ndarray
    gallery_labels: np.ndarray
    hides: Sequence[tuple[np.ndarray, np.ndarray]]
    metric: str
    middle: np.ndarray | None = None


class Block:
    """Scores of one block of queries against one block of a gallery, in float64.

    Only what is asked for is read from the gallery, and what was asked for last is kept: a gallery of one block is converted once.
    All products have one shape (zeros below), so that a score taken twice is the same twice.
    """

    def __init__(self, task: Task, gallery: np.ndarray, height: int, width: int):
        self.task, self.gallery, self.width = task, gallery, width
        self.rows = torch.zeros(width, gallery.shape[1], dtype=torch.float64)
        self.squares = torch.zeros(width, dtype=torch.float64)
        self.product = torch.empty(height, width, dtype=torch.float64)
        self.held = self.done = (-1, -1)

    def scores(self, query: Float64[torch.Tensor, "H D"], chosen: Int64[np.ndarray, " B"], start: int) -> Float64[torch.Tensor, "B W"]:
        """(B, ≤ width) scores, larger = nearer, −inf where hidden, of ``query`` (height, D), which is prepared; ``chosen``: (B,) its rows."""
        stop = min(start + self.width, len(self.gallery))
        found = self.product[: len(chosen), : stop - start]
        if self.done == (int(chosen[0]), start):
            return found
        if self.held != (start, stop):
            prepare(self.gallery[start:stop], self.rows, self.task.metric, self.task.middle)
            self.squares = (self.rows * self.rows).sum(dim=1)
            self.held = (start, stop)
        torch.mm(query, self.rows.T, out=self.product)
        if self.task.metric == "l2":
            self.product.mul_(2).sub_(self.squares)  # minus the squared distance, plus |q|², which is the same for all rows
        for of_query, of_gallery in self.task.hides:
            hidden = torch.from_numpy(of_query[chosen])[:, None] == torch.from_numpy(of_gallery[start:stop])[None]
            found.masked_fill_(hidden, -torch.inf)
        self.done = (int(chosen[0]), start)
        return found

    def slack(
        self, query: Float64[torch.Tensor, "H D"], row: Int64[torch.Tensor, "*#P"], column: Int64[torch.Tensor, "*#P"]
    ) -> Float64[torch.Tensor, "*P"]:
        """(P,) by how much rounding can move the scores of ``row`` and ``column`` (P,) of the block: below that they are ties.

        The bound of a sum of D products, whatever its order: a matrix product may well add up two equal rows differently.
        """
        square = self.squares[column]
        length = torch.linalg.vector_norm(query, dim=1)[row] * square.sqrt()
        return (2 * length + square) * ((query.shape[1] + 4) * 2.0**-52)


def prepare(
    rows: Num[np.ndarray, "n D"], out: Float64[torch.Tensor, "W D"], metric: str, middle: Float64[np.ndarray, " D"] | None = None
) -> None:
    """Copy ``rows`` (n, D) less ``middle`` (D,) into the first of ``out`` (≥ n, D) as float64, scaled to norm 1 for cosine; zeros below."""
    np.copyto(out.numpy()[: len(rows)], rows, casting="unsafe")
    out[len(rows) :] = 0
    if middle is not None:
        out.numpy()[: len(rows)] -= middle
    if metric == "cosine":
        part = out[: len(rows)]
        part /= part.abs().amax(dim=1, keepdim=True)  # squares of tiny or huge numbers would leave float64's range
        part /= torch.linalg.vector_norm(part, dim=1, keepdim=True)


def positives(
    labels: Int[np.ndarray, " B"], by_label: Int64[np.ndarray, " G"], starts: Int64[np.ndarray, " L"]
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    """(row, column) of each query and gallery row of one label. ``by_label``: (G,) gallery rows sorted by label."""
    first, many = starts[labels], starts[labels + 1] - starts[labels]
    row = np.repeat(np.arange(len(labels)), many)
    return row, by_label[np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many) + first[row]]


def walk(
    task: Task,
    galleries: Sequence[Num[np.ndarray, "G D"]],
    moves: Int[np.ndarray, "O G"],
    steps: int,
    *,
    block: int,
    title: str | None = None,
) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, "O S R"], Float64[np.ndarray, "O S R"], Bool[np.ndarray, "O S R"]]:
    """Rank every query's positives in every mixed gallery.

    Args:
        galleries: K arrays (G, D), row by row of the same items; slices are read, never the whole.
        moves: (O, G) int, below ``steps``: at steps from ``moves[o, g]`` on, row g is taken from the second gallery.
        block: the most queries at once.
        title: of the progress bar; none by default.

    Returns:
        rows (R,) int64, the queries with a positive they can see; rank (O, S, R) int64 of the first positive, from 1;
        ap (O, S, R) float64; tied (O, S, R) bool, whether a wrong item has the very score of a positive.
    """
    count = len(galleries[0])
    codes = 1 + max(int(task.query_labels.max()), int(task.gallery_labels.max()))
    sizes = np.bincount(task.gallery_labels, minlength=codes)
    by_label = np.argsort(task.gallery_labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    most = max(1, int(sizes[task.query_labels].max())) * len(galleries)
    block = max(1, min(block, len(task.query), COUNTERS // (4 * most * steps)))
    if count * FEW <= SCORES:
        block = min(block, SCORES // count)  # the gallery is one block, and every product is computed once
    width = max(1, min(SCORES // max(block, task.query.shape[1]), count))
    width = -(-count // -(-count // width))  # blocks of one size
    blocks = [Block(task, gallery, block, width) for gallery in galleries]
    parts = []
    begins = range(0, len(task.query), block)
    for start in begins if title is None else tqdm(begins, desc=title, unit="block", leave=False, mininterval=1):
        chosen = np.arange(start, min(start + block, len(task.query)))
        row, column = positives(task.query_labels[chosen], by_label, starts)
        seen = np.ones(len(row), dtype=bool)
        for of_query, of_gallery in task.hides:
            seen &= of_query[chosen[row]] != of_gallery[column]
        keep, row = np.unique(row[seen], return_inverse=True)
        if len(keep):
            parts.append((chosen[keep], *_rank(task, blocks, chosen[keep], row, column[seen], moves, steps)))
    if not parts:
        empty = (len(moves), steps, 0)
        return np.zeros(0, np.int64), np.zeros(empty, np.int64), np.zeros(empty), np.zeros(empty, dtype=bool)
    rows, rank, ap, tied = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return rows, rank, ap, tied


@dataclass(frozen=True)
class _Positives:
    """The positives of a block of queries in every gallery, best first, padded to C a query.

    ``item``: (B, C) gallery rows, −1 = padding. ``gallery``: (B, C) which gallery the score is from. ``levels``: (B, L) ascending float64.
    ``near``, ``own``, ``far``: (B, C) places among the levels: of the least score that ties, of the score itself (how many
    levels are at or below it), and of the least score that is truly better.
    """

    item: torch.Tensor
    gallery: torch.Tensor
    levels: torch.Tensor
    near: torch.Tensor
    own: torch.Tensor
    far: torch.Tensor


def _rank(
    task: Task,
    blocks: Sequence[Block],
    chosen: Int64[np.ndarray, " B"],
    row: Int64[np.ndarray, " P"],
    column: Int64[np.ndarray, " P"],
    moves: Int[np.ndarray, "O G"],
    steps: int,
) -> tuple[Int64[np.ndarray, "O S B"], Float64[np.ndarray, "O S B"], Bool[np.ndarray, "O S B"]]:
    """rank, ap, tied (O, S, B) of one block of queries. ``row``, ``column``: (P,) their positives, sorted by row."""
    query = torch.zeros(blocks[0].product.shape[0], task.query.shape[1], dtype=torch.float64)
    prepare(task.query[chosen], query, task.metric, task.middle)
    found = _positives(blocks, query, chosen, row, column)
    counts = _count(blocks, query, chosen, found.levels, moves, steps)
    parts = [_judge(found, counts[o], torch.from_numpy(move.astype(np.int64)), steps) for o, move in enumerate(moves)]
    rank, ap, tied = (torch.stack(part).transpose(1, 2).numpy() for part in zip(*parts, strict=True))
    return rank, ap, tied


def _positives(blocks: Sequence[Block], query: torch.Tensor, chosen: np.ndarray, row: np.ndarray, column: np.ndarray) -> _Positives:
    """First pass over the galleries: the positives' own scores."""
    many, width = len(blocks), blocks[0].width
    own, slack = np.empty((2, many, len(row)))
    for start in range(0, len(blocks[0].gallery), width):
        here = np.flatnonzero((column >= start) & (column < start + width))
        for k in range(many if len(here) else 0):
            at = torch.from_numpy(row[here]), torch.from_numpy(column[here] - start)
            own[k, here] = blocks[k].scores(query, chosen, start)[at].numpy()
            slack[k, here] = blocks[k].slack(query, *at).numpy()
    sizes = np.bincount(row, minlength=len(chosen))
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    item = np.full((len(chosen), many, int(sizes.max())), -1)
    score, margin = np.full(item.shape, np.nan), np.zeros(item.shape)
    for k in range(many):
        item[row, k, place], score[row, k, place], margin[row, k, place] = column, own[k], slack[k]
    score = np.where(item < 0, np.nanmin(score, axis=(1, 2), keepdims=True), score)  # no level of its own for padding
    best, order = torch.from_numpy(score).view(len(chosen), -1).sort(dim=1, descending=True)
    margins = torch.from_numpy(margin).view(len(chosen), -1).gather(1, order)
    levels = torch.cat([best - margins, best + margins], dim=1).sort(dim=1).values
    return _Positives(
        torch.from_numpy(item).view(len(chosen), -1).gather(1, order),
        order // item.shape[2],
        levels,
        torch.searchsorted(levels, best - margins),
        torch.searchsorted(levels, best, right=True),
        torch.searchsorted(levels, best + margins),
    )


def _count(
    blocks: Sequence[Block],
    query: Float64[torch.Tensor, "H D"],
    chosen: Int64[np.ndarray, " B"],
    levels: Float64[torch.Tensor, "B L"],
    moves: Int[np.ndarray, "O G"],
    steps: int,
) -> Int64[torch.Tensor, "O K B S L+1"]:
    """Second pass: (O, K, B, S, L + 1) int64, how many scores of gallery k that move at step s have so many levels at or below them."""
    ladder, length = Levels(levels), levels.shape[1] + 1
    counts = torch.zeros(len(moves), len(blocks), len(chosen) * steps * length, dtype=torch.int64)
    base = (torch.arange(len(chosen), dtype=torch.int32) * (steps * length))[:, None]
    for start in range(0, len(blocks[0].gallery), blocks[0].width):
        for k, block in enumerate(blocks):
            place = ladder.reach(block.scores(query, chosen, start)).add_(base)
            for o, move in enumerate(moves):
                at = torch.from_numpy(move[start : start + block.width].astype(np.int32) * length)
                counts[o, k] += torch.bincount((place if steps == 1 else place + at).view(-1), minlength=counts.shape[2])
    return counts.view(len(moves), len(blocks), len(chosen), steps, length)


def _judge(
    found: _Positives, counts: Int64[torch.Tensor, "K B S N"], move: Int64[torch.Tensor, " G"], steps: int
) -> tuple[Int64[torch.Tensor, "B S"], Float64[torch.Tensor, "B S"], Bool[torch.Tensor, "B S"]]:
    """rank, ap, tied (B, S) of one order. ``counts``: (K, B, S, L + 1); ``move``: (G,) int64."""
    upto = counts.cumsum(dim=2)
    real, moved = found.item >= 0, torch.arange(steps)[:, None] >= move[found.item.clamp(min=0)][:, None]  # (B, C), (B, S, C)
    if len(counts) == 1:
        wrong, active = upto[0], real[:, None].expand_as(moved)
    else:
        wrong = upto[0][:, -1:] - upto[0] + upto[1]
        active = real[:, None] & (moved == (found.gallery == 1)[:, None])

    def everywhere(place: torch.Tensor) -> torch.Tensor:
        return place[:, None].expand_as(active)

    wrong = wrong.scatter_add(2, everywhere(found.own), -active.long())  # positives are no wrong items
    wrong = wrong.sum(dim=2, keepdim=True) - wrong.cumsum(dim=2)  # column j: how many reach level j
    ahead, truly = wrong.gather(2, everywhere(found.near)), wrong.gather(2, everywhere(found.far))
    hits = active.cumsum(dim=2).double()
    ap = torch.where(active, hits / (hits + ahead), 0.0).sum(dim=2) / hits[:, :, -1]
    rank = 1 + ahead.masked_fill(~active, torch.iinfo(torch.int64).max - 1).amin(dim=2)
    return rank, ap, (active & (ahead > truly)).any(dim=2)
