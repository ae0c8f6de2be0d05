"""Score thresholds across an upgrade: what an application's "same" and "not the same" becomes under new/h(old).

A *non-matching pair* is a query and a gallery row it can see whose labels differ. The false-positive rate at a threshold is the
share of non-matching pairs with a score at or above it. Scores: cosine, or minus the squared distance.
Legend: C queries (of the sample), N rows of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fct.arrays import vectors
from fct.sample.folder import Sample
from fct.search.metrics import scores as products

SCORES_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Shift:
    """Counts per query, (C,) float64, paired with ``rows`` (C,), the queries' rows of the sample.

    ``pairs`` non-matching pairs; ``before`` those at or above ``in_use`` under old/old, ``after`` under new/h(old); ``held`` those
    at or above the threshold that was recalibrated on the *other* half of the classes, under new/h(old). ``matches``: matching
    pairs; ``matches_before`` found at ``in_use`` under old/old, ``matches_held`` as ``held``. ``recalibrated``: from all queries.
    """

    rows: np.ndarray
    pairs: np.ndarray
    before: np.ndarray
    after: np.ndarray
    held: np.ndarray
    matches: np.ndarray
    matches_before: np.ndarray
    matches_held: np.ndarray
    in_use: float
    recalibrated: float


def calibrate(scores: np.ndarray, share: float) -> float:
    """The threshold at or above which at most ``share`` of ``scores`` (any shape) lie, as many as ties allow.

    It lies halfway between the last score above and the first below; with ties across that place, just above the tied ones.

    Example: scores .9 .8 .7 .6 and share .5 → .75; scores .9 .7 .7 .6 and share .5 → just above .7.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())[::-1]
    above = int(share * len(values) + 1e-9)
    if above >= len(values):
        return float(values[-1])
    if above == 0 or values[above - 1] == values[above]:
        return float(np.nextafter(values[above], np.inf))
    return float((values[above - 1] + values[above]) / 2)


def choose(rows: np.ndarray, total: int, seed: int) -> np.ndarray:
    """So many of ``rows``, drawn with ``seed`` and sorted, that their scores against ``total`` rows stay in memory."""
    most = max(200, SCORES_AT_ONCE // max(1, total))
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def scores(query: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """(C, N) float32 scores of (C, D) and (N, D) vectors: cosine, or minus the squared distance."""
    prepare = vectors.normalise if metric == "cosine" else (lambda a: np.asarray(a, dtype=np.float32))
    first, second = torch.from_numpy(prepare(query)), torch.from_numpy(prepare(gallery))
    found = products(first, second, metric)
    return (found if metric == "cosine" else found - (first * first).sum(dim=1, keepdim=True)).numpy()


def shift(
    sample: Sample,
    old: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
    metric: str,
    rows: np.ndarray,
    *,
    threshold: float | None = None,
    share: float = 0.01,
    seed: int = 0,
) -> Shift | None:
    """Count false positives at the threshold in use before and after, and at a recalibrated one on classes it was not set on.

    Args:
        old, new: query and gallery vectors (N rows each) of old/old as served and of new/h(old).
        rows: queries of the sample. threshold: the score in use; None stands for the one at which old/old has the false-positive
            rate ``share`` here.

    Returns:
        the counts; None where no query sees an item of another class.
    """
    rows = choose(rows, len(sample.ids), seed)
    labels, sources = sample.labels, sample.sources
    hidden = (sample.ids[rows, None] == sample.ids[None]) | ((sources[rows, None] == sources[None]) & (sources[rows, None] != ""))
    same = labels[rows, None] == labels[None]
    wrong, right = ~same & ~hidden, same & ~hidden
    if not wrong.any():
        return None
    first, second = (scores(query[rows], gallery, metric) for query, gallery in (old, new))
    in_use = np.float64(calibrate(first[wrong], share) if threshold is None else threshold)  # a plain float would be rounded to float32
    before = ((first >= in_use) & wrong).sum(axis=1)
    pairs = wrong.sum(axis=1)
    recalibrated = calibrate(second[wrong], before.sum() / pairs.sum())
    half = np.unique(labels[rows], return_inverse=True)[1] % 2
    held_at = np.full(len(rows), recalibrated)
    for number in (0, 1):
        other = half != number
        if pairs[other].sum():
            held_at[half == number] = calibrate(second[other][wrong[other]], before[other].sum() / pairs[other].sum())
    counts = {
        "pairs": pairs,
        "before": before,
        "after": ((second >= in_use) & wrong).sum(axis=1),
        "held": ((second >= held_at[:, None]) & wrong).sum(axis=1),
        "matches": right.sum(axis=1),
        "matches_before": ((first >= in_use) & right).sum(axis=1),
        "matches_held": ((second >= held_at[:, None]) & right).sum(axis=1),
    }
    return Shift(
        rows, **{name: count.astype(np.float64) for name, count in counts.items()}, in_use=float(in_use), recalibrated=recalibrated
    )
