"""The old vectors moved by the difference of the two means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Closed

if TYPE_CHECKING:
    from fct.forward.closed import Affine
    from fct.forward.material import Material


def fit(material: Material, without: int) -> Affine:
    from fct.forward import closed

    return closed.mean_shift(material.total(without), material.dims[0])


METHOD = Closed(
    name="mean-shift",
    rung=20,
    help="It moves the old vectors by the difference of the means.",
    h="x + mean(y) − mean(x)",
    minimises="nothing; needs equal dimensions",
    source="ladder of closed forms (LORTH, Drift-Adapter)",
    uses=("pool",),
    equal_dims=True,
    fit=fit,
)
