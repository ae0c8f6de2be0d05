"""A verdict: what was measured, what it covers, and one digest that an approval names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fct.arrays import digests
from registry import formats

if TYPE_CHECKING:  # to compare digests needs none of it
    import numpy as np

    from registry.verdicts.measurement import Measurement
    from registry.verdicts.measuring import LiveChecks
    from registry.verdicts.settings import GateSettings


def reach(
    *,
    model: str,
    version: int,
    champion: int | None,
    per_forward: dict[str, dict[str, np.ndarray] | None],
    live: LiveChecks,
    metrics: dict[str, Any],
    covers: dict[str, Any],
    settings: GateSettings,
    seed: int,
) -> dict[str, Any]:
    """Measure all gates, let Great Expectations decide on the bounds, and write down the verdict.

    Args:
        per_forward: name of each h (``v1→v2``) → per-query values; one entry with None for a first release.
        live: measurements on the gallery. metrics: summary tables for people.
        covers: fingerprints and digests that an approval will cover.

    Returns:
        a JSON object with ``outcome`` (passed, refused, inconclusive), ``gates``, ``problems``, ``suite`` and ``digest``. Two runs that
        measured the same have the same digest: it holds no time and no random id.
    """
    from registry.verdicts import deciding, expectations, measuring

    found: list[Measurement] = []
    for name, values in per_forward.items():
        for m in measuring.of_sample(values, settings, seed=seed):
            found.append(replace(m, subject=f"{m.subject} {name}" if len(per_forward) > 1 else m.subject))
    found += measuring.of_gallery(live, settings, first=None in per_forward.values())
    kept, suite = expectations.check_measurements(found)
    decided = deciding.decide(found, kept)
    outcome, problems = deciding.overall(decided, settings.must_apply, first=champion is None)
    verdict = {
        "format": formats.VERDICT,
        "model": model,
        "version": version,
        "from": champion,
        "outcome": outcome,
        "problems": problems,
        "gates": [m.to_json() for m in decided],
        "suite": suite,
        "metrics": metrics,
        "covers": covers,
    }
    return verdict | {"digest": digest_of(verdict)}


def digest_of(verdict: dict[str, Any]) -> str:
    """SHA-256 of everything in the verdict but its own digest."""
    return digests.of_json({key: value for key, value in verdict.items() if key != "digest"})
