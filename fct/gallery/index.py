"""The door to FAISS: the index of a space, built anew for each space, and searches in it.

An index is identified by the content digest of its space, the build parameters and the version of faiss. The digests of its files
serve against tampering only: HNSW graphs built by several threads differ from run to run.

Rows of an l2 index are moved so that their mean is the origin, and queries with them: faiss takes distances of many queries from norms and
products, where the numbers of rows far from the origin cancel.

Legend: N rows, Q queries, D dimensions, k results. Scores are higher for nearer rows: cosine, or minus the squared distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays.digests import of_file
from fct.arrays.files import read_json
from fct.arrays.vectors import check, normalise
from fct.errors import Altered, BadInput
from fct.gallery.settings import EXACT_BELOW

METRICS = ("cosine", "l2")
TIE = 1e-5  # of the scale of the scores
SCORES_AT_ONCE = 1 << 25


def faiss_here() -> Any:
    """The library, untyped: its stubs know neither the search parameters nor arrays as arguments."""
    import faiss

    return faiss


def use_threads(threads: int) -> None:
    """Set the threads that FAISS takes for one search or build."""
    faiss_here().omp_set_num_threads(threads)


def prepared(vectors: np.ndarray, metric: str) -> np.ndarray:
    if metric not in METRICS:
        raise BadInput("an index has an unknown metric", wanted=" or ".join(METRICS), got=metric)
    return np.ascontiguousarray(normalise(vectors) if metric == "cosine" else vectors, dtype=np.float32)


class Searcher:
    """An index with the ids of its rows.

    Args:
        index: from :func:`build`. ids: (N,) distinct, in the order of its rows. metric: as it was built.
        exact_below: where fewer rows may be answers, each is compared; a graph or lists would miss some.
    """

    def __init__(self, index: Any, ids: Sequence[str] | np.ndarray, metric: str, exact_below: int = 0) -> None:
        faiss = faiss_here()

        self._owner = index  # a downcast index is a view that does not keep the memory alive
        self.index, self.metric, self.exact_below = faiss.downcast_index(index), metric, exact_below
        self._moved = None
        if isinstance(self.index, faiss.IndexPreTransform):
            self._moved = faiss.downcast_VectorTransform(self.index.chain.at(0))
            self.index = faiss.downcast_index(self.index.index)
        self.ids = np.asarray(ids, dtype=str)
        if len(self.ids) != index.ntotal:
            raise BadInput("an index and its ids differ in length", wanted=index.ntotal, got=len(self.ids))
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        if (self._sorted[1:] == self._sorted[:-1]).any():
            raise BadInput("an index has the same id twice", got=self._sorted[1:][self._sorted[1:] == self._sorted[:-1]][0])

    def search(self, queries: np.ndarray, k: int, exclude: Iterable[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids (Q, k) str and scores (Q, k) float32 of the nearest rows, best first.

        Args:
            queries: (Q, D). exclude: ids never to answer with (deleted items, canaries); unknown ones are ignored.

        Where fewer than k rows are left, the rest is ``""`` with a score of minus infinity.

        Raises:
            BadInput: wrong dimension, NaN, a zero query under cosine, or k below 1.
        """
        rows, scores = self.rows(queries, k, exclude)
        return np.where(rows >= 0, self.ids[rows], ""), scores

    def rows(
        self, queries: np.ndarray, k: int, exclude: Iterable[str] | None = None, keep: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`search`, with row numbers (Q, k) int64, -1 where there is none.

        Args:
            keep: (N,) bool, the rows that may be answers; quicker than ``exclude``, and in its place.
        """
        faiss = faiss_here()

        if k < 1:
            raise BadInput("k must be at least 1", wanted="k ≥ 1", got=k)
        wanted = prepared(check("queries", queries, dim=self.index.d, allow_zero=self.metric == "l2"), self.metric)
        wanted = wanted if self._moved is None else self._moved.apply(wanted)
        selector, left = None, len(self.ids)
        if exclude is not None:
            keep = self._kept(exclude)
        if keep is not None:
            left = int(keep.sum())
            bits = np.packbits(keep, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)
        depth, few = min(k, left), keep is not None and self.exact(left)
        share = left / max(1, len(self.ids))
        scores = np.full((len(wanted), k), -np.inf, dtype=np.float32)
        rows = np.full((len(wanted), k), -1, dtype=np.int64)
        if depth:
            scores[:, :depth], rows[:, :depth] = self._nearest(wanted, depth, selector, exact=few, share=share)
            short = np.flatnonzero((rows[:, :depth] < 0).any(axis=1))
            if len(short):  # the probed lists or the walked graph hold too few rows that are not masked
                scores[short, :depth], rows[short, :depth] = self._nearest(wanted[short], depth, selector, exact=True, share=share)
        if self.metric == "l2":
            scores = np.where(rows >= 0, -scores, -np.inf).astype(np.float32)
        return rows, scores

    def exact(self, left: int | None = None) -> bool:
        """Whether a search compares every row that may be an answer: ``left`` of them under a filter, None without one."""
        faiss = faiss_here()

        return not isinstance(self.index, (faiss.IndexHNSW, faiss.IndexIVF)) or (left is not None and left < self.exact_below)

    def row_of(self, one: str) -> int:
        """The number of an id's row, -1 where the index lacks it."""
        at = int(np.searchsorted(self._sorted, one))
        return int(self._order[at]) if at < len(self._sorted) and self._sorted[at] == one else -1

    def vector(self, row: int) -> np.ndarray:
        """(D,) float32 a row as the index holds it (norm 1 under cosine)."""
        if isinstance(self.index, faiss_here().IndexIVF) and self.index.direct_map.no():
            self.index.make_direct_map()
        found = np.asarray(self.index.reconstruct(row), dtype=np.float32)
        return found if self._moved is None else self._moved.reverse_transform(found[None])[0]

    def _kept(self, exclude: Iterable[str]) -> np.ndarray:
        keep = np.full(len(self.ids), True)
        names = np.asarray(list(exclude), dtype=str)
        place = np.minimum(np.searchsorted(self._sorted, names), len(self.ids) - 1)
        keep[self._order[place[self._sorted[place] == names]]] = False
        return keep

    def _nearest(self, queries: np.ndarray, depth: int, selector: Any, *, exact: bool, share: float) -> tuple[np.ndarray, np.ndarray]:
        """``share`` of the rows may be answers: the walk is so much broader that as many of them are met as without a filter."""
        faiss = faiss_here()

        index = self.index
        if isinstance(index, faiss.IndexHNSW) and not exact:
            breadth = min(len(self.ids), round(max(index.hnsw.efSearch, depth) / share))
            return index.search(queries, depth, params=faiss.SearchParametersHNSW(sel=selector, efSearch=breadth))
        if isinstance(index, faiss.IndexIVF):
            probes = index.nlist if exact else min(index.nlist, round(index.nprobe / share))
            return index.search(queries, depth, params=faiss.SearchParametersIVF(sel=selector, nprobe=probes))
        store = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
        return store.search(queries, depth, params=faiss.SearchParameters(sel=selector))


def open_index(
    folder: str | Path, metric: str, content: str, recorded: dict[str, Any] | None = None, *, exact_below: int = EXACT_BELOW
) -> Searcher:
    """Open a saved index for searching.

    Args:
        metric: of the release. content: content digest of the space that is to be searched.
        recorded: what :func:`save` returned, where that was kept in a safe place; then index.json must say the same.
        exact_below: as of :class:`Searcher`.

    Raises:
        BadInput: there is no index (and nothing was recorded), or it was built for another metric.
        Altered: it was built from another space, or one of its files is missing, truncated or altered.
    """
    faiss = faiss_here()

    folder = Path(folder)
    todo = "build the index anew"
    try:
        about = read_json(folder / "index.json")
    except BadInput as error:
        if recorded is None:
            raise
        raise Altered("index.json is not what was recorded", got=error, where=folder, todo=todo) from error
    if not isinstance(about, dict) or (recorded is not None and about != recorded):
        raise Altered("index.json is not what was recorded", where=folder, todo=todo)
    if about.get("content") != content:
        raise Altered("the index was built from another space", wanted=content, got=about.get("content"), where=folder, todo=todo)
    if about.get("metric") != metric:
        raise BadInput("the index was built for another metric", wanted=metric, got=about.get("metric"), where=folder, todo=todo)
    for name in ("ids.npy", "index.faiss"):
        if not (folder / name).is_file():
            raise Altered("a file of the index is missing", got=name, where=folder, todo=todo)
        if of_file(folder / name) != about.get("files", {}).get(name):
            raise Altered("a file of the index was altered", got=name, where=folder, todo=todo)
    ids = np.char.decode(np.load(folder / "ids.npy", allow_pickle=False), "utf-8")
    return Searcher(faiss.read_index(str(folder / "index.faiss")), ids, metric, exact_below)


def different(folder: str | Path, recorded: dict[str, Any]) -> dict[str, str]:
    """File → ``is missing`` or ``was altered``, for each file of a saved index that is not what :func:`save` returned. Nothing is loaded."""
    folder, found = Path(folder), {}
    for name, digest in recorded["files"].items():
        if not (folder / name).is_file():
            found[name] = "is missing"
        elif of_file(folder / name) != digest:
            found[name] = "was altered"
    try:
        same = read_json(folder / "index.json") == recorded
    except BadInput:
        same = False
    return found | ({} if same else {"index.json": "is not what was recorded"})


def recall(searcher: Searcher, vectors: np.ndarray, queries: np.ndarray, k: int = 10, keep: np.ndarray | None = None) -> np.ndarray:
    """Recall at ``k`` of an index against exact search, one number a query: (Q,) float64 in 0–1.

    The share of the k nearest rows that the index found. A row found in the place of another with the same score is no miss.

    Args:
        vectors: (N, D) rows the index was built from, in its order. queries: (Q, D). keep: (N,) bool, as of :meth:`Searcher.rows`; one at least.
    """
    check("vectors", vectors, dim=searcher.index.d, rows=len(searcher.ids))
    found, _ = searcher.rows(queries, k, keep=keep)
    rows, asked = (prepared(some, searcher.metric).astype(np.float64) for some in (vectors, queries))
    place = np.arange(len(rows))
    if keep is not None:
        rows, place = rows[keep], np.cumsum(keep) - 1
    if searcher.metric == "l2":
        middle = rows.mean(axis=0)  # far from the origin distances would be lost in the squares
        rows, asked = rows - middle, asked - middle
    squares, depth = (rows**2).sum(axis=1), min(k, len(rows))
    result = np.zeros(len(asked))
    step = max(1, SCORES_AT_ONCE // len(rows))
    for start in range(0, len(asked), step):
        block = asked[start : start + step]
        scores, scale = block @ rows.T, np.ones(len(block))
        if searcher.metric == "l2":
            own = (block**2).sum(axis=1)
            scores = 2 * scores - squares - own[:, None]
            scale = own + squares.mean()
        last = np.partition(scores, -depth, axis=1)[:, -depth]
        good = scores >= (last - TIE * scale)[:, None]
        for i, mine in enumerate(found[start : start + step]):
            result[start + i] = good[i, place[np.unique(mine[mine >= 0])]].sum() / depth
    return result
