"""From measurements to outcomes, and from outcomes to the verdict.

Whether a measurement keeps its bound is decided by Great Expectations (:mod:`registry.verdicts.expectations`); here its answers become
``passed``, ``refused``, ``inconclusive`` (the interval straddles the bound) or ``not applicable`` (with the reason).
"""

from __future__ import annotations

import math
from dataclasses import replace

from registry.verdicts.declaration import gallery_gates
from registry.verdicts.measurement import Measurement

ON_BOUND = 1e-9


def more_queries(value: float, lower: float, upper: float, bound: float, n: int) -> int | None:
    """How many more queries would settle an interval that straddles its bound: widths shrink with 1/√n. None: no number would."""
    distance = abs(value - bound)
    half = value - lower if value >= bound else upper - value
    if distance <= ON_BOUND or half <= 0 or not math.isfinite(half):
        return None
    return max(1, math.ceil(n * (half / distance) ** 2) - n)


def decide(measurements: list[Measurement], kept: dict[str, bool]) -> list[Measurement]:
    """Fill in outcomes from the answers of Great Expectations (key → whether the tested number keeps its bound)."""
    return [_decided(m, kept[m.key]) if m.applies else m for m in measurements]


def _decided(m: Measurement, kept: bool) -> Measurement:
    def open_(why: str) -> Measurement:
        return replace(m, outcome="inconclusive", note="; ".join(filter(None, [m.note, why])))

    if not math.isfinite(m.value):
        return open_("undefined: new/new is not above old/old")
    if m.too_few:
        return open_(m.too_few)
    if kept:
        return replace(m, outcome="passed")
    beyond = m.lower > m.bound if m.most else m.upper < m.bound or (m.strict and m.upper <= m.bound)
    if beyond or m.lower == m.upper:
        return replace(m, outcome="refused")
    more = more_queries(m.value, m.lower, m.upper, m.bound, m.n)
    if more is not None:
        return open_(f"about {more} more queries would settle it")
    reason = "the value lies on the bound" if abs(m.value - m.bound) <= ON_BOUND else "its interval has no end"
    return open_(f"no number of queries is known to settle it: {reason}")


def overall(measurements: list[Measurement], must_apply: tuple[str, ...], *, first: bool) -> tuple[str, list[str]]:
    """The verdict: refused if any gate is, else inconclusive if any is, else passed; and sentences on what stands in the way.

    A gate that must apply and does not makes the verdict inconclusive, unless its answer is known beforehand. Of a ``first`` release only
    the gates that apply to one are asked for.
    """
    problems = [
        f"{m.gate} ({m.subject}) is {m.outcome}: {m.value:.3f}, wanted {m.to_json()['relation']} {m.bound:g}. {m.note}".strip()
        for m in measurements
        if m.outcome in ("refused", "inconclusive")
    ]
    applied = {m.gate for m in measurements if m.outcome != "not applicable" or m.answered}
    asked = [gate for gate in must_apply if not first or (gate in gallery_gates() and gallery_gates()[gate].first_release)]
    missing = [gate for gate in asked if gate not in applied]
    problems += [f"{gate} must apply and does not" for gate in missing]
    outcomes = {m.outcome for m in measurements}
    if "refused" in outcomes:
        return "refused", problems
    return ("inconclusive" if "inconclusive" in outcomes or missing else "passed"), problems
