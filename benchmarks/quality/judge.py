"""Judging galleries on a sample: exact search, own source hidden, known and unseen classes in one gallery, intervals by class.

Legend: N rows of a sample, Q queries that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.data import Part
from fct.arrays import vectors
from fct.search import metrics
from fct.search.intervals import Bootstrap, Estimate, difference, rho

NAMES = ("top1", "mAP")
FEWEST_CLUSTERS = 10  # below so many classes queries are resampled alone

Values = dict[str, np.ndarray]  # metric → (Q,); the same queries whatever is searched in


def search(part: Part, query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> Values:
    """Every row of ``query`` (N, D) in all of ``gallery`` (N, D): ``top1`` and ``mAP``, (Q,) float64 each."""
    found = metrics.per_query(
        query,
        gallery,
        part.labels,
        part.labels,
        query_ids=part.ids,
        gallery_ids=part.ids,
        query_sources=part.sources,
        gallery_sources=part.sources,
        metric=metric,
    )
    return {name: found.metric(name) for name in NAMES}


def counting_rows(part: Part) -> np.ndarray:
    """(Q,) rows of a sample whose query has something to find: an item of its class from another source."""
    first = np.arange(len(part.ids))[:, None]
    same = part.labels[:, None] == part.labels[None]
    hidden = ((part.sources[:, None] == part.sources[None]) & (part.sources[:, None] != "")) | (first == first.T)
    return np.flatnonzero((same & ~hidden).any(axis=1))


def ceiling(part: Part, old: np.ndarray) -> np.ndarray:
    """(N, D): each query as the mean of its answers' own old vectors, L2-normalised: what the old space can hold at best."""
    unit = vectors.normalise(old)
    out = unit.copy()
    for row in counting_rows(part):
        own = (part.sources == part.sources[row]) & (part.sources[row] != "")
        answers = (part.labels == part.labels[row]) & ~own
        answers[row] = False
        out[row] = unit[answers].mean(axis=0)
    return vectors.normalise(out)


def table(part: Part, found: dict[str, Values], pairs: Sequence[tuple[str, str]] = (), seed: int = 0) -> dict[str, Any]:
    """Population → ``queries``, ``rows`` and ``differences`` with intervals: [value, one-sided 95 % lower bound, upper bound].

    Args:
        found: row → values. ``old/old`` and ``new/new`` among them give every other row its recovered fraction ρ.
        pairs: rows whose difference is wanted, paired by query.
    """
    rows = counting_rows(part)
    out: dict[str, Any] = {}
    for population in sorted(set(part.populations[rows].tolist())):
        chosen = part.populations[rows] == population
        clusters = part.labels[rows][chosen]
        by_class = len(set(clusters.tolist())) >= FEWEST_CLUSTERS
        values = {f"{name} {metric}": array[chosen] for name, one in found.items() for metric, array in one.items()}
        boot = Bootstrap(values, clusters if by_class else part.ids[rows][chosen], seed=seed)
        measured: dict[str, Any] = {}
        for name, one in found.items():
            measured[name] = {metric: as_list(boot.mean(f"{name} {metric}")) for metric in one}
            if {"old/old", "new/new"} <= found.keys() and name not in ("old/old", "new/new"):
                for metric in one:
                    measured[name][f"ρ {metric}"] = as_list(
                        boot.estimate(rho(f"old/old {metric}", f"{name} {metric}", f"new/new {metric}"))
                    )
        out[population] = {
            "queries": int(chosen.sum()),
            "clusters": "class" if by_class else "query",
            "rows": measured,
            "differences": {
                f"{a} − {b}": {metric: as_list(boot.estimate(difference(f"{a} {metric}", f"{b} {metric}"))) for metric in found[a]}
                for a, b in pairs
            },
        }
    return out


def as_list(estimate: Estimate) -> list[float | None]:
    """[value, lower, upper], five digits, undefined as null."""
    return [round(float(x), 5) if np.isfinite(x) else None for x in (estimate.value, estimate.lower, estimate.upper)]


def mean_values(many: Sequence[Values]) -> Values:
    """The mean over seeds of each query's values."""
    return {name: np.mean([one[name] for one in many], axis=0) for name in many[0]}
