"""Vectors that were computed elsewhere, by an embedder that is not at hand: read, checked, and made into pairs that h is fitted on.

What an upgrade has instead of the old embedder is *given pairs*: rows of which the old vector, the new vector and the label are known.
They are divided once, by seed and class, into fitting rows, evaluation sample and canaries. The files they become are those of
:func:`fct.pairs.write_pairs`, so that everything after that step is the same.

Legend: N rows, G given pairs, D old, P side, E new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fct import columns, digests, vectors
from fct.errors import BadInput
from fct.files import whole_folder, write_json

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


@dataclass(frozen=True)
class Rows:
    """A gallery that was computed elsewhere: ids (N,) str, phi (N, D) float16 or float32, psi (N, P) int8, texts (N,) str."""

    ids: np.ndarray
    phi: np.ndarray
    psi: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    uris: np.ndarray


@dataclass(frozen=True)
class Given:
    """Given pairs: old (G, D), new (G, E), psi (G, P) int8, labels (G,) str, "" where there is none."""

    old: np.ndarray
    new: np.ndarray
    psi: np.ndarray
    labels: np.ndarray

    def save(self, folder: Path) -> None:
        for name in self.__dataclass_fields__:
            vectors.save(folder / f"{name}.npy", getattr(self, name))


def load_given(folder: Path) -> Given:
    """Read what :meth:`Given.save` wrote."""
    return Given(**{name: vectors.load(folder / f"{name}.npy") for name in Given.__dataclass_fields__})


def read_rows(path: Path, *, ids: Path | None = None, side: Path | None = None) -> Rows:
    """Read a gallery of vectors.

    Args:
        path: ``.npy`` (N, D), or ``.parquet`` with the columns ``vector`` and, where it likes, ``id``, ``side`` (lists of int8),
            ``label``, ``source`` and ``image_uri``.
        ids: (N,) texts, one a line or ``.npy``; by default the number of the row. side: ``.npy`` (N, P) int8.

    Raises:
        BadInput: no such file or column, rows that do not correspond, NaN, infinity, zero-norm rows, an id twice.
    """
    names = set(columns.names(path, "vectors")) if str(path).endswith(columns.TABLES) else set()

    def column(name: str) -> np.ndarray | None:
        return columns.read(f"{path}{columns.BETWEEN}{name}", name) if name in names else None

    if names and "vector" not in names:
        raise BadInput("the table lacks a column", wanted="vector", got=", ".join(sorted(names)), where=path)
    phi = _floats("vectors", column("vector") if names else vectors.load(path, "vectors"))
    count = len(phi)
    given = texts(ids) if ids is not None else column("id")
    width = len(str(max(count - 1, 0)))
    chosen = np.array([f"{row:0{width}}" for row in range(count)]) if given is None else np.asarray(given).astype(str)
    if len(chosen) != count:
        raise BadInput("ids have the wrong number of rows", wanted=count, got=len(chosen))
    seen, counts = np.unique(chosen, return_counts=True)
    if (counts > 1).any() or "" in seen[:1]:
        raise BadInput("ids must be there and differ", got="an empty id" if "" in seen[:1] else f"{seen[counts > 1][0]} twice")
    odd = next((one for one in seen.tolist() if "\0" in one or one.startswith("canary:")), None)
    if odd is not None:
        raise BadInput("an id cannot be stored", wanted="texts without NUL that do not begin with canary:", got=ascii(odd)[:200])
    psi = _side(vectors.load(side, "side") if side is not None else column("side"), count)
    described = [column(name) for name in ("label", "source", "image_uri")]
    empty = np.full(count, "")
    return Rows(chosen, phi, psi, *(empty if one is None else one.astype(str) for one in described))


def read_given(old: Path, new: Path, labels: Path, *, side: Path | None = None) -> Given:
    """Read given pairs.

    Args:
        old: ``.npy`` (G, D); new: ``.npy`` (G, E), the same items in the same order. labels: (G,) texts, one a line or ``.npy``.
        side: ``.npy`` (G, P) int8.

    Raises:
        BadInput: rows that do not correspond, too few of them, NaN, infinity or zero-norm rows.
    """
    first = _floats("pairs, old", vectors.load(old, "pairs, old"))
    second = _floats("pairs, new", vectors.load(new, "pairs, new"))
    named = texts(labels)
    for name, rows in (("new vectors", len(second)), ("labels", len(named))):
        if rows != len(first):
            raise BadInput(f"the pairs' {name} do not correspond to their old vectors", wanted=f"{len(first)} rows", got=rows)
    if len(first) < FEWEST:
        raise BadInput("there are too few pairs to fit and judge an upgrade", wanted=f"at least {FEWEST}", got=len(first))
    return Given(first, second, _side(None if side is None else vectors.load(side, "side of the pairs"), len(first)), named)


def texts(path: Path) -> np.ndarray:
    """(N,) str from a text file with one value a line, or an ``.npy`` file of texts or whole numbers."""
    if path.suffix == ".npy":
        found = np.array(vectors.load(path))
        if found.ndim != 1 or found.dtype.kind not in "iuUS":
            raise BadInput(
                "this is no column of texts", wanted="(N,) texts or whole numbers", got=f"{found.shape} {found.dtype}", where=path
            )
        return found.astype(str)
    try:
        return np.array(path.read_text(encoding="utf-8").splitlines(), dtype=str)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("a column of texts cannot be read", got=error, where=path, todo="one value a line, UTF-8, or .npy") from error


def _floats(name: str, array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    vectors.check(name, array)
    return array if array.dtype in (np.float16, np.float32) else np.asarray(array, dtype=np.float32)


def _side(array: np.ndarray | None, count: int) -> np.ndarray:
    if array is None:
        return np.zeros((count, 0), dtype=np.int8)
    if array.ndim != 2 or len(array) != count or array.dtype.kind not in "iu" or not array.size or array.min() < -128 or array.max() > 127:
        raise BadInput(
            "the side-information has the wrong form", wanted=f"({count}, P) whole numbers, −128 to 127", got=f"{array.shape} {array.dtype}"
        )
    return np.asarray(array, dtype=np.int8)


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
    from fct import coverage

    rng = np.random.default_rng(seed)
    reference, looked = (np.asarray(rows[np.sort(rng.permutation(len(rows))[:LOOKED_AT])], dtype=np.float32) for rows in (known, asked))
    return coverage.measure(reference, looked).share


@dataclass(frozen=True)
class Parts:
    """Row numbers of given pairs, ascending: what each is for. ``unseen``: classes whose labels h never sees."""

    fitting: np.ndarray
    pool: np.ndarray
    known: np.ndarray
    unseen: np.ndarray
    canaries: np.ndarray


def divide(labels: np.ndarray, seed: int) -> Parts:
    """Divide given pairs with ``labels`` (G,) str: by class for the unseen ones, by row for the others; unlabelled rows are the pool.

    The canaries are the same whatever else is drawn, and in no other part.

    Raises:
        BadInput: too few labelled rows to judge anything by.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))
    canaries, rows = np.sort(rows[: min(CANARIES, len(rows) // 10)]), np.sort(rows[min(CANARIES, len(rows) // 10) :])
    classes = np.unique(labels[rows][labels[rows] != ""])
    hidden = rng.permutation(classes)[: int(UNSEEN_SHARE * len(classes)) if len(classes) >= 10 else 0]
    unseen = rows[np.isin(labels[rows], hidden)]
    seen = rows[np.isin(labels[rows], np.setdiff1d(classes, hidden))]
    most = EVALUATED // 4 * 3 if len(unseen) else EVALUATED
    known = np.sort(rng.permutation(seen)[: min(int(EVALUATED_SHARE * len(seen)), most)])
    unseen = np.sort(rng.permutation(unseen)[: EVALUATED // 4])
    if len(classes) < 2 or len(known) < FEWEST // 8:
        raise BadInput(
            "too few of the pairs have labels: an upgrade is judged by whether things of one label find each other",
            wanted=f"at least {FEWEST} labelled pairs of two and more classes",
            got=f"{len(seen)} of {len(classes)} classes",
        )
    return Parts(np.setdiff1d(seen, known), rows[labels[rows] == ""], known, unseen, canaries)


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
    """The step *embed* from given pairs, whole or not at all: ``fitting/``, ``pool/``, ``sample/``, ``canaries/`` as in :mod:`fct.pairs`.

    Args:
        classes: of the new release's head, whose numbers the labels become; −1 where it has none of that name.
        about: fingerprints and metric, for ``pairs.json``.

    Returns:
        counts of rows by part.
    """
    from fct.pairs import Sample

    parts, numbers = divide(given.labels, seed), {name: number for number, name in enumerate(classes)}
    with whole_folder(out) as folder:
        counts = {}
        for name, rows in (("fitting", parts.fitting), ("pool", parts.pool)):
            if not len(rows):
                continue
            for file, array in (("old", given.old), ("psi", given.psi), ("side", given.psi), ("new", given.new)):
                vectors.save(folder / name / f"{file}.npy", array[rows])
            labels = np.array([numbers.get(label, -1) for label in given.labels[rows].tolist()], dtype=np.int64)
            if not numbers:  # no head: any numbers tell classes apart
                labels = np.unique(given.labels[rows], return_inverse=True)[1].astype(np.int64)
            vectors.save(folder / name / "labels.npy", labels)
            vectors.save(folder / name / "sources.npy", rows.astype(str))
            counts[name] = len(rows)
        rows = np.sort(np.concatenate([parts.known, parts.unseen]))
        populations = np.where(np.isin(rows, parts.known), "known", "unseen")
        ids = np.array([f"pair-{row}" for row in rows])
        empty = np.full(len(rows), "")
        sample = Sample(ids, given.labels[rows], empty, populations, given.old[rows], given.psi[rows], given.new[rows])
        sample.save(folder / "sample")
        vectors.save(folder / "sample" / "psi.npy", given.psi[rows])
        _canaries(folder, canary_ids(given.old[parts.canaries]), *(array[parts.canaries] for array in (given.old, given.psi, given.new)))
        counts |= {"sample": len(rows), "canaries": len(parts.canaries)}
        write_json(folder / "pairs.json", {"counts": counts} | about)
    return counts


def write_first(
    rows: tuple[np.ndarray, ...], canaries: tuple[np.ndarray, ...], out: str | Path, about: dict[str, object]
) -> dict[str, int]:
    """The same for the adopted release itself: there is no h to fit; rows of the gallery ask its index, its canaries find themselves.

    Args:
        rows, canaries: ids (N,), phi (N, D), psi (N, P) of some items, and of the canaries.
    """
    from fct.pairs import Sample

    with whole_folder(out) as folder:
        ids, phi, psi = rows
        empty = np.full(len(ids), "")
        Sample(ids, empty, empty, np.full(len(ids), "known"), phi, psi, phi).save(folder / "sample")
        vectors.save(folder / "sample" / "psi.npy", psi)
        _canaries(folder, canaries[0], canaries[1], canaries[2], canaries[1])
        counts = {"sample": len(ids), "canaries": len(canaries[0])}
        write_json(folder / "pairs.json", {"counts": counts} | about)
    return counts


def _canaries(folder: Path, ids: np.ndarray, old: np.ndarray, psi: np.ndarray, new: np.ndarray) -> None:
    for file, array in (("ids", ids), ("old", old), ("psi", psi), ("side", psi), ("new", new)):
        vectors.save(folder / "canaries" / f"{file}.npy", array)
