"""Orders of backfill, and what each is worth: the curve of a mixed gallery while it goes from transformed to native.

Curve and AUC as in FastFill (Jaeckle et al., ICLR 2023, section 4): M(β) with the first share β of the order native, AUC = plain
mean over equally spaced β, both ends included. Legend: G gallery rows, Q queries, R queries that count, S steps, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fct.arrays import vectors
from fct.arrays.shapes import Float64, Int, Int32, Int64
from fct.errors import BadInput
from fct.search import counting, metrics
from fct.search.intervals import Bootstrap, difference

NAMES = ("top1", "mAP")
STEPS = 11
MOST_STEPS = 1001
BLOCK = 65536


def by_uncertainty(sigma: np.ndarray) -> Int64[np.ndarray, " G"]:
    """(G,) int64 row numbers, the most uncertain first; rows of equal ``sigma`` (G,) in their order, rows of NaN last.

    Raises:
        BadInput: not one number a row.
    """
    sigma = np.asarray(sigma)
    if sigma.ndim != 1 or sigma.dtype.kind not in "fiu":
        raise BadInput("sigma has the wrong shape or dtype", wanted="one number a row", got=f"{sigma.dtype} {sigma.shape}")
    return np.argsort(-sigma.astype(np.float64), kind="stable").astype(np.int64)


def random_orders(rows: int, count: int, seed: int) -> list[np.ndarray]:
    """``count`` permutations of ``rows`` row numbers, (G,) int64 each; the same for the same seed, whatever ``count``."""
    return [np.random.default_rng([seed, number]).permutation(rows) for number in range(count)]


def oracle_order(transformed: np.ndarray, native: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """(G,) row numbers by true distance of ``transformed`` (G, D) from ``native`` (G, D), furthest first.

    It needs the very vectors that backfill is to compute: an upper bound in tables, no order that could be shipped.

    Raises:
        BadInput: vectors that cannot be used, or of different shapes; an unknown metric.
    """
    check_pair(transformed, native, metric)
    distance = np.empty(len(native))
    for start in range(0, len(native), BLOCK):
        first, second = (np.asarray(array[start : start + BLOCK], dtype=np.float64) for array in (transformed, native))
        if metric == "cosine":
            first, second = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (first, second))
        distance[start : start + len(first)] = ((first - second) ** 2).sum(axis=1)
    return by_uncertainty(distance)


def check_pair(transformed: np.ndarray, native: np.ndarray, metric: str, ids: np.ndarray | None = None) -> None:
    """Refuse galleries that are not row by row of the same items ``ids``, or cannot be used (:class:`BadInput`)."""
    if metric not in metrics.METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(metrics.METRICS), got=metric)
    vectors.check("native gallery", native, alike=True, ids=ids)
    vectors.check("transformed gallery", transformed, rows=len(native), dim=native.shape[1], alike=True, ids=ids)


@dataclass(frozen=True)
class Curve:
    """Retrieval from the mixed gallery at every share of native rows.

    ``beta``: (S,) shares, from 0 to 1. ``rows``: (R,) query rows that count. ``values``: ``top1`` and ``mAP``, each (S, R) float64.
    """

    beta: np.ndarray
    rows: np.ndarray
    values: dict[str, np.ndarray]

    def means(self, name: str) -> Float64[np.ndarray, " S"]:
        """(S,) M(β)."""
        return np.asarray(self.values[name].mean(axis=1))

    def auc_per_query(self, name: str) -> Float64[np.ndarray, " R"]:
        """(R,) mean over β of each query, for paired intervals; its mean is :meth:`auc`."""
        return np.asarray(self.values[name].mean(axis=0))

    def auc(self, name: str) -> float:
        """Mean over β, both ends included."""
        return float(self.means(name).mean())

    def dip(self, name: str) -> float:
        """min over β of M(β) − min(M(0), M(1)): 0 where the curve stays above its lower end, negative where it dips below."""
        found = self.means(name)
        return float(found.min() - min(found[0], found[-1]))


def moves(order: Int[np.ndarray, " G"], beta: Float64[np.ndarray, " S"]) -> Int32[np.ndarray, " G"]:
    """(G,) int32: the first step at which each row is native, when the first round(β·G) rows of ``order`` are at each β (S,)."""
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    return np.searchsorted(np.rint(beta * len(order)).astype(np.int64), position, side="right").astype(np.int32)


def curves(
    query: np.ndarray,
    transformed: np.ndarray,
    native: np.ndarray,
    orders: Sequence[np.ndarray],
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    steps: int = STEPS,
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    query_sources: np.ndarray | None = None,
    gallery_sources: np.ndarray | None = None,
    metric: str = "cosine",
    title: str | None = None,
) -> list[Curve]:
    """:func:`curve` of several orders at once: the galleries are searched once for all of them and all of their steps.

    Args:
        orders: permutations of the gallery's rows, (G,) int each.
    """
    if not 2 <= steps <= MOST_STEPS:
        raise BadInput("a curve cannot have so many steps", wanted=f"2 (both ends) to {MOST_STEPS}", got=steps)
    check_pair(transformed, native, metric, gallery_ids)
    for order in orders:
        if np.shape(order) != (len(native),) or not np.array_equal(np.sort(order), np.arange(len(native))):
            raise BadInput("an order must name every gallery row once", wanted=f"a permutation of {len(native)} rows", got=np.shape(order))
    task = metrics.task(
        query,
        native,
        query_labels,
        gallery_labels,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_sources=query_sources,
        gallery_sources=gallery_sources,
        metric=metric,
    )
    beta = np.linspace(0, 1, steps)
    when = np.stack([moves(np.asarray(order), beta) for order in orders])
    rows, rank, ap, _ = counting.walk(task, [transformed, native], when, steps, block=metrics.QUERIES, title=title)
    if len(rows) == 0:
        raise BadInput(metrics.NOTHING_TO_FIND, todo=metrics.NOTHING_TODO)
    return [Curve(beta, rows, {"top1": (rank[o] == 1).astype(np.float64), "mAP": ap[o]}) for o in range(len(orders))]


def curve(
    query: np.ndarray,
    transformed: np.ndarray,
    native: np.ndarray,
    order: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    steps: int = STEPS,
    query_ids: np.ndarray | None = None,
    gallery_ids: np.ndarray | None = None,
    query_sources: np.ndarray | None = None,
    gallery_sources: np.ndarray | None = None,
    metric: str = "cosine",
    title: str | None = None,
) -> Curve:
    """M(β) of a gallery whose first round(β·G) rows of ``order`` are native and the others transformed. Exact.

    Args:
        query: (Q, D) native queries; transformed, native: (G, D), row by row of the same items; any real dtype, memory maps too.
        order: (G,) int, a permutation of the gallery's rows, first = recomputed first.
        query_labels … gallery_sources, metric: as in :func:`fct.search.metrics.per_query`.
        steps: how many β, equally spaced from 0 to 1.
        title: of a progress bar on stderr.

    Raises:
        BadInput: as :func:`fct.search.metrics.per_query`; galleries of different shapes; no permutation; fewer than 2 steps, or more than 1,001.
    """
    return curves(
        query,
        transformed,
        native,
        [order],
        query_labels,
        gallery_labels,
        steps=steps,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        query_sources=query_sources,
        gallery_sources=gallery_sources,
        metric=metric,
        title=title,
    )[0]


def against_random(shipped: Curve, random: Sequence[Curve], clusters: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """What ``fct curve`` prints: the curve, the mean of the random ones, and what the order adds, with its interval.

    Args:
        clusters: (R,) the class of each query that counts; the paired bootstrap draws whole classes.

    Returns:
        ``beta``, ``top1``, ``mAP`` (lists of S), ``auc_…``, ``dip_…``; ``random``: the same of the mean random curve; ``auc_…_gain``:
        AUC − mean random AUC, with ``auc_…_gain_ci``, its 90 % interval (None with fewer than 5 classes).
    """
    values = {f"{name}_{kind}": of for name in NAMES for kind, of in _aucs(shipped, random, name)}
    boot = Bootstrap(values, clusters, seed=seed)
    result: dict[str, Any] = {"beta": shipped.beta.tolist(), "random": {"orders": len(random)}}
    for name in NAMES:
        mean = np.mean([found.means(name) for found in random], axis=0)
        result |= {name: shipped.means(name).tolist(), f"auc_{name}": shipped.auc(name), f"dip_{name}": shipped.dip(name)}
        result["random"] |= {name: mean.tolist(), f"auc_{name}": float(mean.mean())}
        gain = boot.estimate(difference(f"{name}_shipped", f"{name}_random"))
        result |= {f"auc_{name}_gain": gain.value, f"auc_{name}_gain_ci": gain.bounds}
    return result


def _aucs(shipped: Curve, random: Sequence[Curve], name: str) -> list[tuple[str, np.ndarray]]:
    return [("shipped", shipped.auc_per_query(name)), ("random", np.mean([found.auc_per_query(name) for found in random], axis=0))]
