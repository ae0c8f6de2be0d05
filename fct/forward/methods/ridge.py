"""Ridge regression, its penalty chosen on one held-out fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fct.forward.spec import Closed

if TYPE_CHECKING:
    from fct.forward.closed import Affine
    from fct.forward.material import Material


def fit(material: Material, without: int) -> Affine:
    return material.ridge(without).at(material.strength)


def about(material: Material) -> dict[str, Any]:
    return {"ridge_strength": material.strength}


METHOD = Closed(
    name="ridge",
    rung=40,
    help="It fits a linear map by ridge regression.",
    h="x·W + b",
    minimises="Σ‖h(x) − y‖² + λN‖W‖²",
    source="Hoerl & Kennard 1970",
    uses=("side", "pool"),
    fit=fit,
    about=about,
)
