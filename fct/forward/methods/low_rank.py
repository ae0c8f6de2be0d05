"""Reduced-rank ridge regression, at ridge's penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fct.forward.spec import Closed

if TYPE_CHECKING:
    from fct.forward.closed import Affine
    from fct.forward.material import Material


def fit(material: Material, without: int) -> Affine:
    return material.ridge(without).reduced(material.strength, material.rank)


def about(material: Material) -> dict[str, Any]:
    return {"ridge_strength": material.strength, "rank": material.rank}


METHOD = Closed(
    name="low-rank",
    rung=50,
    help="It fits a linear map of low rank by ridge regression.",
    h="x·W + b, rank(W) = r",
    minimises="Σ‖h(x) − y‖² + λN‖W‖²",
    source="Izenman 1975; Mukherjee & Zhu 2011",
    uses=("side", "pool"),
    fit=fit,
    about=about,
)
