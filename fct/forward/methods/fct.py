"""FCT: the network and its squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Learned

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.losses import Compared


def loss(rows: Compared) -> Tensor:
    return rows.errors.mean()


METHOD = Learned(
    name="fct",
    rung=60,
    help="FCT's network learns the new vectors.",
    h="FCT's network",
    minimises="mean squared error",
    source="FCT, arXiv 2112.02805",
    uses=("side",),
    needs=("labels",),
    published=True,
    loss=loss,
)
