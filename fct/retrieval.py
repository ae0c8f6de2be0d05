"""Judge a gallery in one call: retrieval metrics with confidence intervals, as ``fct evaluate`` prints them.

Legend: Q queries, G gallery rows, D dimensions.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fct import given as seeds
from fct import metrics
from fct.errors import BadInput
from fct.intervals import Bootstrap, Estimate


def peak_memory_bytes() -> int:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def with_interval(name: str, estimate: Estimate) -> dict[str, Any]:
    """``{name: value, name_ci: [lower, upper]}``, undefined as None."""
    numbers = [x if np.isfinite(x) else None for x in (estimate.value, estimate.lower, estimate.upper)]
    return {name: numbers[0], f"{name}_ci": numbers[1:]}


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
        raise BadInput("all labels are equal", wanted="at least two classes", got=f"{first[0]} everywhere", todo="no answer could be wrong")


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
) -> dict[str, Any]:
    """Exact search of every query in the whole gallery, means over the queries that can see a positive.

    Args:
        query: (Q, D); gallery: (G, D); any real dtype, memory maps too (read block by block).
        query_labels … gallery_sources, metric: as in :func:`fct.metrics.per_query`.
        top_k: which top-k to report.
        max_queries: search for no more than so many, drawn at random with ``seed`` (also the seed of the intervals).
        title: of a progress bar on stderr.

    Returns:
        ``top1``, …, ``mAP`` (fractions), each with ``…_ci``: the 90 % interval of a bootstrap over classes; ``n_queries`` that count,
        ``n_gallery``, ``tie_rate`` (share of queries with a wrong item at the very score of a right one), ``seconds``,
        ``peak_memory_bytes`` of the process; where queries were drawn, ``max_queries`` and ``n_queries_given``.

    Raises:
        BadInput: as :func:`fct.metrics.per_query`; ``top_k`` or ``max_queries`` below 1; labels that are all equal; a seed below 0.
    """
    started = time.perf_counter()
    seeds.seed(seed)
    if not top_k or min(top_k) < 1:
        raise BadInput("top-k cannot be used", wanted="whole numbers from 1", got=list(top_k))
    differ(query_labels, gallery_labels)
    given, labels = len(query), np.asarray(query_labels)
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
    result: dict[str, Any] = {}
    for name in values:
        result |= with_interval(name, boot.mean(name))
    result |= {"n_queries": len(found.rows), "n_gallery": len(gallery), "tie_rate": float(found.tied.mean())}
    result |= {"seconds": round(time.perf_counter() - started, 3), "peak_memory_bytes": peak_memory_bytes()}
    return result if chosen is None else result | {"max_queries": max_queries, "n_queries_given": given}
