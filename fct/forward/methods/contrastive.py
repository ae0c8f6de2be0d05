"""FCT's network with LORTH's supervised contrastive term beside the squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Learned

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.losses import Compared


def loss(rows: Compared) -> Tensor:
    from fct.forward.losses import TERM_WEIGHT, contrastive

    return rows.errors.mean() + TERM_WEIGHT * contrastive(rows.carried, rows.native, rows.labels)


METHOD = Learned(
    name="contrastive",
    rung=80,
    help="The network also learns to bring a vector near new vectors of the same class.",
    h="FCT's network",
    minimises="MSE + ½ · supervised contrastive term of h(x) against y, τ = 0.1",
    source="LORTH, arXiv 2509.16664; SupCon, arXiv 2004.11362, eq. 2",
    uses=("side", "labels"),
    needs=("labels",),
    published=True,
    loss=loss,
)
