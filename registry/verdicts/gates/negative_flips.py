"""How many queries h breaks that the new model alone answers rightly."""

from __future__ import annotations

import numpy as np

from fct.sample.evaluation import bootstrap
from fct.search.intervals import difference
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import Measurement, of
from registry.verdicts.settings import GateSettings


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
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
    return [of("known top-1", estimate, settings.negative_flips, test="upper", most=True, note=note)]


def _shares(carried: float, new: float) -> str:
    return f"lost with new/h(old) {carried:.3f}, with new/new {new:.3f}"


GATE = OfSample(
    title="few queries are lost that the new model would keep",
    question="How many queries does h break that the new model alone answers correctly?",
    measured="share of queries that are right under oo and wrong under nh, minus the same share for nn; known",
    passes="upper bound ≤ {negative_flips}",
    keys=("negative_flips",),
    place=6,
    measure=measure,
)
