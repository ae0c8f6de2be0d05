"""Whether h is better than the closed form with the same side-information, fitted on the same pairs."""

from __future__ import annotations

import numpy as np

from fct.sample import evaluation
from fct.sample.evaluation import bootstrap
from fct.search.intervals import difference
from registry.verdicts.declaration import OfSample, OnSample, Values
from registry.verdicts.measurement import Measurement, absent, of
from registry.verdicts.settings import GateSettings


def needs(asked: OnSample) -> Values:
    """``h_is_closed``; ``closed_top1`` and ``closed_mAP`` (R,) where a closed form was fitted."""
    found: Values = {"h_is_closed": np.array(asked.h.closed)}
    if asked.closed is None:
        return found
    sample = asked.sample
    straight, _ = asked.closed.transform(sample.old, sample.side if asked.closed.side_dim else None)
    ranked = evaluation.search(sample, sample.new, straight, asked.metric)
    return found | {f"closed_{name}": ranked.metric(name) for name in ("top1", "mAP")}


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """LB(nh − closed) > 0 (or the margin set) on mAP: the closed form with the same side-information, fitted on the same pairs."""
    if "closed_mAP" not in values:
        itself = bool(values.get("h_is_closed", np.array(False)))
        reason = "h is a closed form itself" if itself else "no closed form was fitted on these pairs"
        return [absent(reason, answered=itself)]
    known = bootstrap(values, "known", seed)
    estimate = known.estimate(difference("nh_mAP", "closed_mAP"))
    note = f"closed form {known.means['closed_mAP']:.3f}, top-1 {known.means['closed_top1']:.3f} (h {known.means['nh_top1']:.3f})"
    if (values["populations"] == "unseen").any():
        unseen = bootstrap(values, "unseen", seed)
        note += f"; unseen mAP {unseen.means['closed_mAP']:.3f} (h {unseen.means['nh_mAP']:.3f})"
    if not estimate.lower > settings.beats_linear:
        note += "; ship the closed form: it is not shown to be beaten (fit.method: ridge)"
    return [of("known mAP", estimate, settings.beats_linear, strict=True, note=note)]


GATE = OfSample(
    title="h is worth more than a closed form",
    question="Is h better than the closed form?",
    measured="nh minus the closed form (ridge with the same side-information, on the same pairs and pool); known, mAP",
    passes="lower bound > {beats_linear}",
    keys=("beats_linear",),
    place=10,
    needs=needs,
    measure=measure,
)
