"""How much the worst group of known classes gains or loses: no group pays for the others."""

from __future__ import annotations

import math

import numpy as np

from fct.search.intervals import Estimate
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import Measurement
from registry.verdicts.settings import GateSettings

SUSPECT = 0.01


def worst_groups(values: Values, queries: int, seed: int) -> list[tuple[list[str], Estimate, float]]:
    """Known classes pooled, by name, into equal groups of at least ``queries`` queries.

    Returns:
        for each group: its classes, the estimate of nh − oo (top-1), and the bootstrap standard error.
    """
    known = values["populations"] == "known"
    labels = values["labels"][known]
    groups: list[list[str]] = [[]]
    count = 0
    sizes = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    for label in sorted(sizes):
        groups[-1].append(str(label))
        count += int(sizes[label])
        if count >= queries:
            groups.append([])
            count = 0
    if len(groups) > 1:
        rest = groups.pop()
        groups[-1].extend(rest)
    found = []
    difference = (values["nh_top1"] - values["oo_top1"])[known]
    for group in groups:
        rows = np.isin(labels, group)
        # queries are drawn here, not classes: a group holds too few classes to resample them
        rng = np.random.default_rng(seed)
        draws = difference[rows][rng.integers(0, int(rows.sum()), (2000, int(rows.sum())))].mean(axis=1)
        estimate = Estimate(
            float(difference[rows].mean()), float(np.quantile(draws, 0.05)), float(np.quantile(draws, 0.95)), int(rows.sum())
        )
        found.append((group, estimate, float(draws.std())))
    return found


def shrunken(values: np.ndarray, errors: np.ndarray, mean: float) -> tuple[np.ndarray, float]:
    """Empirical-Bayes estimates of many groups' effects (Efron and Morris 1975, equation 1.6 with a moment estimate of the spread).

    The least of many noisy means lies low by itself: of 26 groups of 30 queries that all gain three points, the worst shows a loss of
    some nine. Each mean is drawn towards the mean of all by the share of its variance that is noise.

    Args:
        values: (G,) the groups' means. errors: (G,) their standard errors. mean: the mean of all queries.

    Returns:
        (G,) estimates, and the standard deviation between groups, 0 where the noise alone explains how they differ.
    """
    noise = errors**2
    between = max(0.0, float(((values - mean) ** 2).sum() / max(len(values) - 1, 1) - noise.mean()))
    if len(values) == 1 or not (noise + between).all():
        return values, between**0.5
    return mean + between / (between + noise) * (values - mean), between**0.5


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """The worst group's nh − oo, freed of the bias that the worst of many has (:func:`shrunken`); evidence of harm in any group refuses.

    A group whose own p-value of more harm than tolerated is below 0.01 is tested by its own mean, so that it does not pass among many.
    """
    groups = worst_groups(values, settings.worst_class_queries, seed)
    tolerance = -settings.worst_class_tolerance
    known = values["populations"] == "known"
    difference = (values["nh_top1"] - values["oo_top1"])[known]
    plain = np.array([estimate.value for _, estimate, _ in groups])
    sizes = np.array([estimate.n for _, estimate, _ in groups])
    errors = difference.std() / np.sqrt(sizes)  # a group of 30 says little about its own spread: that of all queries
    estimates, between = shrunken(plain, errors, float(difference.mean()))
    p = [below(estimate.value, error, tolerance) for _, estimate, error in groups]
    harm = min(holm(p))
    suspect = min(p) < SUSPECT  # among very many groups one that is harmed moves neither the spread nor Holm's p
    worst = int(np.argmin(p)) if suspect else int(estimates.argmin())
    value = float(plain[worst] if suspect else estimates[worst])
    own = between**2 / (between**2 + errors[worst] ** 2) if between else float(len(groups) == 1)  # the group's own weight in it
    half = 1.6449 * math.hypot(own**0.5 * errors[worst], (1 - own) * difference.std() / math.sqrt(len(difference)))
    upper = value if harm < 0.05 else max(value + half, tolerance)
    classes = ", ".join(groups[worst][0][:4]) + (" …" if len(groups[worst][0]) > 4 else "")
    note = (
        f"worst of {len(groups)} groups: {classes}; {plain[worst]:+.3f} by its own {sizes[worst]} queries (noise ±{errors[worst]:.3f}); "
        f"groups differ by ±{between:.3f} beyond noise; p of more harm than tolerated {min(p):.3f}, Holm-adjusted {harm:.2f}"
    )
    n = int(sizes[worst])
    return [Measurement("known top-1, worst group", value, value - half, upper, n, tolerance, test="value", note=note)]


def holm(p: list[float]) -> list[float]:
    """Holm's step-down adjustment of p-values (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    running = 0.0
    for rank, row in enumerate(order):
        running = max(running, min(1.0, p[row] * (len(p) - rank)))
        adjusted[row] = running
    return adjusted.tolist()


def below(value: float, error: float, bound: float) -> float:
    """One-sided p-value of H0: the true difference is at least ``bound`` (normal approximation of the bootstrap)."""
    if error <= 0:
        return 1.0 if value >= bound else 0.0
    return 0.5 * math.erfc((bound - value) / (error * math.sqrt(2)))


GATE = OfSample(
    title="no group of classes pays for the others",
    question="How much does the worst group of classes gain or lose?",
    measured="nh − oo, top-1, in the worst group of known classes (at least {worst_class_queries} queries each), corrected for the bias of taking "
    "the worst of many",
    passes="value ≥ −{worst_class_tolerance}",
    keys=("worst_class_tolerance", "worst_class_queries"),
    place=5,
    measure=measure,
)
