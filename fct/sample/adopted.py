"""Vectors that were computed elsewhere, by an embedder that is not at hand: read, checked, and made into pairs that h is fitted on.

What an upgrade has instead of the old embedder is *given pairs*: rows of which the old vector, the new vector and the label are known.
They are divided once, by seed and class, into fitting rows, evaluation sample and canaries; copies and given sources stay together. The files they become are those of
:func:`fct.sample.pairs.write_pairs`, so that everything after that step is the same.

Legend: N rows, G given pairs, D old, P side, E new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fct.arrays import digests, vectors
from fct.arrays.files import whole_folder
from fct.errors import BadInput
from fct.sample.folder import PairsFolder, Sample
from fct.sample.splitting import fill
from fct.search import copies
from fct.search.intervals import FEWEST as FEWEST_UNSEEN

CANARIES = 64
EVALUATED = 4000  # most rows of the evaluation sample
EVALUATED_SHARE = 0.25  # of a known class's pairs
UNSEEN_SHARE = 0.15  # of the classes, whose labels h never sees
FEWEST = 200
LOOKED_AT = 10_000
STRANGE = 0.2  # share of rows beyond the pairs' own 99th percentile at which another embedder is the likelier explanation
STRANGER = 0.9  # the same for a new release's canaries among the pairs' new vectors; canaries are unlike other images by nature
UNIT = 1e-3
NORM_GAP = 1.5  # factor between two neighbouring norms that parts the rows in two kinds
NORM_SHARE = 0.01
FILES = ("old", "new", "psi", "labels", "sources", "copies")
Listed = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Rows:
    """A gallery that was computed elsewhere: ids (N,) str, phi (N, D) float16 or float32, psi (N, P) int8, texts (N,) str.

    ``left``: (id, why) of rows that were left out. ``said``: what is odd about the rest.
    """

    ids: np.ndarray
    phi: np.ndarray
    psi: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    uris: np.ndarray
    left: Listed = ()
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """Given pairs: old (G, D), new (G, E), psi (G, P) int8; labels and sources (G,) str, "" where there is none.

    ``copies``: (G,) int64, the first row of each row's group of copies (:mod:`fct.search.copies`). ``left``, ``said``: as of :class:`Rows`.
    ``doubtful``: share in groups too large to be called copies (:func:`fct.search.copies.look`); None where nobody has looked.
    """

    old: np.ndarray
    new: np.ndarray
    psi: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    copies: np.ndarray
    left: Listed = ()
    said: tuple[str, ...] = ()
    doubtful: float | None = None

    @property
    def units(self) -> np.ndarray:
        """(G,) int64 numbers of what is never split: copies, and rows of one source."""
        alone = np.char.add("row ", np.arange(len(self.sources)).astype(str))
        return copies.together(self.copies, np.where(self.sources == "", alone, np.char.add("source ", self.sources)))

    def save(self, folder: Path) -> None:
        for name in FILES:
            vectors.save(folder / f"{name}.npy", getattr(self, name))


def load_given(folder: Path) -> Given:
    """Read what :meth:`Given.save` wrote; earlier code knew neither sources nor copies, which are then looked for now."""
    old, new, psi, labels = (vectors.load(folder / f"{name}.npy") for name in FILES[:4])
    if not (folder / "copies.npy").exists():
        return given_pairs(old, new, psi, labels)
    sources, same = (np.array(vectors.load(folder / f"{name}.npy")) for name in FILES[4:])
    return Given(old, new, psi, labels, sources, same)


def given_pairs(
    old: np.ndarray,
    new: np.ndarray,
    psi: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray | None = None,
    left: Listed = (),
    said: tuple[str, ...] = (),
) -> Given:
    """Given pairs, their copies looked for; arrays as of :class:`Given`."""
    sources = np.full(len(old), "") if sources is None else sources
    same, doubtful = _look(old, new, labels)
    return Given(old, new, psi, labels, sources, same, left, said, doubtful)


def _look(old: np.ndarray, new: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    return copies.look(old, new, np.where(labels == "", -1, np.unique(labels, return_inverse=True)[1]))


def normalised(phi: np.ndarray) -> bool:
    """Whether all rows (N, D) have norm 1, to a thousandth."""
    return all(
        np.abs(np.linalg.norm(phi[start : start + 65536].astype(np.float32), axis=1) - 1).max() < UNIT
        for start in range(0, len(phi), 65536)
    )


def two_scales(phi: np.ndarray) -> float | None:
    """Share of the rows (N, D) in the smaller of two kinds that differ in scale: between their norms lies a gap of a factor 1.5 and more.

    None where there is no such gap. Two embedders that both normalise look alike here: only given pairs tell them apart.
    """
    norms = np.sort(np.linalg.norm(np.asarray(phi, dtype=np.float32), axis=1))
    gaps = norms[1:] / norms[:-1]
    inside = slice(int(NORM_SHARE * len(gaps)), len(gaps) - int(NORM_SHARE * len(gaps)))
    if not len(gaps[inside]) or gaps[inside].max() < NORM_GAP:
        return None
    below = (int(gaps[inside].argmax()) + inside.start + 1) / len(norms)
    return min(below, 1 - below)


def strangers(known: np.ndarray, asked: np.ndarray, seed: int = 0) -> float:
    """Share of rows (N, D) that lie further from ``known`` (G, D) than 99 % of its own rows do: near 1 for another embedder's vectors.

    Vectors of two networks trained alike but for the seed: 1.00 and 0.99 of them; the same network, other images: 0.06.
    """
    from fct.search import coverage

    rng = np.random.default_rng(seed)
    reference, looked = (np.asarray(rows[np.sort(rng.permutation(len(rows))[:LOOKED_AT])], dtype=np.float32) for rows in (known, asked))
    return coverage.measure(reference, looked).share


@dataclass(frozen=True)
class Parts:
    """Row numbers of given pairs, ascending: what each is for. ``unseen``: classes whose labels h never sees; in ``known`` lie, too, copies of
    evaluated rows that have no label or one of another class."""

    fitting: np.ndarray
    pool: np.ndarray
    known: np.ndarray
    unseen: np.ndarray
    canaries: np.ndarray


def divide(labels: np.ndarray, seed: int, units: np.ndarray | None = None) -> Parts:
    """Divide given pairs with ``labels`` (G,) str: by class for the unseen ones, by unit for the others; unlabelled rows are the pool.

    The canaries are the same whatever else is drawn, and in no other part; they neither fit nor judge h.

    Args:
        units: (G,) numbers of what fits or judges as a whole (:attr:`Given.units`); by default each row is one.

    Raises:
        BadInput: too few labelled rows to judge anything by.
    """
    units = copies.together(np.arange(len(labels)) if units is None else units)  # named by its first row
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))
    canaries, rows = np.sort(rows[: min(CANARIES, len(rows) // 10)]), np.sort(rows[min(CANARIES, len(rows) // 10) :])
    classes = np.unique(labels[rows][labels[rows] != ""])
    # with fewer unseen classes than a bound needs nothing could be said of them: then every class is known
    hidden = rng.permutation(classes)[: max(FEWEST_UNSEEN, int(UNSEEN_SHARE * len(classes))) if len(classes) >= 4 * FEWEST_UNSEEN else 0]
    unseen = rows[np.isin(labels[rows], hidden)]
    shut = np.isin(units[rows], units[unseen])  # copies of unseen rows, whatever their labels are, fit nothing
    seen = rows[(labels[rows] != "") & ~shut]
    sizes = np.bincount(units[rows], minlength=len(labels))
    most = EVALUATED // 4 * 3 if len(unseen) else EVALUATED
    judged = fill(rng.permutation(np.unique(units[seen])), sizes, min(int(EVALUATED_SHARE * len(seen)), most), 1.0)
    judged += fill(rng.permutation(np.unique(units[unseen])), sizes, EVALUATED // 4, 1.0)
    evaluated = rows[np.isin(units[rows], judged)]
    unseen = evaluated[np.isin(labels[evaluated], hidden)]
    known, left = np.setdiff1d(evaluated, unseen), rows[~shut & ~np.isin(units[rows], judged)]
    if len(classes) < 2 or len(known) < FEWEST // 8:
        raise BadInput(
            "too few of the pairs have labels: an upgrade is judged by whether items with one label find each other",
            wanted=f"at least {FEWEST} labelled pairs of at least two classes, in sources and groups of copies that can be split",
            got=f"{len(seen)} of {len(classes)} classes, in {len(np.unique(units[seen]))} sources and groups",
        )
    return Parts(left[labels[left] != ""], left[labels[left] == ""], known, unseen, canaries)


def distinct(ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those of ``rows`` (K,) whose ``ids`` (K,) did not come before: equal pairs are one canary."""
    return rows[np.sort(np.unique(ids, return_index=True)[1])]


def canary_ids(phi: np.ndarray) -> np.ndarray:
    """Ids that canaries with these vectors (K, D) have in a gallery: other pairs have other canaries."""
    return np.array([f"canary:given-{digests.of_array(np.asarray(row, dtype=np.float32))[:12]}" for row in phi])


def stand_ins(phi: np.ndarray, psi: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, D) and (K, P): canaries of a gallery without pairs. Means of three rows each, of their size, so that no item's own bytes are in them."""
    rows = np.random.default_rng(seed).integers(0, len(phi), (min(CANARIES, len(phi)), 3))
    three = np.asarray(phi, dtype=np.float32)[rows]
    mean, size = three.mean(axis=1), np.linalg.norm(three, axis=2).mean(axis=1, keepdims=True)
    mean *= size / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
    return mean.astype(phi.dtype), np.rint(psi[rows].mean(axis=1)).astype(np.int8)


def write_pairs(given: Given, out: str | Path, *, classes: list[str], seed: int, about: dict[str, object]) -> dict[str, int]:
    """The step *embed* from given pairs, whole or not at all: ``fitting/``, ``pool/``, ``sample/``, ``canaries/`` as in :mod:`fct.sample.folder`.

    Args:
        classes: of the new release's head, whose numbers the labels become; −1 where it has none of that name.
        about: fingerprints and metric, for :meth:`fct.sample.folder.PairsFolder.about`.

    Returns:
        counts of rows by part.
    """
    parts, numbers = divide(given.labels, seed, given.units), {name: number for number, name in enumerate(classes)}
    with whole_folder(out) as part:
        folder = PairsFolder(part)
        counts = {}
        for name, rows in (("fitting", parts.fitting), ("pool", parts.pool)):
            if not len(rows):
                continue
            folder.save(name, old=given.old[rows], psi=given.psi[rows], side=given.psi[rows], new=given.new[rows])
            labels = np.array([numbers.get(label, -1) for label in given.labels[rows].tolist()], dtype=np.int64)
            if not numbers:  # no head: any numbers tell classes apart
                labels = np.unique(given.labels[rows], return_inverse=True)[1].astype(np.int64)
            folder.save(name, labels=labels, sources=rows.astype(str), units=given.units[rows])
            counts[name] = len(rows)
        rows = np.sort(np.concatenate([parts.known, parts.unseen]))
        populations = np.where(np.isin(rows, parts.known), "known", "unseen")
        ids = np.array([f"pair-{row}" for row in rows])
        labels = np.where(given.labels[rows] == "", np.char.add("unlabelled ", ids), given.labels[rows])  # a copy of a labelled row
        sample = Sample(ids, labels, given.sources[rows], populations, given.old[rows], given.psi[rows], given.new[rows])
        folder.save_sample(sample, given.psi[rows])
        counts["sample"] = len(rows)
        rows = distinct(canary_ids(given.old[parts.canaries]), parts.canaries)
        folder.save(
            "canaries", ids=canary_ids(given.old[rows]), old=given.old[rows], psi=given.psi[rows], side=given.psi[rows], new=given.new[rows]
        )
        counts["canaries"] = len(rows)
        doubtful = _look(given.old, given.new, given.labels)[1] if given.doubtful is None else given.doubtful
        folder.describe({"counts": counts, "copies": {"pairs": copies.told(copies.share(given.copies), doubtful)}} | about)
    return counts


def write_first(
    rows: tuple[np.ndarray, ...], canaries: tuple[np.ndarray, ...], out: str | Path, about: dict[str, object]
) -> dict[str, int]:
    """The same for the adopted release itself: there is no h to fit; rows of the gallery ask its index, its canaries find themselves.

    Args:
        rows, canaries: ids (N,), phi (N, D), psi (N, P) of some items, and of the canaries.
    """
    with whole_folder(out) as part:
        folder = PairsFolder(part)
        ids, phi, psi = rows
        empty = np.full(len(ids), "")
        folder.save_sample(Sample(ids, empty, empty, np.full(len(ids), "known"), phi, psi, phi), psi)
        folder.save("canaries", ids=canaries[0], old=canaries[1], psi=canaries[2], side=canaries[2], new=canaries[1])
        counts = {"sample": len(ids), "canaries": len(canaries[0])}
        folder.describe({"counts": counts} | about)
    return counts
