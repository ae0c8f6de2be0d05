"""How many items of the gallery are unlike those that h was fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fct.sample.folder import PairsFolder
from fct.search import coverage as distances
from fct.search.coverage import Coverage
from registry.verdicts.declaration import NewSpace, OfGallery
from registry.verdicts.measurement import Measurement, certain
from registry.verdicts.settings import GateSettings


def fitting_rows(pairs: Path, limit: int = 20000) -> np.ndarray:
    """(N, D + P) φ and ψ of the clean views of fitting images and pool, one row an image (at most ``limit`` of each)."""
    folder, parts = PairsFolder(pairs), []
    for name in ("fitting", "pool"):
        if folder.has(name):
            images = len(np.unique(folder.load(name, "sources")))  # views follow each other, the image itself first
            rows = slice(0, min(images, limit))
            parts.append(np.concatenate([folder.load(name, "old")[rows], folder.load(name, "psi")[rows]], axis=1).astype(np.float32))
    return np.concatenate(parts)


def covered(pairs: Path, phi: np.ndarray, psi: np.ndarray) -> Coverage:
    """Coverage of items by what their h was fitted on. phi (G, D), psi (G, P)."""
    return distances.measure(fitting_rows(pairs), np.concatenate([phi, psi], axis=1).astype(np.float32))


def look(space: NewSpace) -> dict[int, Coverage]:
    """Native version → coverage of the items that its h carried over."""
    return {m: covered(one.pairs, one.phi, one.psi) for m, one in space.natives.items() if one.h is not None and len(one.phi)}


def measure(found: dict[int, Coverage], settings: GateSettings) -> list[Measurement]:
    """The share of far items, for each native version."""
    return [_of(version, one, settings.coverage_most) for version, one in found.items()]


def _of(version: int, found: Coverage, most: float) -> Measurement:
    note = f"{int(found.far.sum())} of {len(found.far)} items are further out than the fitting set's 99th percentile"
    return certain(f"items native to v{version}", found.share, len(found.far), most, most=True, note=note)


GATE = OfGallery(
    title="h was fitted on items like the gallery's",
    question="How many gallery items are unlike the items on which h was fitted?",
    measured="share of gallery items that lie further from the fitting set (in φ, ψ) than the 99th percentile of the fitting set itself, for each "
    "native version",
    passes="share ≤ {coverage_most}",
    keys=("coverage_most",),
    place=2,
    look=look,
    measure=measure,
)
