"""Whether the new model is better on these data: if it is not, h carries that over faithfully."""

from __future__ import annotations

from fct.sample.evaluation import bootstrap
from fct.search.intervals import difference
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import LABELS, Measurement, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(nn − oo) > 0."""
    known = bootstrap(values, "known", seed)
    return [
        of(f"known {label}", known.estimate(difference(f"nn_{name}", f"oo_{name}")), 0.0, strict=True) for name, label in LABELS.items()
    ]


GATE = OfSample(
    title="the new model is better here",
    question="Is the new model better on your data?",
    measured="nn − oo, known, top-1 and mAP",
    passes="lower bound > 0",
    place=1,
    measure=measure,
)
