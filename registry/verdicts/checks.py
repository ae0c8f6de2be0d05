"""What is measured for the gates: on a gallery in its new space, and on the evaluation sample what recovery does not say.

The upgrade calls this with the live gallery, the development pipeline with the evaluation sample in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fct.forward import Forward
from fct.gallery.index import Searcher
from fct.release.folder import Release
from fct.sample.folder import PairsFolder, Sample
from fct.search.coverage import Coverage
from registry.verdicts import canaries
from registry.verdicts.declaration import Carried, NewSpace, OnSample, gallery_gates, sample_gates
from registry.verdicts.measuring import LiveChecks
from registry.verdicts.settings import GateSettings


def further(
    values: dict[str, np.ndarray],
    sample: Sample,
    h: Forward,
    carried: tuple[np.ndarray, np.ndarray],
    closed: Forward | None,
    metric: str,
    settings: GateSettings,
    *,
    seed: int,
    seen: Sequence[str] | None,
    served: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What the gates of the sample need beside the per-query values of an h; arguments as of :class:`registry.verdicts.declaration.OnSample`.

    Returns:
        name → array, of each gate's ``needs``. What could not be measured is left out.
    """
    asked = OnSample(values, sample, h, carried, closed, metric, settings, seed, seen, served)
    needs = dict.fromkeys(gate.needs for gate in sample_gates().values() if gate.needs)  # two gates may need the same
    return {name: array for need in needs for name, array in need(asked).items()}


def measure(
    natives: dict[int, Carried],
    ids: np.ndarray,
    rows: np.ndarray,
    searcher: Searcher,
    new: Release,
    data: Path,
    settings: GateSettings,
    *,
    device: str,
    space_fingerprint: str,
    labels: np.ndarray | None = None,
) -> tuple[LiveChecks, dict[str, Any], dict[int, Coverage]]:
    """Measure a gallery in its new space; arguments as of :class:`registry.verdicts.declaration.NewSpace`.

    Returns:
        the checks, the canaries' promise and answers as JSON, coverage by native version.
    """
    sample = PairsFolder(next(iter(natives.values())).pairs).sample()
    space = NewSpace(natives, sample, ids, rows, labels, searcher, new, data, settings, device, space_fingerprint)
    found = {name: gate.look(space) for name, gate in gallery_gates().items() if gate.look}
    return LiveChecks(found), canaries.as_json(found["canary"]), found["coverage"]
