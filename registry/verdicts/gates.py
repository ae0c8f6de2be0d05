"""Compatibility gates: what must hold before a person is asked to approve.

A gate consists of one or more *measurements*, each with a bound. Whether a measurement keeps its bound is decided by Great
Expectations (:mod:`registry.verdicts.expectations`); this module computes values and intervals and turns answers into outcomes:
``passed``, ``refused``, ``inconclusive`` (the interval straddles the bound) or ``not applicable`` (with the reason).

oo = old/old (the champion as served), nh = new/h(old), nn = new/new, each a mean over queries of the evaluation sample.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from fct.gallery.canary import CanaryResult
from fct.sample.evaluation import bootstrap
from fct.search.coverage import Coverage
from fct.search.intervals import Estimate, difference, rho
from registry.verdicts import sample_gates
from registry.verdicts.measurement import Measurement, absent, below, holm, of
from registry.verdicts.settings import GateSettings
from registry.verdicts.titles import GATES

FIRST = "a first release: there is no champion to compare with"
OF_GALLERY = ("rollback", "coverage", "new_intact", "index_faithful", "canary")
ON_BOUND = 1e-9
SUSPECT = 0.01


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsed rollback: ``same`` is the share of ``queries`` whose answers came out identical; ``note``: a sentence for people."""

    queries: int
    same: float
    note: str


@dataclass(frozen=True)
class LiveChecks:
    """What was measured on the gallery itself: coverage by native version, recall per query by kind of question (``exact``: kinds for which the index
    compares every row), canaries, the query embedder, and a rehearsed
    rollback (None where nothing serves). ``adopted``: whether the release has no query embedder."""

    coverage: dict[int, Coverage]
    recall: dict[str, np.ndarray]
    canary: CanaryResult
    promised_rate: float
    fingerprint_ok: bool
    new_measured: dict[str, float]
    new_declared: dict[str, float]
    rollback: Rehearsal | None = None
    adopted: bool = False
    exact: frozenset[str] = frozenset()


def more_queries(value: float, lower: float, upper: float, bound: float, n: int) -> int | None:
    """How many more queries would settle an interval that straddles its bound: widths shrink with 1/√n. None: no number would."""
    distance = abs(value - bound)
    half = value - lower if value >= bound else upper - value
    if distance <= ON_BOUND or half <= 0 or not math.isfinite(half):
        return None
    return max(1, math.ceil(n * (half / distance) ** 2) - n)


def worst_groups(values: dict[str, np.ndarray], queries: int, seed: int) -> list[tuple[list[str], Estimate, float]]:
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


def worst_class(values: dict[str, np.ndarray], settings: GateSettings, seed: int) -> Measurement:
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
    return Measurement(
        "worst_class", "known top-1, worst group", value, value - half, upper, int(sizes[worst]), tolerance, test="value", note=note
    )


def measure(values: dict[str, np.ndarray] | None, live: LiveChecks, settings: GateSettings, *, seed: int) -> list[Measurement]:
    """All measurements of all gates, where there is one h or none.

    Args:
        values: per-query values of :func:`fct.sample.evaluation.measure` with those of :func:`registry.verdicts.checks.further`; None for a first
            release, where there is nothing to compare.
        live: what was measured on the gallery.
    """
    return of_sample(values, settings, seed=seed) + of_gallery(live, settings, first=values is None)


def of_sample(values: dict[str, np.ndarray] | None, settings: GateSettings, *, seed: int) -> list[Measurement]:
    """Measurements of one h on the evaluation sample; ``values`` as of :func:`measure`."""
    found: list[Measurement] = []
    if values is None:
        found += [absent(gate, FIRST) for gate in GATES if gate not in OF_GALLERY]
    else:
        known = bootstrap(values, "known", seed)
        for name, label in (("top1", "known top-1"), ("mAP", "known mAP")):
            found.append(of("worth_it", label, known.estimate(difference(f"nn_{name}", f"oo_{name}")), 0.0, strict=True))
        for name, label in (("top1", "known top-1"), ("mAP", "known mAP")):
            found.append(of("compatible", label, known.estimate(difference(f"nh_{name}", f"oo_{name}")), 0.0, strict=True))
        for name, label, bound in (("top1", "known ρ top-1", settings.recovered_top1), ("mAP", "known ρ mAP", settings.recovered_mAP)):
            found.append(of("recovered", label, known.estimate(rho(f"oo_{name}", f"nh_{name}", f"nn_{name}")), bound))
        if (values["populations"] == "unseen").any():
            unseen = bootstrap(values, "unseen", seed)
            for name, label in (("top1", "unseen top-1"), ("mAP", "unseen mAP")):
                share = unseen.estimate(rho(f"oo_{name}", f"nh_{name}", f"nn_{name}"))
                note = f"ρ {share.value:.2f}" if math.isfinite(share.value) else "ρ undefined: new/new is not above old/old here"
                change = unseen.estimate(difference(f"nh_{name}", f"oo_{name}"))
                found.append(of("recovered_unseen", label, change, -settings.unseen_tolerance, strict=True, note=note))
        else:
            found.append(absent("recovered_unseen", "the evaluation sample has no unseen classes"))
        found.append(worst_class(values, settings, seed))
        found += sample_gates.all_gates(values, settings, seed)
    return found


def of_gallery(live: LiveChecks, settings: GateSettings, *, first: bool) -> list[Measurement]:
    """Measurements of the gallery itself, over all its rows, whatever h carried them. ``first``: there is no champion to compare with."""
    found: list[Measurement] = []
    if first:
        found += [absent(gate, FIRST) for gate in ("rollback", "coverage")]
    else:
        found.append(_rollback(live.rollback))
        for version, coverage in live.coverage.items():
            note = f"{int(coverage.far.sum())} of {len(coverage.far)} items are further out than the fitting set's 99th percentile"
            found.append(
                Measurement(
                    "coverage",
                    f"items native to v{version}",
                    coverage.share,
                    coverage.share,
                    coverage.share,
                    len(coverage.far),
                    settings.coverage_most,
                    test="value",
                    most=True,
                    note=note,
                )
            )
    found.append(_new_intact(live, settings))
    found.append(_index_faithful(live.recall, settings, live.exact))
    rate = live.canary.rate
    ok = 1.0 if live.canary.passed else 0.0
    found.append(
        Measurement(
            "canary",
            "kept promise",
            ok,
            ok,
            ok,
            len(live.canary.missing),
            1.0,
            test="value",
            note=f"{rate:.2f} found at once, promised {live.promised_rate:.2f}; {live.canary.why}",
        )
    )
    return found


def _index_faithful(recall: dict[str, np.ndarray], settings: GateSettings, exact: Collection[str] = ()) -> Measurement:
    """The kind of question that the index answers worst, by its lower bound.

    Queries that all found everything have no spread; a share of 1 − 0.05^(1/n) of queries that find nothing stays unseen in one case of 20.
    So the bound of an index that does not compare every row (``exact`` kinds do) is never nearer to 1 than that.
    """

    def bounds(kind: str) -> tuple[float, float]:
        found = recall[kind]
        mean, wide = float(found.mean()), float(found.std() / math.sqrt(len(found))) * 1.6449
        return mean - wide if kind in exact else min(mean - wide, 0.05 ** (1 / len(found))), min(1.0, mean + wide)

    kind = min(recall, key=lambda name: bounds(name)[0])
    mean, (lower, upper) = float(recall[kind].mean()), bounds(kind)
    note = f"{kind}, the worst of {len(recall)} kinds of question" if len(recall) > 1 else ""
    return Measurement("index_faithful", "recall@10", mean, lower, upper, len(recall[kind]), settings.index_recall, note=note)


def _rollback(rehearsal: Rehearsal | None) -> Measurement:
    if rehearsal is None:
        return absent("rollback", "nothing serves here that one could return to")
    same = rehearsal.same
    return Measurement("rollback", "identical answers", same, same, same, rehearsal.queries, 1.0, test="value", note=rehearsal.note)


def _new_intact(live: LiveChecks, settings: GateSettings) -> Measurement:
    if live.adopted and live.fingerprint_ok:
        return absent("new_intact", "the release was adopted: it has no query embedder that could differ", answered=True)
    shared = sorted(live.new_measured.keys() & live.new_declared.keys())
    gaps = [abs(live.new_measured[key] - live.new_declared[key]) for key in shared]
    gap = max((gap if math.isfinite(gap) else math.inf for gap in gaps), default=0.0)  # max() may pass over NaN
    if not live.fingerprint_ok:
        gap, note = math.inf, "the fingerprint of the program that embedded is not the registered one"
    elif shared:
        note = f"same fingerprint; {len(shared)} of the release's own measurements measured again"
    else:
        note = "same fingerprint; the release declares no measurement on these queries"
    value = gap if math.isfinite(gap) else 1.0
    return Measurement(
        "new_intact",
        "largest difference",
        value,
        value,
        value,
        len(shared),
        settings.new_intact_tolerance,
        test="value",
        most=True,
        note=note,
    )


def decide(measurements: list[Measurement], kept: dict[str, bool]) -> list[Measurement]:
    """Fill in outcomes from the answers of Great Expectations (key → whether the tested number keeps its bound)."""
    found = []
    for m in measurements:
        if not m.applies:
            found.append(m)
            continue
        if not math.isfinite(m.value):
            found.append(
                replace(m, outcome="inconclusive", note="; ".join(filter(None, [m.note, "undefined: new/new is not above old/old"])))
            )
            continue
        if m.too_few:
            found.append(replace(m, outcome="inconclusive", note="; ".join(filter(None, [m.note, m.too_few]))))
            continue
        if kept[m.key]:
            found.append(replace(m, outcome="passed"))
            continue
        beyond = m.lower > m.bound if m.most else m.upper < m.bound or (m.strict and m.upper <= m.bound)
        if beyond or m.lower == m.upper:
            found.append(replace(m, outcome="refused"))
            continue
        more = more_queries(m.value, m.lower, m.upper, m.bound, m.n)
        reason = "the value lies on the bound" if abs(m.value - m.bound) <= ON_BOUND else "its interval has no end"
        settle = (
            f"about {more} more queries would settle it" if more is not None else f"no number of queries is known to settle it: {reason}"
        )
        found.append(replace(m, outcome="inconclusive", note="; ".join(filter(None, [m.note, settle]))))
    return found


def overall(measurements: list[Measurement], must_apply: tuple[str, ...], *, first: bool) -> tuple[str, list[str]]:
    """The verdict: refused if any gate is, else inconclusive if any is, else passed; and sentences on what stands in the way.

    A gate that must apply and does not makes the verdict inconclusive (except in a first release, or where its answer is known beforehand).
    """
    problems = [
        f"{m.gate} ({m.subject}) is {m.outcome}: {m.value:.3f}, wanted {m.to_json()['relation']} {m.bound:g}. {m.note}".strip()
        for m in measurements
        if m.outcome in ("refused", "inconclusive")
    ]
    applied = {m.gate for m in measurements if m.outcome != "not applicable" or m.answered}
    absent = [] if first else [gate for gate in must_apply if gate not in applied]
    problems += [f"{gate} must apply and does not" for gate in absent]
    outcomes = {m.outcome for m in measurements}
    if "refused" in outcomes:
        return "refused", problems
    return ("inconclusive" if "inconclusive" in outcomes or absent else "passed"), problems
