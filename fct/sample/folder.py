"""A folder of pairs: what h is fitted and judged on, as files. Each file's name stands here, and nowhere else.

``fitting/``  pairs (old, side, new) of the fitting images, several views each, with class numbers of the new head; ψ
``pool/``     the same of an unlabelled pool
``sample/``   the evaluation sample: old, side, new of held-out images, with ids, labels, sources, populations
``canaries/`` the old release's canaries: ids, old, side, new
``gallery/``  ids, old, side of sample and canaries: what the development pipeline carries over in the live gallery's place

``psi.npy`` is what a gallery stores, ``side.npy`` what h is given: ψ, and the preview beside it where there is one. ``units.npy`` of given
pairs: rows of one unit are never split. ``pairs.json`` says what they are of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import vectors
from fct.arrays.files import read_json, write_json


@dataclass(frozen=True)
class Sample:
    """Images with known native vectors in both spaces. Arrays of N rows; ``populations`` is ``known`` or ``unseen``."""

    ids: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    populations: np.ndarray
    old: np.ndarray
    side: np.ndarray
    new: np.ndarray


@dataclass(frozen=True)
class PairsFolder:
    """One folder of pairs."""

    root: Path

    @property
    def about_file(self) -> Path:
        return self.root / "pairs.json"

    def about(self) -> dict[str, Any]:
        """Counts, copies, fingerprints, metric, classes of the old release."""
        return dict(read_json(self.about_file))

    def describe(self, about: dict[str, Any]) -> None:
        """Write what :meth:`about` reads."""
        write_json(self.about_file, about)

    def path(self, part: str, name: str) -> Path:
        """The file of one array of ``fitting``, ``pool``, ``sample``, ``canaries`` or ``gallery``."""
        return self.root / part / f"{name}.npy"

    def has(self, part: str, name: str | None = None) -> bool:
        """Whether a part, or one array of it, is there."""
        return (self.root / part).is_dir() if name is None else self.path(part, name).exists()

    def load(self, part: str, name: str) -> np.ndarray:
        """One array, memory-mapped where it may be. BadInput where it is missing or damaged."""
        return vectors.load(self.path(part, name))

    def reads(self) -> list[str]:
        """What an h of these pairs is given: ``phi``; ``psi`` where there is any; ``preview`` where side.npy holds it beside ψ."""
        psi, side = (self.load("sample", name).shape[1] for name in ("psi", "side"))
        return ["phi", *(["psi"] if psi else []), *(["preview"] if side > psi else [])]

    def save(self, part: str, **arrays: np.ndarray) -> None:
        """Arrays of one part, a file each."""
        for name, array in arrays.items():
            vectors.save(self.path(part, name), array)

    def save_sample(self, sample: Sample, psi: np.ndarray) -> None:
        """The evaluation sample, and (N, P) ψ as a gallery stores it."""
        self.save("sample", **vars(sample), psi=psi)

    def sample(self) -> Sample:
        """The evaluation sample."""
        return Sample(**{name: np.array(self.load("sample", name)) for name in Sample.__dataclass_fields__})
