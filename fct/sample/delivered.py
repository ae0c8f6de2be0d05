"""What another system delivered, read: a gallery of vectors, and given pairs. What is done with them: :mod:`fct.sample.adopted`.

Legend: N rows, G given pairs, D old, P side, E new dimensions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fct.arrays import columns, flaws, looks, vectors
from fct.arrays import texts as exact
from fct.errors import BadInput
from fct.sample.adopted import FEWEST, Given, Rows, given_pairs

COLUMNS = ("vector", "id", "side", "label", "source", "image_uri")


def read_rows(path: Path, *, ids: Path | None = None, side: Path | None = None, skip_bad: bool = False) -> Rows:
    """Read a gallery of vectors.

    Args:
        path: ``.npy`` (N, D), or ``.parquet`` with the columns ``vector`` and, where it likes, ``id``, ``side`` (lists of int8),
            ``label``, ``source`` and ``image_uri``.
        ids: (N,) texts, one a line or ``.npy``; by default the number of the row. side: ``.npy`` (N, P) int8.
        skip_bad: leave out rows that cannot be used, in place of refusing them.

    Raises:
        BadInput: no such file or column, or one of nearly its name; rows that do not correspond or cannot be used (:mod:`fct.arrays.flaws`); an
            id twice, absent, or without an exact text (:mod:`fct.arrays.texts`).
    """
    columns.one_file(path, "vectors")
    names = columns.names(path, "vectors") if str(path).endswith(columns.TABLES) else []

    def listed(name: str) -> list[str | None] | None:
        return columns.listed(f"{path}{columns.BETWEEN}{name}", name) if name in names else None

    if names:
        columns.near_misses(path, names, COLUMNS)
        if "vector" not in names:
            raise BadInput("the table lacks a column", wanted="vector", got=", ".join(sorted(names)), where=path)
    raw, known = columns.rows(f"{path}{columns.BETWEEN}vector" if names else path, "vectors")
    count = len(vectors.formed("vectors", raw))
    said = looks.look("vectors", raw, tuple(one for one in names if one not in COLUMNS))
    given = columns.listed(ids, "ids") if ids is not None else listed("id")
    width = len(str(max(count - 1, 0)))
    if names and given is None:
        said.append("the table has no column id: every row is called by its number")
    called = [f"{row:0{width}}" for row in range(count)] if given is None else given
    if len(called) != count:
        raise BadInput("ids have the wrong number of rows", wanted=count, got=len(called))
    absent = np.array([row for row, one in enumerate(called) if not one], dtype=np.int64)
    chosen = exact.array("ids", called)
    found = [flaws.Flaws("ids", count, {columns.NO_ID: absent} if len(absent) else {}), flaws.find("vectors", raw, known, alike=True)]
    psi, holes = (None, {}) if side is None and "side" not in names else columns.rows(side or f"{path}{columns.BETWEEN}side", "side")
    found += [] if psi is None else [flaws.Flaws("side", len(psi), holes)]
    keep = _usable(found, chosen, skip_bad)
    seen, counts = np.unique(chosen[keep], return_counts=True)
    if (counts > 1).any():
        raise BadInput("every row needs an id of its own", got=f"{seen[counts > 1][0]} twice")
    odd = next((one for one in seen.tolist() if one.startswith("canary:")), None)
    if odd is not None:
        raise BadInput("an id cannot be stored", wanted="texts that do not begin with canary:", got=ascii(odd)[:200])
    described = [
        np.full(count, "") if (one := listed(name)) is None else exact.array(name, one) for name in ("label", "source", "image_uri")
    ]
    left = [one for each in found for one in each.listed(chosen)]
    labels, sources, uris = (one[keep] for one in described)
    return Rows(chosen[keep], _floats(raw, keep), _side(psi, count)[keep], labels, sources, uris, tuple(left), tuple(said))


def _usable(found: list[flaws.Flaws], ids: np.ndarray | None, skip_bad: bool) -> np.ndarray | slice:
    """Which rows of arrays that correspond are usable: all, or with ``skip_bad`` those in (N,) bool; else the first flaws are refused."""
    keep = flaws.together(found)
    if not skip_bad or keep is None:
        for one in found:
            one.refuse(ids)
        return slice(None)
    if not keep.any():
        raise BadInput("no row can be used", got=", ".join(kind for one in found for kind in one.kinds))
    return keep


def read_given(
    old: Path, new: Path, labels: Path, *, side: Path | None = None, sources: Path | None = None, skip_bad: bool = False
) -> Given:
    """Read given pairs.

    Args:
        old: ``.npy`` (G, D); new: ``.npy`` (G, E), the same items in the same order. labels: (G,) texts, one a line or ``.npy``.
        side: ``.npy`` (G, P) int8. sources: (G,) texts, as labels; rows of one source are never split, empty = alone.
        skip_bad: as for :func:`read_rows`.

    Raises:
        BadInput: rows that do not correspond, too few of them, or rows that cannot be used.
    """
    first, second = (
        vectors.formed(f"pairs, {name}", columns.rows(path, f"pairs, {name}")[0]) for name, path in (("old", old), ("new", new))
    )
    named, _ = exact.alike("labels", columns.labels(labels, "labels of the pairs"), np.array([""]))
    origins = np.full(len(first), "")
    if sources is not None:
        origins, _ = exact.alike("sources", columns.labels(sources, "sources of the pairs"), np.array([""]))
    for name, rows in (("new vectors", len(second)), ("labels", len(named)), ("sources", len(origins))):
        if rows != len(first):
            raise BadInput(f"the pairs' {name} do not correspond to their old vectors", wanted=f"{len(first)} rows", got=rows)
    said = [one for name, array in (("pairs, old", first), ("pairs, new", second)) for one in looks.look(name, array)]
    found = [flaws.find(name, array, alike=True) for name, array in (("pairs, old", first), ("pairs, new", second))]
    keep = _usable(found, None, skip_bad)
    psi = _side(None if side is None else vectors.load(side, "side of the pairs"), len(first))
    left = tuple(one for each in found for one in each.listed())
    if len(named[keep]) < FEWEST:
        raise BadInput("there are too few pairs to fit and judge an upgrade", wanted=f"at least {FEWEST}", got=len(named[keep]))
    return given_pairs(_floats(first, keep), _floats(second, keep), psi[keep], named[keep], origins[keep], left, tuple(said))


def _floats(array: np.ndarray, keep: np.ndarray | slice) -> np.ndarray:
    array = array if isinstance(keep, slice) else array[keep]
    return array if array.dtype in (np.float16, np.float32) else np.asarray(array, dtype=np.float32)


def _side(array: np.ndarray | None, count: int) -> np.ndarray:
    if array is None:
        return np.zeros((count, 0), dtype=np.int8)
    if array.ndim != 2 or len(array) != count or array.dtype.kind not in "iu" or not array.size or array.min() < -128 or array.max() > 127:
        raise BadInput(
            "the side-information has the wrong form", wanted=f"({count}, P) whole numbers, −128 to 127", got=f"{array.shape} {array.dtype}"
        )
    return np.asarray(array, dtype=np.int8)
