"""Whether classes that nobody labelled stay as good as they are today."""

from __future__ import annotations

import math

from fct.sample.evaluation import bootstrap
from fct.search.intervals import difference, rho
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import LABELS, Measurement, absent, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(nh − oo) above minus the tolerance on unseen classes. ρ is shown: it divides by a gain that may be near zero."""
    if not (values["populations"] == "unseen").any():
        return [absent("the evaluation sample has no unseen classes")]
    unseen, found = bootstrap(values, "unseen", seed), []
    for name, label in LABELS.items():
        share = unseen.estimate(rho(f"oo_{name}", f"nh_{name}", f"nn_{name}"))
        note = f"ρ {share.value:.2f}" if math.isfinite(share.value) else "ρ undefined: new/new is not above old/old here"
        change = unseen.estimate(difference(f"nh_{name}", f"oo_{name}"))
        found.append(of(f"unseen {label}", change, -settings.unseen_tolerance, strict=True, note=note))
    return found


GATE = OfSample(
    title="classes nobody labelled are not hurt",
    question="Do classes that nobody labelled stay at least as good as today?",
    measured="nh − oo, unseen, top-1 and mAP; ρ is shown",
    passes="lower bound > −{unseen_tolerance}",
    keys=("unseen_tolerance",),
    place=4,
    measure=measure,
)
