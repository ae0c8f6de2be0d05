"""The old vectors as they are: what happens when two versions are simply mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Closed

if TYPE_CHECKING:
    from fct.forward.closed import Affine
    from fct.forward.material import Material


def fit(material: Material, without: int) -> Affine:
    from fct.forward import closed

    return closed.none(material.total(without), material.dims[0])


METHOD = Closed(
    name="none",
    rung=10,
    help="It keeps the old vectors as they are.",
    h="h(x) = x",
    minimises="nothing; needs equal dimensions",
    source="what happens when two versions are simply mixed",
    equal_dims=True,
    fit=fit,
)
