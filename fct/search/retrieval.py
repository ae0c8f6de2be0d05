"""Judge a gallery in one call: retrieval metrics with confidence intervals, as ``fct evaluate`` prints them.

Legend: Q queries, G gallery rows, D dimensions.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fct.arrays import flaws, looks, texts, vectors
from fct.arrays import given as seeds
from fct.errors import BadInput
from fct.search import metrics
from fct.search.intervals import Bootstrap, Estimate, said


@dataclass(frozen=True)
class Retrieval:
    """What an evaluation found. ``str`` of it is a table, ``found["top1"]`` one number, :meth:`to_dict` what ``fct evaluate --json`` gives.

    Attributes:
        estimates: ``top1``, …, ``mAP`` → mean over the queries that count, with the 90 % interval of a bootstrap over classes.
        n_queries: that can see an item of their class; n_gallery: rows. tie_rate: share of queries with a wrong item at the very score of a
            right one. classes_of_one: classes with one gallery row. in_gallery: queries that may find themselves (:func:`in_gallery`).
        warnings: sentences. seconds, peak_memory_bytes: of this process.
        max_queries, n_queries_given: where queries were drawn, else None.

    Examples:
        >>> import numpy as np, fct
        >>> rows, labels = np.eye(6).repeat(2, 0), np.arange(6).repeat(2)
        >>> ids = np.arange(12)  # equal ids are hidden from each other: no row finds itself
        >>> found = fct.evaluate(rows, rows, labels, labels, query_ids=ids, gallery_ids=ids)
        >>> isinstance(found, fct.Retrieval), found["top1"], found["top1_ci"]
        (True, 1.0, [1.0, 1.0])
        >>> print(found)
        top1      1.0000   90 % interval 1.0000 … 1.0000
        top5      1.0000   90 % interval 1.0000 … 1.0000
        mAP       1.0000   90 % interval 1.0000 … 1.0000
        12 queries with a positive, 12 gallery rows, 0.00% of queries with a tie
        ...
    """

    estimates: Mapping[str, Estimate]
    n_queries: int
    n_gallery: int
    tie_rate: float
    classes_of_one: int
    in_gallery: int
    warnings: tuple[str, ...]
    seconds: float
    peak_memory_bytes: int
    max_queries: int | None = None
    n_queries_given: int | None = None

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __contains__(self, name: str) -> bool:
        return name in self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: each metric as ``name`` and ``name_ci`` (None with fewer than 5 classes), then the attributes."""
        found: dict[str, Any] = {}
        for name, estimate in self.estimates.items():
            found |= with_interval(name, estimate)
        found |= {"n_queries": self.n_queries, "n_gallery": self.n_gallery, "tie_rate": self.tie_rate}
        found |= {"classes_of_one": self.classes_of_one, "in_gallery": self.in_gallery, "warnings": list(self.warnings)}
        found |= {"seconds": self.seconds, "peak_memory_bytes": self.peak_memory_bytes}
        drawn = {"max_queries": self.max_queries, "n_queries_given": self.n_queries_given}
        return found if self.max_queries is None else found | drawn

    def __str__(self) -> str:
        lines = [f"{name:<8}{estimate.value:8.4f}   {said(estimate.bounds, '.4f')}" for name, estimate in self.estimates.items()]
        rows = f"{self.n_queries} queries with a positive, {self.n_gallery} gallery rows, {self.tie_rate:.2%} of queries with a tie"
        return "\n".join([*lines, rows, f"{self.seconds:.1f} s, {self.peak_memory_bytes / 1e6:.0f} MB at the most"])


def peak_memory_bytes() -> int:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def with_interval(name: str, estimate: Estimate) -> dict[str, Any]:
    """``{name: value, name_ci: [lower, upper]}``, None where there is no bound."""
    return {name: estimate.value, f"{name}_ci": estimate.bounds}


def sample(count: int, max_queries: int | None, seed: int) -> np.ndarray | None:
    """(max_queries,) sorted query rows drawn without replacement, or None where all ``count`` may stay.

    Raises:
        BadInput: ``max_queries`` below 1.
    """
    if max_queries is not None and max_queries < 1:
        raise BadInput("max_queries must be at least 1", got=max_queries)
    if max_queries is None or count <= max_queries:
        return None
    return np.sort(np.random.default_rng(seed).choice(count, max_queries, replace=False))


def differ(query_labels: np.ndarray, gallery_labels: np.ndarray) -> None:
    """Refuse labels (Q,), (G,) that are all the same one: every answer would be right (:class:`BadInput`)."""
    first = np.asarray(gallery_labels).ravel()[:1]
    if len(first) and all(len(column) and bool((column == first[0]).all()) for column in map(np.asarray, (query_labels, gallery_labels))):
        raise BadInput(
            "all labels are equal",
            wanted="at least two classes",
            got=f"{first[0]} everywhere",
            todo="with one class no answer can be wrong",
        )


def odd(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    query_sources: np.ndarray | None = None,
    gallery_sources: np.ndarray | None = None,
) -> tuple[int, list[str]]:
    """How many queries may find themselves (:func:`in_gallery`), and all that is odd, in sentences.

    Raises:
        BadInput: no matrices of numbers; codes, as :func:`fct.arrays.looks.look` says.
    """
    vectors.formed("gallery", gallery)
    vectors.formed("query", query)
    hidden = _shared(query_ids, gallery_ids, len(query)) | _shared(query_sources, gallery_sources, len(query))
    count, said = in_gallery(query, gallery, query_labels, gallery_labels, hidden)
    return count, [*looks.look("query", query), *looks.look("gallery", gallery), *said]


def in_gallery(
    query: np.ndarray, gallery: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, hidden: np.ndarray
) -> tuple[int, list[str]]:
    """How many queries (Q, D) may find themselves in the gallery (G, D), and a sentence about them.

    Those whose very vector is there; or all, where both sides have the same labels (Q,), (G,) row by row, as they have when the same items
    were embedded by two models. Vectors of two dtypes are compared in the narrower one. ``hidden``: (Q,) bool, queries that share an id or a
    source with a gallery row: they do not find themselves.
    """
    todo = "give --query-ids and --gallery-ids in which an item has one id: equal ids are hidden from each other"
    floats = query.dtype.kind == gallery.dtype.kind == "f"
    narrow = min((query.dtype, gallery.dtype), key=lambda dtype: dtype.itemsize) if floats else np.dtype(np.float32)
    step = max(1, flaws.NUMBERS // max(1, gallery.shape[1]))

    def rows(array: np.ndarray, start: int) -> list[int]:
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.ascontiguousarray(array[start : start + step].astype(narrow) + narrow.type(0))  # −0 is 0
        return [hash(row) for row in block.view(f"V{block.shape[1] * narrow.itemsize}").ravel().tolist()]

    if query.shape[1] != gallery.shape[1]:
        return 0, []  # it is refused, with a sentence of its own
    asked = [one for start in range(0, len(query), step) for one in rows(query, start)]
    wanted, there = set(asked), set()
    for start in range(0, len(gallery), step):
        there |= wanted.intersection(rows(gallery, start))
    count = sum(one in there for one, away in zip(asked, hidden.tolist(), strict=True) if not away)
    if count:
        return count, [f"{count:,} of {len(query):,} queries are in the gallery, the very same vector, and may find themselves: {todo}"]
    named = texts.alike("labels", np.asarray(query_labels), np.asarray(gallery_labels))
    if not hidden.any() and np.array_equal(*named):
        count = len(query)
        return count, [
            f"all {count:,} queries have the labels of the gallery, row by row: if they are the same items they may find themselves; {todo}"
        ]
    return 0, []


def _shared(first: np.ndarray | None, second: np.ndarray | None, count: int) -> np.ndarray:
    """(Q,) bool: whether a query's value, where it has one, is on the gallery's side, too."""
    if first is None or second is None or len(first) != count:
        return np.zeros(count, dtype=bool)
    one, other = texts.alike("ids", np.asarray(first), np.asarray(second))
    return np.asarray(np.isin(one, other) & ((one != "") if one.dtype.kind == "U" else True))


def evaluate(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    query_sources: np.ndarray | None = None,
    gallery_sources: np.ndarray | None = None,
    metric: str = "cosine",
    top_k: Sequence[int] = (1, 5),
    max_queries: int | None = None,
    seed: int = 0,
    title: str | None = None,
) -> Retrieval:
    """Exact search of every query in the whole gallery, means over the queries that can see a positive.

    Args:
        query: (Q, D), any real dtype, a memory map too (read block by block).
        gallery: (G, D), likewise.
        query_labels … gallery_sources, metric: as in :func:`fct.search.metrics.per_query`.
        top_k: which top-k to report.
        max_queries: search for no more than so many, drawn at random with ``seed`` (also the seed of the intervals).
        title: of a progress bar on stderr.

    Returns:
        ``top1``, …, ``mAP`` (fractions) with intervals, and what they rest on.

    Raises:
        BadInput: as :func:`fct.search.metrics.per_query`; ``top_k`` or ``max_queries`` below 1; labels that are all equal; a seed below 0.

    Examples:
        Three queries search four gallery rows. The third looks like a row of another class, and finds its own second.

        >>> import numpy as np, fct
        >>> gallery = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]])
        >>> query = np.array([[1, 0.01], [0.01, 1], [0.3, 0.7]])
        >>> found = fct.evaluate(query, gallery, np.array(["cat", "dog", "cat"]), np.array(["cat", "cat", "dog", "owl"]))
        >>> round(found["top1"], 3), found["top5"], found["n_queries"], found["n_gallery"]
        (0.667, 1.0, 3, 4)
        >>> round(found["mAP"], 3)  # the third query's rows are at rank 2 and 3: (1/2 + 2/3) / 2
        0.861
    """
    started = time.perf_counter()
    seeds.seed(seed)
    if not top_k or min(top_k) < 1:
        raise BadInput("top-k cannot be used", wanted="whole numbers from 1", got=list(top_k))
    differ(query_labels, gallery_labels)
    given, labels = len(query), np.asarray(query_labels)
    hides = {"query_ids": query_ids, "gallery_ids": gallery_ids, "query_sources": query_sources, "gallery_sources": gallery_sources}
    itself, warnings = odd(query, gallery, query_labels, gallery_labels, **hides)
    classes, sizes = np.unique(np.asarray(gallery_labels), return_counts=True)
    alone = int((sizes[~metrics.unlabelled(classes)] == 1).sum())
    chosen = sample(given, max_queries, seed)
    if chosen is not None:
        for name, column in (("labels", labels), ("ids", query_ids), ("sources", query_sources)):
            if column is not None and len(column) != given:
                raise BadInput(f"query {name} have another length than their vectors", wanted=given, got=len(column))
        query, labels = query[chosen], labels[chosen]
        query_ids, query_sources = (None if column is None else np.asarray(column)[chosen] for column in (query_ids, query_sources))
    found = metrics.per_query(
        query,
        gallery,
        labels,
        gallery_labels,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_sources=query_sources,
        gallery_sources=gallery_sources,
        metric=metric,
        title=title,
    )
    values = {f"top{k}": found.top(k) for k in top_k} | {"mAP": found.ap}
    boot = Bootstrap(values, labels[found.rows], seed=seed)
    return Retrieval(
        {name: boot.mean(name) for name in values},
        n_queries=len(found.rows),
        n_gallery=len(gallery),
        tie_rate=float(found.tied.mean()),
        classes_of_one=alone,
        in_gallery=itself,
        warnings=tuple(warnings),
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak_memory_bytes(),
        max_queries=None if chosen is None else max_queries,
        n_queries_given=None if chosen is None else given,
    )
