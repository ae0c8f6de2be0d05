"""FastFill: FCT's network with a log-variance, taught by the new model's head as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Learned

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.losses import Compared


def loss(rows: Compared) -> Tensor:
    from fct.forward.losses import weighed

    return weighed(rows.errors + rows.head_weight * rows.entropy, rows.log_variance).mean()


METHOD = Learned(
    name="fastfill",
    rung=70,
    help="The network also learns its own uncertainty, and the new model's head must classify its vectors correctly.",
    h="FCT's network and a log-variance s",
    minimises="mean of ½·e^(−s)·l + ½·s, l = MSE + smoothed cross-entropy through the frozen head",
    source="FastFill, arXiv 2303.04766, eq. 3",
    uses=("side", "labels", "head"),
    needs=("labels", "head"),
    published=True,
    variance=True,
    loss=loss,
)
