"""The shipped method: networks and the ridge map, averaged, on labelled pairs and an unlabelled pool (docs/decisions/0003-h.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.forward.spec import Learned

if TYPE_CHECKING:
    from torch import Tensor

    from fct.forward.losses import Compared


def loss(rows: Compared) -> Tensor:
    """The log-variance weighs the MSE alone: a term that only the labelled rows have would be read as their uncertainty."""
    from fct.forward.losses import weighed

    errors, entropy = rows.errors, rows.entropy
    total = (weighed(errors, rows.log_variance) if rows.uncertainty else errors).mean()
    return total + rows.head_weight * entropy.sum() / (rows.labels >= 0).sum().clamp_min(1)


METHOD = Learned(
    name="fastfill-pool",
    rung=100,
    help="It averages two networks and the ridge map. The networks learn mostly from the unlabelled pool.",
    h="two networks and the ridge map, averaged",
    minimises="½·e^(−s)·MSE + ½·s, plus 0.2 · cross-entropy through the head for labelled rows; three quarters of each batch from the pool",
    source="this project, [0003](decisions/0003-h.md), [0006](decisions/0006-picture.md)",
    uses=("side", "labels", "head", "pool"),
    variance=True,
    sure=True,
    linear=True,
    loss=loss,
)
