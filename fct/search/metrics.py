"""Retrieval metrics by exact search: top-k, mAP, ties counted against us.

Legend: Q queries, G gallery rows, D dimensions, R queries that count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fct.arrays import texts, vectors
from fct.arrays.shapes import Bool, Float, Float64, Shaped
from fct.errors import BadInput
from fct.search import counting

METRICS = ("cosine", "l2")
MIDDLE = 1000  # rows whose mean stands for that of all
QUERIES = 256  # at once
NOTHING_TO_FIND = "no query has an item of its class that it can see"
NOTHING_TODO = "check labels, ids and sources of query and gallery"


@dataclass(frozen=True)
class PerQuery:
    """One number a query; queries without a positive in the gallery are left out (``rows`` says which are in).

    ``rows``: (R,) row numbers of the queries that count. ``rank``: (R,) rank of the first positive, from 1. ``ap``: (R,) average
    precision. ``tied``: (R,) whether a wrong item ties with a positive of this query.
    """

    rows: np.ndarray
    rank: np.ndarray
    ap: np.ndarray
    tied: np.ndarray

    def top(self, k: int) -> Float64[np.ndarray, " R"]:
        """(R,) 1.0 where a positive is among the first k, else 0.0."""
        return (self.rank <= k).astype(np.float64)

    def metric(self, name: str) -> Float64[np.ndarray, " R"]:
        """(R,) values of ``top1``, ``top5``, … or ``mAP``."""
        return self.ap if name == "mAP" else self.top(int(name.removeprefix("top")))


def scores(query: Float[torch.Tensor, "Q D"], gallery: Float[torch.Tensor, "G D"], metric: str) -> Float[torch.Tensor, "Q G"]:
    """(Q, G) similarities, larger = nearer. For cosine both sides are L2-normalised already; l2 gives −squared distance + |q|²."""
    product = query @ gallery.T
    return product if metric == "cosine" else 2 * product - (gallery * gallery).sum(dim=1)


def task(
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
) -> counting.Task:
    """Check everything that :func:`per_query` is given and turn names into codes. Raises as it does."""
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
    vectors.check("gallery", gallery, alike=True, ids=gallery_ids)
    vectors.check("query", query, dim=gallery.shape[1], alike=True, ids=query_ids)
    sides = [("labels", query_labels, gallery_labels), ("ids", query_ids, gallery_ids), ("sources", query_sources, gallery_sources)]
    codes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, of_query, of_gallery in sides:
        if (of_query is None) != (of_gallery is None):
            raise BadInput(f"{name} are given for one side only", wanted=f"query {name} and gallery {name}, or neither")
        if of_query is None or of_gallery is None:
            continue
        first, second = np.asarray(of_query), np.asarray(of_gallery)
        if first.ndim != 1 or second.ndim != 1:
            raise BadInput(f"{name} have the wrong shape", wanted="one value a row", got=f"{first.shape} and {second.shape}")
        if len(first) != len(query) or len(second) != len(gallery):
            raise BadInput(
                f"{name} have another length than their vectors",
                wanted=f"{len(query)} and {len(gallery)}",
                got=f"{len(first)} and {len(second)}",
            )
        both = np.concatenate(texts.alike(name, first, second))
        values, inverse = np.unique(both, return_inverse=True)
        inverse = inverse.astype(np.int32)
        if name == "labels":
            unknown = unlabelled(both)
            inverse[unknown] = len(values)  # a class of its own, which no query is asked for
            mine = inverse[: len(first)]
            mine[unknown[: len(first)]] = len(values) + 1
        if name == "sources" and values.dtype.kind == "U":
            mine = inverse[: len(first)]
            mine[values[mine] == ""] = -1  # no code of a gallery row
        codes[name] = inverse[: len(first)], inverse[len(first) :]
    hides = [codes[name] for name in ("ids", "sources") if name in codes and np.isin(*codes[name]).any()]
    middle = np.asarray(gallery[:MIDDLE], dtype=np.float64).mean(axis=0) if metric == "l2" else None
    return counting.Task(query, *codes["labels"], hides, metric, middle)


def unlabelled(labels: Shaped[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """(N,) bool: labels (N,) that say "unknown": negative numbers and empty strings."""
    if labels.dtype.kind in "US":
        return np.asarray(labels.astype(str) == "")
    return np.asarray(labels < 0) if labels.dtype.kind in "if" else np.zeros(len(labels), dtype=bool)


def per_query(
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
    block: int = QUERIES,
    title: str | None = None,
) -> PerQuery:
    """Exact search of every query in the whole gallery.

    A gallery row is hidden from a query when their ids are equal (self-match) or, where both have one, their sources are
    (cross-source search). Ranks are pessimistic: a wrong item with the same score as a right one ranks before it. Ranks come from
    counting (how many scores reach each positive's), not from sorting rows. Scores are float64 whatever the input; those that differ
    by no more than rounding can make them (D + 4 units in the last place) are ties.

    AP of a query = mean over its positives, best first, of i / (i + wrong items at or above the i-th positive's score).

    Args:
        query: (Q, D); gallery: (G, D); any real dtype. A memory map is read block by block and never held whole.
        query_labels, gallery_labels: (Q,), (G,) whole numbers or texts; 5 and "5" are one (:mod:`fct.arrays.texts`). Negative or "" = unknown:
            such a query does not count, such a gallery row is wrong for every query.
        query_ids, gallery_ids, query_sources, gallery_sources: optional (Q,), (G,); an empty source ("") hides nothing.
        block: the most queries at once. title: of a progress bar on stderr.

    Raises:
        BadInput: bad vectors, lengths that differ, one of a pair missing, or no query has a positive it can see.

    Example: one query of class a; gallery scores a: .9, b: .8, a: .7 → rank 1, AP = (1/1 + 2/3) / 2 = 0.833.
    """
    asked = task(
        query,
        gallery,
        query_labels,
        gallery_labels,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_sources=query_sources,
        gallery_sources=gallery_sources,
        metric=metric,
    )
    rows, rank, ap, tied = counting.walk(asked, [gallery], np.zeros((1, len(gallery)), np.int32), 1, block=block, title=title)
    if len(rows) == 0:
        raise BadInput(NOTHING_TO_FIND, todo=NOTHING_TODO)
    return PerQuery(rows, rank[0, 0], ap[0, 0], tied[0, 0])
