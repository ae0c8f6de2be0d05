"""What a gate declares, and what it is given.

A gate is a module of :mod:`registry.verdicts.gates` with one ``GATE``; the module's name is the gate's. Everything that lists gates is made
from these declarations: the verdict, the titles in a report, the names that ``validate.must_apply`` knows, the tables in the docs.

oo = old/old (the champion as served), nh = new/h(old), nn = new/new, each a mean over queries of the evaluation sample. Legend: R queries that
count, N rows of the sample, M rows of the space, G items that an h carried over, D, P and E dimensions of φ, ψ and the new space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from registry.verdicts.measurement import Measurement
from registry.verdicts.names import GATES
from registry.verdicts.settings import GateSettings

if TYPE_CHECKING:
    from fct.forward import Forward
    from fct.gallery.index import Searcher
    from fct.release.folder import Release
    from fct.sample.folder import Sample

Values = dict[str, np.ndarray]
T = TypeVar("T")
LAST = 100


@dataclass(frozen=True)
class Carried:
    """What an h is judged on: its pairs, and (G, D) φ and (G, P) ψ of the gallery items it carried over. No h in a first release."""

    pairs: Path
    h: Forward | None
    phi: np.ndarray
    psi: np.ndarray


@dataclass(frozen=True)
class OnSample:
    """One h on the evaluation sample.

    Attributes:
        values: of :func:`fct.sample.evaluation.measure`, R queries that count. carried: the sample's vectors (N, E) and σ (N,) by ``h``.
        closed: the closed form on the same pairs; None where h is one itself.
        seen: the classes that the old release was trained on; None where nobody knows (it was adopted).
        served: as for :func:`fct.sample.evaluation.measure`.
    """

    values: Values
    sample: Sample
    h: Forward
    carried: tuple[np.ndarray, np.ndarray]
    closed: Forward | None
    metric: str
    settings: GateSettings
    seed: int
    seen: Sequence[str] | None
    served: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class NewSpace:
    """A gallery in its new space.

    Attributes:
        natives: native version → what its h is judged on. sample: the evaluation sample of the first of them.
        ids: (M,) sorted ids of the space; rows: (M, E) their vectors; labels: (M,) where they are known. searcher: the index of them.
        data: folder with the evaluation sample's images, for new/new. device: ``auto``, ``cpu`` or ``cuda``, for the new embedder.
        fingerprint: of the embedder that the space says its vectors belong to.
    """

    natives: dict[int, Carried]
    sample: Sample
    ids: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None
    searcher: Searcher
    new: Release
    data: Path
    settings: GateSettings
    device: str
    fingerprint: str

    @property
    def first(self) -> Carried:
        return next(iter(self.natives.values()))


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What people are told of a gate.

    Attributes:
        title: what it says when it passes. question: what it asks.
        measured: the number, in words. passes: when it does. A bound of params.yaml stands in both as ``{its key}``.
        keys: of ``validate`` in params.yaml that it reads.
        place: in a verdict, among the gates of its kind; those that name none follow the others.
    """

    title: str
    question: str
    measured: str
    passes: str
    keys: tuple[str, ...] = ()
    place: int = LAST


@dataclass(frozen=True, kw_only=True)
class OfSample(Gate):
    """A gate that judges each h on the evaluation sample. A first release has no h: it does not apply.

    Attributes:
        measure: of the values of one h, the bounds, and the seed of the bootstrap.
        needs: what ``measure`` needs beside the values of :func:`fct.sample.evaluation.measure`, kept with them; what could not be measured
            is left out.
    """

    measure: Callable[[Values, GateSettings, int], list[Measurement]]
    needs: Callable[[OnSample], Values] | None = None


@dataclass(frozen=True, kw_only=True)
class OfGallery(Gate, Generic[T]):
    """A gate that judges the gallery itself, over all its rows, whatever h carried them.

    Attributes:
        look: at the gallery in its new space; None where the upgrade looks (*rollback*).
        measure: of what ``look`` found, and the bounds.
        first_release: whether it applies where there is no champion to compare with.
    """

    look: Callable[[NewSpace], T] | None
    measure: Callable[[T, GateSettings], list[Measurement]]
    first_release: bool = False


@cache
def declared() -> dict[str, Gate]:
    """Name → gate, in the order of a verdict: those of the sample, then those of the gallery."""
    found: dict[str, Gate] = {name: import_module(f"registry.verdicts.gates.{name}").GATE for name in GATES}
    return dict(sorted(found.items(), key=lambda one: (isinstance(one[1], OfGallery), one[1].place, one[0])))


def sample_gates() -> dict[str, OfSample]:
    return {name: gate for name, gate in declared().items() if isinstance(gate, OfSample)}


def gallery_gates() -> dict[str, OfGallery[Any]]:
    return {name: gate for name, gate in declared().items() if isinstance(gate, OfGallery)}
