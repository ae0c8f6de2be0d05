"""Whether a score threshold that an application uses still lets as many false positives through."""

from __future__ import annotations

from typing import Any

import numpy as np

from fct.sample import thresholds
from fct.search.intervals import Bootstrap, Estimate
from registry.verdicts.declaration import OfSample, OnSample, Values
from registry.verdicts.measurement import Measurement, absent, of
from registry.verdicts.settings import GateSettings


def needs(asked: OnSample) -> Values:
    """``threshold_…`` of :class:`fct.sample.thresholds.Shift`, with its ``labels``; nothing where no query sees an item of another class."""
    sample, bounds = asked.sample, asked.settings
    old, new = asked.served or (sample.old, sample.old), (sample.new, asked.carried[0])
    moved = thresholds.shift(
        sample,
        old,
        new,
        asked.metric,
        asked.values["rows"],
        threshold=bounds.score_threshold,
        share=bounds.false_positives,
        seed=asked.seed,
    )
    if moved is None:
        return {}
    found = {f"threshold_{name}": np.asarray(value) for name, value in vars(moved).items()}
    return found | {"threshold_labels": sample.labels[moved.rows]}


def _size(signed: Estimate) -> Estimate:
    """The absolute value of a signed change, with bounds."""
    ends = sorted((abs(signed.lower), abs(signed.upper)))
    inside = signed.lower <= 0 <= signed.upper
    return Estimate(abs(signed.value), 0.0 if inside else ends[0], ends[1], signed.n, signed.clusters)


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """The false-positive rate at the threshold in use changes at most by the bound; else a recalibrated threshold is emitted and judged.

    The recalibrated threshold is judged on classes it was not set on: its rate there must be today's, within the same bound.
    """
    if "threshold_rows" not in values:
        return [absent("no query of the sample sees an item of another class")]
    counts = {
        name: values[f"threshold_{name}"] for name in ("pairs", "before", "after", "held", "matches", "matches_before", "matches_held")
    }
    boot = Bootstrap(counts, values["threshold_labels"], seed=seed)

    def rate(name: str, among: str = "pairs") -> float:
        return boot.means[name] / boot.means[among] if boot.means[among] else float("nan")

    def change(name: str) -> Estimate:
        return _size(boot.estimate(lambda m: (m[name] - m["before"]) / m["pairs"]))

    in_use, recalibrated = float(values["threshold_in_use"]), float(values["threshold_recalibrated"])
    shifted = change("after")
    note = f"at {in_use:.4f}: {rate('before'):.4f} under old/old, {rate('after'):.4f} under new/h(old)"
    common: dict[str, Any] = {"test": "upper", "most": True}
    if shifted.upper <= settings.threshold_shift:
        return [of("threshold in use", shifted, settings.threshold_shift, note=note, **common)]
    note = (
        f"set the threshold to {recalibrated:.4f} with the promotion: {rate('held'):.4f} false positives on classes it was not set on,"
        f" matches found {rate('matches_held', 'matches'):.3f} (today {rate('matches_before', 'matches'):.3f}); {note}"
    )
    return [of("recalibrated threshold", change("held"), settings.threshold_shift, note=note, **common)]


GATE = OfSample(
    title="score thresholds still mean the same",
    question="How much does the false-positive rate at the score threshold change?",
    measured="change of the false-positive rate at the score threshold in use, or at the recalibrated threshold",
    passes="upper bound ≤ {threshold_shift}",
    keys=("threshold_shift", "score_threshold", "false_positives"),
    place=11,
    needs=needs,
    measure=measure,
)
