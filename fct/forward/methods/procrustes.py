"""Orthogonal Procrustes: a rotation, a scale and a shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Closed

if TYPE_CHECKING:
    from fct.forward.closed import Affine
    from fct.forward.material import Material


def fit(material: Material, without: int) -> Affine:
    from fct.forward import closed

    return closed.procrustes(material.total(without), material.dims[0])


METHOD = Closed(
    name="procrustes",
    rung=30,
    help="It rotates, scales and moves the old vectors.",
    h="s·(x − mean x)·Q + mean y, Q (semi-)orthogonal",
    minimises="Σ‖h(x) − y‖²",
    source="Schönemann 1966; Schönemann & Carroll 1970",
    uses=("side", "pool"),
    fit=fit,
)
