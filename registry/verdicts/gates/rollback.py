"""Whether the release that serves still gives the same answers: a rollback, rehearsed (:mod:`registry.upgrades.rehearsal`)."""

from __future__ import annotations

from dataclasses import dataclass

from registry.verdicts.declaration import OfGallery
from registry.verdicts.measurement import Measurement, absent, certain
from registry.verdicts.settings import GateSettings


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsed rollback: ``same`` is the share of ``queries`` whose answers came out identical; ``note``: a sentence for people."""

    queries: int
    same: float
    note: str


def measure(rehearsal: Rehearsal | None, settings: GateSettings) -> list[Measurement]:
    """The share of identical answers."""
    if rehearsal is None:
        return [absent("nothing serves here that one could return to")]
    return [certain("identical answers", rehearsal.same, rehearsal.queries, 1.0, note=rehearsal.note)]


GATE = OfGallery(
    title="what serves still answers the same",
    question="Does the release that serves still give the same answers?",
    measured="share of queries to which the champion gives identical answers (ids, scores, labels) before the candidate's space exists and after "
    "its index is written",
    passes="all answers are identical",
    place=1,
    look=None,  # the upgrade asks, before anything of the candidate exists and again at the end
    measure=measure,
)
