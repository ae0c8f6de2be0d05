"""Retrieval metrics by exact search: top-k, mAP, ties counted against us.

Legend: Q queries, G gallery rows, D dimensions, P positives of a query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fct import vectors
from fct.errors import BadInput

METRICS = ("cosine", "l2")


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

    def top(self, k: int) -> np.ndarray:
        """(R,) 1.0 where a positive is among the first k, else 0.0."""
        return (self.rank <= k).astype(np.float64)

    def metric(self, name: str) -> np.ndarray:
        """(R,) values of ``top1``, ``top5``, … or ``mAP``."""
        return self.ap if name == "mAP" else self.top(int(name.removeprefix("top")))


def scores(query: torch.Tensor, gallery: torch.Tensor, metric: str) -> torch.Tensor:
    """(Q, G) similarities, larger = nearer. For cosine both sides are L2-normalised already; l2 gives −squared distance + |q|²."""
    product = query @ gallery.T
    return product if metric == "cosine" else 2 * product - (gallery * gallery).sum(dim=1)


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
    block: int = 256,
) -> PerQuery:
    """Exact search of every query in the whole gallery.

    A gallery row is hidden from a query when their ids are equal (self-match) or, where both have one, their sources are
    (cross-source search). Ranks are pessimistic: a wrong item with the same score as a right one ranks before it. Ranks come from
    counting (for each gallery score, how many of the query's positives it reaches), not from sorting rows.

    AP of a query = mean over its positives, best first, of i / (i + wrong items at or above the i-th positive's score).

    Args:
        query: (Q, D); gallery: (G, D); any float dtype.
        query_labels, gallery_labels: (Q,), (G,) of one kind.
        query_ids, gallery_ids, query_sources, gallery_sources: optional (Q,), (G,); an empty source ("") hides nothing.

    Raises:
        BadInput: bad vectors, lengths that differ, one of a pair missing, or no query has a positive it can see.

    Example: one query of class a; gallery scores a: .9, b: .8, a: .7 → rank 1, AP = (1/1 + 2/3) / 2 = 0.833.
    """
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
    vectors.check("gallery", gallery)
    vectors.check("query", query, dim=gallery.shape[1])
    sides = [("labels", query_labels, gallery_labels), ("ids", query_ids, gallery_ids), ("sources", query_sources, gallery_sources)]
    codes: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, of_query, of_gallery in sides:
        if (of_query is None) != (of_gallery is None):
            raise BadInput(f"{name} are given for one side only", wanted=f"query {name} and gallery {name}, or neither")
        if of_query is None or of_gallery is None:
            continue
        if len(of_query) != len(query) or len(of_gallery) != len(gallery):
            raise BadInput(
                f"{name} have another length than their vectors",
                wanted=f"{len(query)} and {len(gallery)}",
                got=f"{len(of_query)} and {len(of_gallery)}",
            )
        both = np.concatenate([np.asarray(of_query), np.asarray(of_gallery)])
        values, inverse = np.unique(both, return_inverse=True)
        numbers = torch.from_numpy(inverse.astype(np.int64))
        first, second = numbers[: len(query)], numbers[len(query) :]
        if name == "sources" and "" in values.astype(str):
            empty = int(np.flatnonzero(values.astype(str) == "")[0])
            first = torch.where(first == empty, -1, first)
        codes[name] = first, second

    prepare = vectors.normalise if metric == "cosine" else (lambda a: np.asarray(a, dtype=np.float32))
    q, g = torch.from_numpy(prepare(query)), torch.from_numpy(prepare(gallery))
    rows, rank, ap, tied = [], [], [], []
    for start in range(0, len(q), block):
        part = slice(start, min(start + block, len(q)))
        found = scores(q[part], g, metric)
        hidden = torch.zeros(found.shape, dtype=torch.bool)
        for name in ("ids", "sources"):
            if name in codes:
                hidden |= codes[name][0][part, None] == codes[name][1][None]
        found.masked_fill_(hidden, float("-inf"))
        positive = (codes["labels"][0][part, None] == codes["labels"][1][None]) & ~hidden
        count = positive.sum(dim=1)
        keep = torch.nonzero(count).flatten()
        if len(keep) == 0:
            continue
        found, positive, count = found[keep], positive[keep], count[keep]
        most = int(count.max())
        ascending = torch.where(positive, found, float("-inf")).topk(most, dim=1).values.flip(1)  # padding (−inf) first
        reach = torch.searchsorted(ascending, found, right=True)  # how many entries ≤ this score: the positives it reaches
        wrong = torch.zeros(len(keep), most + 1, dtype=torch.int64)
        wrong.scatter_add_(1, reach, (~positive & (found > float("-inf"))).long())
        above = wrong.flip(1).cumsum(dim=1)[:, :most]  # column j: wrong items at or above the (j+1)-th best positive
        strictly = torch.searchsorted(ascending, found, right=False)
        wrong_strict = torch.zeros(len(keep), most + 1, dtype=torch.int64)
        wrong_strict.scatter_add_(1, strictly, (~positive & (found > float("-inf"))).long())
        above_strict = wrong_strict.flip(1).cumsum(dim=1)[:, :most]
        i = torch.arange(1, most + 1, dtype=torch.float64)
        real = i[None] <= count[:, None]
        precision = i / (i + above)
        rows.append(keep + start)
        rank.append(1 + above[:, 0])
        ap.append((precision * real).sum(dim=1) / count)
        tied.append(((above != above_strict) & real).any(dim=1))
    if not rows:
        raise BadInput("no query has an item of its class that it can see", todo="check labels, ids and sources of query and gallery")
    return PerQuery(*(torch.cat(parts).numpy() for parts in (rows, rank, ap, tied)))
