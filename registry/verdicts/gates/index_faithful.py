"""Whether the index finds what exact search finds, with filters and deletions too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fct.gallery import index as indexes
from fct.sample.folder import Sample
from registry.verdicts.declaration import NewSpace, OfGallery
from registry.verdicts.measurement import Measurement
from registry.verdicts.settings import GateSettings

QUERIES = 500
FILTERED = 300  # queries of each kind with a filter: fewer that all find everything do not show a recall of 0.99
SHARES = (0.5, 0.05, 0.02, 0.005, 0.001)
LABELS = 5


@dataclass(frozen=True)
class Recall:
    """``by_kind``: kind of question → (Q,) recall@10 of the index against exact search; ``exact``: kinds for which the index compares every row."""

    by_kind: dict[str, np.ndarray]
    exact: frozenset[str] = frozenset()


def look(space: NewSpace) -> Recall:
    """Ask the index of the space."""
    place = np.searchsorted(space.ids, space.searcher.ids)
    return index_recall(space.searcher, space.rows[place], space.sample, None if space.labels is None else space.labels[place])


def index_recall(searcher: indexes.Searcher, rows: np.ndarray, sample: Sample, labels: np.ndarray | None = None) -> Recall:
    """Recall of the index for native new queries of the evaluation sample.

    Asked as a search asks: without a filter, within some labels, and where by lot a share of the rows may be answers, as filters and deleted
    rows leave it.

    Args:
        rows: (N, E) in the order of the index. labels: (N,) of its rows, where they are known.
    """
    rng = np.random.default_rng(0)
    queries = sample.new[rng.permutation(len(sample.new))[:QUERIES]]
    found, exact = {"without a filter": indexes.recall(searcher, rows, queries, 10)}, {"without a filter"} if searcher.exact() else set()
    some = queries[:FILTERED]
    for share in SHARES:
        if round(share * len(rows)) >= 1:
            keep = np.zeros(len(rows), dtype=bool)
            keep[rng.permutation(len(rows))[: round(share * len(rows))]] = True
            kind = f"where {100 * share:g} % may be answers"
            found[kind] = indexes.recall(searcher, rows, some, 10, keep)
            exact |= {kind} if searcher.exact(int(keep.sum())) else set()
    names = np.unique(labels) if labels is not None else np.empty(0, dtype=str)
    chosen = rng.permutation(names[names != ""])[:LABELS]
    within = [indexes.recall(searcher, rows, some, 10, labels == name) for name in chosen]
    if all(searcher.exact(int((labels == name).sum())) for name in chosen):
        exact.add("within one label")
    return Recall(found | ({"within one label": np.concatenate(within)} if within else {}), frozenset(exact))


def measure(found: Recall, settings: GateSettings) -> list[Measurement]:
    """The kind of question that the index answers worst, by its lower bound.

    Queries that all found everything have no spread; a share of 1 − 0.05^(1/n) of queries that find nothing stays unseen in one case of 20.
    So the bound of an index that does not compare every row (``exact`` kinds do) is never nearer to 1 than that.
    """
    recall, exact = found.by_kind, found.exact

    def bounds(kind: str) -> tuple[float, float]:
        found = recall[kind]
        mean, wide = float(found.mean()), float(found.std() / math.sqrt(len(found))) * 1.6449
        return mean - wide if kind in exact else min(mean - wide, 0.05 ** (1 / len(found))), min(1.0, mean + wide)

    kind = min(recall, key=lambda name: bounds(name)[0])
    mean, (lower, upper) = float(recall[kind].mean()), bounds(kind)
    note = f"{kind}, the worst of {len(recall)} kinds of question" if len(recall) > 1 else ""
    return [Measurement("recall@10", mean, lower, upper, len(recall[kind]), settings.index_recall, note=note)]


GATE = OfGallery(
    title="the index finds what exact search finds",
    question="Does the index find what exact search finds?",
    measured="recall@10 of the index against exact search, with at most 500 queries; also with filters and deletions (5 shares of the rows from 50 "
    "to 0.1 %, five labels; 300 queries each). The worst kind counts",
    passes="lower bound of recall@10 ≥ {index_recall}",
    keys=("index_recall",),
    place=4,
    look=look,
    measure=measure,
    first_release=True,
)
