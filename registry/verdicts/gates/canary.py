"""Whether images with known answers are found in the new space as they were promised to be."""

from __future__ import annotations

import numpy as np

from fct.sample.folder import PairsFolder
from registry.verdicts import canaries
from registry.verdicts.canaries import Answered
from registry.verdicts.declaration import NewSpace, OfGallery
from registry.verdicts.measurement import Measurement, certain
from registry.verdicts.settings import GateSettings


def look(space: NewSpace) -> Answered:
    """Ask the canaries of the first h for their rows in the space."""
    first, sample, metric = space.first, space.sample, space.new.metric
    others = sample.new
    if first.h is not None:
        others, _ = first.h.transform(sample.old, sample.side if first.h.side_dim else None)
    promise, native = canaries.promised(first.h, first.pairs, others, metric)
    named = np.array(PairsFolder(first.pairs).load("canaries", "ids"))
    return Answered(promise, canaries.ask(promise, native, named, space.ids, space.rows, metric, space.settings.canary_margin))


def measure(found: Answered, settings: GateSettings) -> list[Measurement]:
    """1 where the promise was kept."""
    result = found.result
    note = f"{result.rate:.2f} found at once, promised {found.promise.rate:.2f}; {result.why}"
    return [certain("kept promise", float(result.passed), len(result.missing), 1.0, note=note)]


GATE = OfGallery(
    title="known answers are found in the new space",
    question="Do known items find themselves in the new space?",
    measured="canaries find their own carried-over rows (top 5) with the promised cosine",
    passes="cosine is within {canary_margin} of the promise",
    keys=("canary_margin",),
    place=5,
    look=look,
    measure=measure,
    first_release=True,
)
