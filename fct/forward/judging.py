"""What a candidate is judged by: retrieval among held-out rows, as a user would measure it.

Legend: H held-out rows, E new dimensions, Q queries that count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fct.search import metrics
from fct.search.intervals import FEWEST, Bootstrap

MOST_ROWS = 2000


@dataclass(frozen=True)
class Judge:
    """Held-out rows: native new vectors (H, E), labels (H,) int64 (−1 = none) and source numbers (H,)."""

    new: np.ndarray
    labels: np.ndarray
    sources: np.ndarray

    @property
    def by_label(self) -> bool:
        """Whether labels can judge: some row has a partner of its label and another source, and some row is of another label."""
        known = self.labels >= 0
        if len(np.unique(self.labels[known])) < 2:
            return False
        both = np.unique(np.stack([self.labels[known], self.sources[known]]), axis=1)[0]
        return bool((np.unique(both, return_counts=True)[1] > 1).any())

    def values(self, carried: np.ndarray, by_label: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Per-query values of new→h(old) on these rows, and each query's cluster for the bootstrap.

        With labels: ``top1`` and ``mAP``, rows of the query's own source hidden, all held-out rows in one gallery. Without:
        ``cosine``, of carried and native row around the mean of the native ones, and each native vector's search for its own carried
        row, ``top1`` and ``MRR``. Finding *itself* says little about finding others of its kind: of four image sets that order of methods
        was wrong on one by .09 mAP, the cosine's on none (docs/decisions/0006-picture.md).
        """
        new = self.new
        if by_label:
            found = self.search(new, carried)
            clusters = self.labels[found.rows]
            return {"top1": found.top(1), "mAP": found.ap}, clusters if len(np.unique(clusters)) >= FEWEST else self.sources[found.rows]
        rows = np.arange(len(new))
        found = metrics.per_query(new, carried, rows, rows)
        centre = new.astype(np.float64).mean(axis=0)
        a, b = new - centre, carried - centre
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
        return {"top1": found.top(1), "MRR": found.ap, "cosine": cosine}, self.sources

    def search(self, query: np.ndarray, gallery: np.ndarray, metric: str = "cosine") -> metrics.PerQuery:
        """Every labelled row's query (H, J) in all rows' gallery (H, J), itself and its source hidden; ``rows`` are places among the H."""
        rows = np.arange(len(self.labels))
        queries = np.flatnonzero(self.labels >= 0)
        alone = self.labels.max() + 1 + rows  # a row without a label is nobody's partner
        gallery_labels = np.where(self.labels >= 0, self.labels, alone)
        names = self.sources.astype(str)
        found = metrics.per_query(
            query[queries],
            gallery,
            self.labels[queries],
            gallery_labels,
            query_ids=queries,
            gallery_ids=rows,
            query_sources=names[queries],
            gallery_sources=names,
            metric=metric,
        )
        return replace(found, rows=queries[found.rows])


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Metric → mean over the queries, 6 digits."""
    return {name: round(float(value.mean()), 6) for name, value in values.items()}


def compare(values: dict[str, dict[str, np.ndarray]], clusters: np.ndarray, metric: str, seed: int) -> Bootstrap:
    """A paired bootstrap of all candidates' metric; a candidate's name is the name of its mean.

    Where the clusters are too few for bounds, queries are resampled one by one: the choice is then about these labels and sources alone.
    """
    if len(np.unique(clusters)) < FEWEST:
        clusters = np.arange(len(clusters))
    return Bootstrap({name: value[metric] for name, value in values.items()}, clusters, seed=seed)


def interval(boot: Bootstrap, of: str, minus: str) -> dict[str, Any]:
    """The difference of two candidates with one-sided 95 % bounds, None where there are none."""
    found = boot.estimate(lambda m: m[of] - m[minus])
    lower, upper = (None if end is None else round(end, 6) for end in found.bounds)
    return {"value": round(found.value, 6), "lower": lower, "upper": upper}


def as_text(lead: dict[str, Any]) -> str:
    """``+0.021 [-0.003, +0.045]`` of an :func:`interval`; ``−∞`` and ``∞`` where it has no bounds."""
    lower, upper = (end if lead[name] is None else f"{lead[name]:+.3f}" for name, end in (("lower", "−∞"), ("upper", "∞")))
    return f"{lead['value']:+.3f} [{lower}, {upper}]"
