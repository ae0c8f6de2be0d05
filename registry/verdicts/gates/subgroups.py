"""How much the gap between the best and the worst subgroup of queries grows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fct.search.intervals import Bootstrap, Estimate
from registry.verdicts.declaration import OfSample, OnSample, Values
from registry.verdicts.measurement import LABELS, Measurement, absent, of
from registry.verdicts.settings import GateSettings

SEEN, SOURCE = "seen_by_old", "source"


def needs(asked: OnSample) -> Values:
    """``source`` (R,); ``seen_by_old`` (R,) bool, or ``seen_unknown``."""
    rows = asked.values["rows"]
    found: Values = {SOURCE: asked.sample.sources[rows]}
    if asked.seen is None:
        return found | {"seen_unknown": np.array(True)}
    return found | {SEEN: np.isin(asked.sample.labels[rows], np.asarray(list(asked.seen), dtype=str))}


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


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
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
            found.append(of(subject, growth, settings.subgroup_tolerance, test="value", most=True, note=note))
    return found or [absent("; ".join(reasons), answered=answered)]


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


GATE = OfSample(
    title="no subgroup falls behind another",
    question="How much does the gap between subgroups grow?",
    measured="gap between the best and the worst subgroup of queries of known classes: the gap under nh minus the gap under oo; top-1 and mAP",
    passes="value ≤ {subgroup_tolerance}",
    keys=("subgroups", "subgroup_tolerance", "worst_class_queries"),
    place=7,
    needs=needs,
    measure=measure,
)
