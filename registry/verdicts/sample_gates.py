"""Gates on the evaluation sample beyond recovery: flips, subgroups, the order of a backfill, the closed form, score thresholds.

Each takes the per-query values of one h (:func:`fct.sample.evaluation.measure` with the further values of :func:`registry.verdicts.checks.further`)
and returns measurements. Legend: R queries that count, C of them that were asked for curves or thresholds, S steps of β.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fct.sample.evaluation import bootstrap
from fct.search.intervals import Bootstrap, Estimate, difference
from registry.verdicts.measurement import Measurement, absent, of
from registry.verdicts.settings import GateSettings

Values = dict[str, np.ndarray]
ROUNDING = 1e-9  # one query lost is 1/C only up to the last bits of two means
LABELS = {"top1": "top-1", "mAP": "mAP"}
SEEN, SOURCE = "seen_by_old", "source"


def negative_flips(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """Share of queries right under oo and wrong under nh, minus the same share for nn; its upper bound must keep the bound."""
    right = values["oo_top1"] > 0
    flips = {f"flip_{row}": (right & (values[f"{row}_top1"] == 0)).astype(np.float64) for row in ("nh", "nn")}
    parts = {name: values[name] for name in ("populations", "labels")}
    known = bootstrap(flips | parts, "known", seed)
    note = _shares(known.means["flip_nh"], known.means["flip_nn"])
    if (values["populations"] == "unseen").any():
        unseen = bootstrap(flips | parts, "unseen", seed)
        note += f"; on unseen classes {_shares(unseen.means['flip_nh'], unseen.means['flip_nn'])}"
    estimate = known.estimate(difference("flip_nh", "flip_nn"))
    return [of("negative_flips", "known top-1", estimate, settings.negative_flips, test="upper", most=True, note=note)]


def _shares(carried: float, new: float) -> str:
    return f"lost with new/h(old) {carried:.3f}, with new/new {new:.3f}"


def _gap(means: Mapping[str, float | np.ndarray], row: str, count: int) -> np.ndarray:
    """Best minus worst subgroup mean of a row; a subgroup that a subset left out is passed over."""
    found = np.array([np.asarray(means[f"{row}_{g}"]) / np.asarray(means[f"in_{g}"]) for g in range(count)])
    return np.asarray(np.fmax.reduce(found) - np.fmin.reduce(found))


def gaps(
    values: Mapping[str, np.ndarray], members: list[np.ndarray], clusters: np.ndarray, name: str, seed: int
) -> tuple[Estimate, dict[str, float]]:
    """How much the gap between best and worst subgroup grows from oo to nh, and the gap itself in each row.

    Args:
        values: with ``oo_<name>``, ``nh_<name>``, ``nn_<name>``, (R,) each; members: (R,) bool of each subgroup, at least two.
        clusters: (R,) class of each query. name: of the metric.
    """
    numbers = {f"in_{g}": member.astype(np.float64) for g, member in enumerate(members)}
    for row in ("oo", "nh", "nn"):
        numbers |= {f"{row}_{g}": np.where(member, values[f"{row}_{name}"], 0.0) for g, member in enumerate(members)}
    boot = Bootstrap(numbers, clusters, seed=seed)
    count = len(members)
    growth = boot.estimate(lambda m: _gap(m, "nh", count) - _gap(m, "oo", count))
    return growth, {row: float(_gap(boot.means, row, count)) for row in ("oo", "nh", "nn")}


def subgroups(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """The gap between the best and the worst declared subgroup of the known classes' queries must not grow.

    Best minus worst of noisy means lies high by itself, in every subset again: the value is tested, the interval refuses.
    """
    known = values["populations"] == "known"
    rows = {name: value[known] for name, value in values.items() if value.shape == known.shape}
    found, reasons, answered = [], [], True
    for kind in settings.subgroups:
        members, names, reason = _members(kind, rows, settings.worst_class_queries)
        if reason:
            reasons.append(reason)
            # that there is one subgroup only is an answer; not to know is none, unless it was declared when the release was adopted
            answered &= kind == SEEN and (SEEN in rows or "seen_unknown" in values)
            continue
        for name, label in LABELS.items():
            growth, gap = gaps(rows, members, rows["labels"], name, seed)
            sizes = (
                ", ".join(f"{one} {int(m.sum())} queries" for one, m in zip(names, members, strict=True))
                if len(names) <= 4
                else f"{len(names)} subgroups"
            )
            note = f"gap old/old {gap['oo']:.3f}, new/h(old) {gap['nh']:.3f}, new/new {gap['nn']:.3f}; {sizes}"
            subject = f"{'seen by the old model or not' if kind == SEEN else 'sources'}, {label}"
            found.append(of("subgroups", subject, growth, settings.subgroup_tolerance, test="value", most=True, note=note))
    return found or [absent("subgroups", "; ".join(reasons), answered=answered)]


def _members(kind: str, rows: Values, least: int) -> tuple[list[np.ndarray], list[str], str]:
    """(R,) bool of each subgroup of one kind, its name; or the reason why there is nothing to compare."""
    if kind == SEEN:
        if SEEN not in rows:
            return [], [], "the classes that the old model saw are not known"
        seen = rows[SEEN]
        if seen.all() or not seen.any():
            return [], [], f"the old model saw {'every' if seen.all() else 'no'} known class: there is one subgroup"
        return [seen, ~seen], ["seen", "unseen"], ""
    names, counts = np.unique(rows[SOURCE], return_counts=True)
    names = names[(counts >= least) & (names != "")]
    if len(names) < 2:
        return [], [], f"fewer than two sources have {least} queries"
    return [rows[SOURCE] == one for one in names], [str(one) for one in names], ""


def _curves(values: Values, population: str) -> dict[str, np.ndarray] | None:
    """The curves (S, C) of one population with ``labels`` (C,), None where there is no query."""
    chosen = values["curve_populations"] == population
    if not chosen.any():
        return None
    names = [name for name in values if name.startswith("curve_") and values[name].ndim == 2]
    return {name.removeprefix("curve_"): values[name][:, chosen] for name in names} | {"labels": values["curve_labels"][chosen]}


def no_dip(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """min over β of M(β) ≥ min(M(0), M(1)) − ε in the shipped order; ε is at least one query.

    The least of many noisy means lies low by itself. So it is refused only where a dip of more than ε at some β is shown:
    p below 0.05, of all β between the ends together. Short of that, mAP is tested by its
    value, freed of that bias, and is inconclusive where it breaks the bound; top-1, which moves by whole queries, passes.
    """
    if "curve_rows" not in values:
        return [absent("no_dip", "h predicts no uncertainty: there is no shipped order")]
    found = []
    for population in ("known", "unseen"):
        curves = _curves(values, population)
        for name, label in LABELS.items() if curves else ():
            assert curves is not None  # or the loop is empty
            bound = -max(settings.dip_tolerance, 1 / len(curves["labels"])) - ROUNDING
            found.append(_dip(f"{population} {label}", curves[f"shipped_{name}"], curves["labels"], bound, seed, name == "top1"))
    return found


def _dip(subject: str, steps: np.ndarray, labels: np.ndarray, bound: float, seed: int, by_query: bool) -> Measurement:
    """One curve, ``steps`` (S, C): each β against the lower of the two ends. ``by_query``: passes unless a dip is shown.

    The value is freed of the bias of a least of many, by the bootstrap: 2 · the least − its mean in the subsets, at most 0
    (Efron and Tibshirani 1993, equation 10.41).
    """
    means, last = steps.mean(axis=1), len(steps) - 1
    end, least = (0 if means[0] <= means[last] else last), int(means.argmin())
    boot = Bootstrap({str(s): row - steps[end] for s, row in enumerate(steps)}, labels, seed=seed)
    estimate = boot.mean(str(least))
    shown = boot.chance([str(s) for s in range(1, last)], bound)
    again = float(np.min(list(boot.draws.values()), axis=0).mean())
    value = estimate.value if by_query or shown < 0.05 else min(0.0, 2 * estimate.value - again)
    upper = value if shown < 0.05 else max(estimate.upper, value, bound)
    note = (
        f"M(0) {means[0]:.3f}, M(1) {means[last]:.3f}, least {means[least]:.3f} at β = {least / last:.1f} ({estimate.value:+.4f}); "
        f"p of more dip at any β {shown:.2f}"
    )
    test = "upper" if by_query else "value"
    lower = min(estimate.lower, value)
    return Measurement("no_dip", subject, value, lower, upper, estimate.n, bound, test=test, note=note, classes=estimate.clusters)


def order_helps(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(AUC(shipped order) − mean AUC(random orders)) > 0 on mAP, where there is something to order."""
    if "curve_rows" not in values:
        return [absent("order_helps", "h predicts no uncertainty: there is no shipped order")]
    found, reasons = [], []
    for population in ("known", "unseen"):
        curves = _curves(values, population)
        if curves is None:
            continue
        gain = float(curves["shipped_mAP"][-1].mean() - curves["shipped_mAP"][0].mean())
        aucs = {name: curves[f"{name}_mAP"].mean(axis=0) for name in ("shipped", "random", "oracle")}
        boot = Bootstrap(aucs, curves["labels"], seed=seed)
        note = ", ".join(f"{name} {mean:.3f}" for name, mean in boot.means.items())
        if gain <= settings.order_margin:
            reasons.append(f"{population}: M(1) − M(0) is {gain:.3f} mAP, at most {settings.order_margin:g}, little left to order ({note})")
            continue
        note += "; top-1 " + ", ".join(f"{name} {curves[f'{name}_top1'].mean():.3f}" for name in aucs)
        found.append(
            of("order_helps", f"{population} AUC mAP", boot.estimate(difference("shipped", "random")), 0.0, strict=True, note=note)
        )
    return found or [absent("order_helps", "; ".join(reasons), answered=True)]


def beats_linear(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(nh − closed) > 0 (or the margin set) on mAP: the closed form with the same side-information, fitted on the same pairs."""
    if "closed_mAP" not in values:
        itself = bool(values.get("h_is_closed", np.array(False)))
        reason = "h is a closed form itself" if itself else "no closed form was fitted on these pairs"
        return [absent("beats_linear", reason, answered=itself)]
    known = bootstrap(values, "known", seed)
    estimate = known.estimate(difference("nh_mAP", "closed_mAP"))
    note = f"closed form {known.means['closed_mAP']:.3f}, top-1 {known.means['closed_top1']:.3f} (h {known.means['nh_top1']:.3f})"
    if (values["populations"] == "unseen").any():
        unseen = bootstrap(values, "unseen", seed)
        note += f"; unseen mAP {unseen.means['closed_mAP']:.3f} (h {unseen.means['nh_mAP']:.3f})"
    if not estimate.lower > settings.beats_linear:
        note += "; ship the closed form: it is not shown to be beaten (fit.method: ridge)"
    return [of("beats_linear", "known mAP", estimate, settings.beats_linear, strict=True, note=note)]


def _size(signed: Estimate) -> Estimate:
    """The absolute value of a signed change, with bounds."""
    ends = sorted((abs(signed.lower), abs(signed.upper)))
    inside = signed.lower <= 0 <= signed.upper
    return Estimate(abs(signed.value), 0.0 if inside else ends[0], ends[1], signed.n, signed.clusters)


def threshold_shift(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """The false-positive rate at the threshold in use changes at most by the bound; else a recalibrated threshold is emitted and judged.

    The recalibrated threshold is judged on classes it was not set on: its rate there must be today's, within the same bound.
    """
    if "threshold_rows" not in values:
        return [absent("threshold_shift", "no query of the sample sees an item of another class")]
    counts = {
        name: values[f"threshold_{name}"] for name in ("pairs", "before", "after", "held", "matches", "matches_before", "matches_held")
    }
    boot = Bootstrap(counts, values["threshold_labels"], seed=seed)

    def rate(name: str, among: str = "pairs") -> float:
        return boot.means[name] / boot.means[among] if boot.means[among] else float("nan")

    def change(name: str) -> Estimate:
        return _size(boot.estimate(lambda m: (m[name] - m["before"]) / m["pairs"]))

    in_use, recalibrated = float(values["threshold_in_use"]), float(values["threshold_recalibrated"])
    shifted = change("after")
    note = f"at {in_use:.4f}: {rate('before'):.4f} under old/old, {rate('after'):.4f} under new/h(old)"
    common: dict[str, Any] = {"test": "upper", "most": True}
    if shifted.upper <= settings.threshold_shift:
        return [of("threshold_shift", "threshold in use", shifted, settings.threshold_shift, note=note, **common)]
    note = (
        f"set the threshold to {recalibrated:.4f} with the promotion: {rate('held'):.4f} false positives on classes it was not set on,"
        f" matches found {rate('matches_held', 'matches'):.3f} (today {rate('matches_before', 'matches'):.3f}); {note}"
    )
    return [of("threshold_shift", "recalibrated threshold", change("held"), settings.threshold_shift, note=note, **common)]


def all_gates(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """All of this module."""
    gates = (negative_flips, subgroups, no_dip, order_helps, beats_linear, threshold_shift)
    return [m for gate in gates for m in gate(values, settings, seed)]
