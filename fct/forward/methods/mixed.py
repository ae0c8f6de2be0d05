"""FCT's network with RACT's term for mixed galleries beside the squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Learned

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.losses import Compared


def loss(rows: Compared) -> Tensor:
    from fct.forward.losses import TERM_WEIGHT, mixed

    return rows.errors.mean() + TERM_WEIGHT * mixed(rows.carried, rows.native, rows.labels)


METHOD = Learned(
    name="mixed",
    rung=90,
    help="The network also learns that its vectors are found in a gallery that holds new vectors too.",
    h="FCT's network",
    minimises="MSE + ½ · log(1 + Σ e^((y·h⁻ − y·h⁺)/τ) + Σ e^((y·y⁻ − y·h⁺)/τ)), τ = 0.05",
    source='RACT ("Hot-Refresh Model Upgrades", ICLR 2022)',
    uses=("side", "labels"),
    needs=("labels",),
    auto=False,
    published=True,
    loss=loss,
)
