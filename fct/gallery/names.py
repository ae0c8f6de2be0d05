"""Names of a gallery's tables, and what is read from them and written to them.

Legend: N rows, D dimensions of φ, P dimensions of ψ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fct.arrays.digests import of_json
from fct.errors import BadInput

ITEMS = "items"
FEATURES = "features/"
ROLES = ("item", "canary")
NATIVE, BACKFILLED = "native", "backfilled"
"""Origins of a vector that the version itself computed: when the item arrived, or later in the place of a carried one."""
TEXTS = ("label", "source", "image_uri", "role")
SPACE = re.compile(r"spaces/v([1-9]\d*)-([0-9a-f]{12}|native)(?:-[1-9]\d*)?")


class Ingested(NamedTuple):
    """Rows an ingest wrote, and rows that were there already."""

    added: int
    unchanged: int


class Batch(NamedTuple):
    """Features of one version: ids (N,) str, phi (N, D) as stored, psi (N, P) int8."""

    ids: np.ndarray
    phi: np.ndarray
    psi: np.ndarray


class SpaceRows(NamedTuple):
    """Rows of a space: ids (N,) str, vectors (N, D) float32, origin (N,) str, uncertainty (N,) float32."""

    ids: np.ndarray
    vectors: np.ndarray
    origin: np.ndarray
    uncertainty: np.ndarray


@dataclass(frozen=True)
class FeatureInfo:
    """What a features table holds: dimensions, dtype of φ, fingerprint of the embedder, bits of each code of ψ."""

    phi_dim: int
    psi_dim: int
    phi_dtype: str
    fingerprint: str
    psi_bits: tuple[int, ...]


@dataclass(frozen=True)
class SpaceInfo:
    """What a space holds: version n, dimension, fingerprint of φ_n, native version → digest of h."""

    version: int
    dim: int
    fingerprint: str
    forward: dict[int, str]


def features_name(version: int) -> str:
    return f"{FEATURES}v{version}"


def space_name(version: int, forward: Mapping[int, str], recipe: int = 1) -> str:
    """Name of the space of a release: one h gives its digest, several a digest of all, none (a first release) ``native``.

    A space that is made once more after it was dropped has a number behind that: ``spaces/v2-0123456789ab-2``.

    Args:
        recipe: number of the recipe by which h's are applied; from 2 on it is part of the name.
    """
    digests = list(forward.values())
    if recipe > 1:
        digests = [of_json({"forward": {str(m): h for m, h in forward.items()}, "recipe": recipe})]
    mark = "native" if not digests else digests[0] if len(digests) == 1 else of_json({str(m): h for m, h in forward.items()})
    return f"spaces/v{version}-{mark[:12]}"


def forward_origin(old: int, new: int) -> str:
    """Origin of a row that h carried from version ``old`` to ``new``."""
    return f"forward {old}→{new}"


def strings(name: str, values: Sequence[str] | np.ndarray, rows: int | None = None, *, unique: bool = False) -> np.ndarray:
    """(N,) texts that can be stored; BadInput names the first that cannot, or an id that comes twice."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    wrong = next((one for one in listed if not isinstance(one, str) or "\0" in one or (unique and not one)), None)
    if wrong is not None:
        raise BadInput(f"{name} holds a value that cannot be stored", wanted="text without NUL, not empty for an id", got=repr(wrong))
    if rows is not None and len(listed) != rows:
        raise BadInput(f"{name} has the wrong number of rows", wanted=rows, got=len(listed), todo="rows must correspond one to one")
    array = np.asarray(listed, dtype=str)
    if unique:
        seen, counts = np.unique(array, return_counts=True)
        if (counts > 1).any():
            raise BadInput(f"{name} holds the same id twice", got=seen[counts > 1][0])
    return array


def meta(schema: Any) -> dict[str, str]:
    """What we wrote beside a table's columns."""
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
