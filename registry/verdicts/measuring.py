"""All measurements of all gates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from registry.verdicts.declaration import Values, gallery_gates, sample_gates
from registry.verdicts.gates.rollback import Rehearsal
from registry.verdicts.measurement import Measurement, absent
from registry.verdicts.settings import GateSettings

FIRST = "a first release: there is no champion to compare with"


@dataclass(frozen=True)
class LiveChecks:
    """What was measured on the gallery itself: ``found``, gate → what its ``look`` found, and a rehearsed rollback (None where nothing serves)."""

    found: dict[str, Any]
    rollback: Rehearsal | None = None


def of_sample(values: Values | None, settings: GateSettings, *, seed: int) -> list[Measurement]:
    """Measurements of one h on the evaluation sample.

    Args:
        values: per-query values of :func:`fct.sample.evaluation.measure` with those of :func:`registry.verdicts.checks.further`; None for a first
            release, where there is nothing to compare.
    """
    found: list[Measurement] = []
    for name, gate in sample_gates().items():
        found += _named(name, [absent(FIRST)] if values is None else gate.measure(values, settings, seed))
    return found


def of_gallery(live: LiveChecks, settings: GateSettings, *, first: bool) -> list[Measurement]:
    """Measurements of the gallery itself. ``first``: there is no champion to compare with."""
    looked: dict[str, Any] = {"rollback": live.rollback} | live.found
    found: list[Measurement] = []
    for name, gate in gallery_gates().items():
        found += _named(name, [absent(FIRST)] if first and not gate.first_release else gate.measure(looked[name], settings))
    return found


def _named(gate: str, found: list[Measurement]) -> list[Measurement]:
    return [replace(m, gate=gate) for m in found]
