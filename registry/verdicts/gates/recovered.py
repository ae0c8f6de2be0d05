"""How much of the new model's gain comes back on known classes."""

from __future__ import annotations

from fct.sample.evaluation import bootstrap
from fct.search.intervals import rho
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import LABELS, Measurement, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(ρ) at least the bound, where ρ = (nh − oo) / (nn − oo)."""
    known = bootstrap(values, "known", seed)
    bounds = {"top1": settings.recovered_top1, "mAP": settings.recovered_mAP}
    return [
        of(f"known ρ {label}", known.estimate(rho(f"oo_{name}", f"nh_{name}", f"nn_{name}")), bounds[name])
        for name, label in LABELS.items()
    ]


GATE = OfSample(
    title="enough of the gain comes back",
    question="How much of the gain does h recover?",
    measured="ρ, known, top-1 and mAP",
    passes="lower bound of ρ ≥ {recovered_top1} top-1, ≥ {recovered_mAP} mAP",
    keys=("recovered_top1", "recovered_mAP"),
    place=3,
    measure=measure,
)
