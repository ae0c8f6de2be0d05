"""Whether the query embedder is the registered one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fct import device as devices
from fct.datasets import manifest as manifests
from fct.program import programs
from fct.sample.making import measure as measure_release
from registry.verdicts.declaration import NewSpace, OfGallery
from registry.verdicts.measurement import Measurement, absent, certain
from registry.verdicts.settings import GateSettings


@dataclass(frozen=True)
class Embedder:
    """The query embedder: whether its ``fingerprint`` is the registered one and the space's, what the release says of its metrics (``declared``)
    and what they are now (``measured``). ``adopted``: there is none."""

    fingerprint_ok: bool
    measured: dict[str, float]
    declared: dict[str, float]
    adopted: bool = False


def look(space: NewSpace) -> Embedder:
    """Take the fingerprint anew, and measure new/new again where its images are there."""
    new, on = space.new, devices.pick(space.device)
    measured, fingerprint = {}, new.fingerprint
    if not new.adopted:
        fingerprint = programs.fingerprint(new.folder / "program.pt2", new.about["preprocessing"])
        if (space.data / manifests.FILE).exists():  # given pairs need no images
            measured = measure_release(new.program(on), space.data, size=new.size, mode=new.mode, device=on, metric=new.metric)
    return Embedder(fingerprint == new.fingerprint == space.fingerprint, measured, new.about["measurements"], new.adopted)


def measure(found: Embedder, settings: GateSettings) -> list[Measurement]:
    """The largest difference of a metric from what the release declares; 1 where a fingerprint differs."""
    if found.adopted and found.fingerprint_ok:
        return [absent("the release was adopted: it has no query embedder that could differ", answered=True)]
    shared = sorted(found.measured.keys() & found.declared.keys())
    gaps = [abs(found.measured[key] - found.declared[key]) for key in shared]
    gap = max((gap if math.isfinite(gap) else math.inf for gap in gaps), default=0.0)  # max() may pass over NaN
    if not found.fingerprint_ok:
        gap, note = math.inf, "the fingerprint of the program that embedded is not the registered one"
    elif shared:
        note = f"same fingerprint; {len(shared)} of the release's own measurements measured again"
    else:
        note = "same fingerprint; the release declares no measurement on these queries"
    value = gap if math.isfinite(gap) else 1.0
    return [certain("largest difference", value, len(shared), settings.new_intact_tolerance, most=True, note=note)]


GATE = OfGallery(
    title="the query embedder is the registered one",
    question="Is the query embedder the registered one?",
    measured="largest difference between nn, measured again, and the measurements that the release declares; fingerprints must be equal",
    passes="difference ≤ {new_intact_tolerance}",
    keys=("new_intact_tolerance",),
    place=3,
    look=look,
    measure=measure,
    first_release=True,
)
