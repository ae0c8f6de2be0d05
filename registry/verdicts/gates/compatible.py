"""Whether the carried-over gallery answers better than today's."""

from __future__ import annotations

from fct.sample.evaluation import bootstrap
from fct.search.intervals import difference
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import LABELS, Measurement, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(nh − oo) > 0."""
    known = bootstrap(values, "known", seed)
    return [
        of(f"known {label}", known.estimate(difference(f"nh_{name}", f"oo_{name}")), 0.0, strict=True) for name, label in LABELS.items()
    ]


GATE = OfSample(
    title="the carried-over gallery beats today's",
    question="Does the carried-over gallery give better results than today's?",
    measured="nh − oo, known, top-1 and mAP",
    passes="lower bound > 0",
    place=2,
    measure=measure,
)
