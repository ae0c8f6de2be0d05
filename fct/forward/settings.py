"""Settings of a fit, and the recipes known by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

METHODS = ("procrustes", "ridge", "fct", "fastfill-pool")


@dataclass(frozen=True)
class FitSettings:
    """How h is fitted (params.yaml, ``fit``; the defaults are the shipped recipe for files without a params.yaml).

    ``members``: networks fitted alike and averaged. ``epochs``: passes over the labelled pairs, all views of an image counted. ``width``: of the two hidden layers after the
    branches. ``head_weight``: of the cross-entropy through the frozen head of the new model (needs labels and head).
    ``pool_share``: part of every batch that is drawn from the unlabelled pool. ``freeze_norm``: BatchNorm keeps its statistics
    fixed in the second half (FCT's recipe). ``uncertainty``: predict a log-variance (FastFill, arXiv 2303.04766, eq. 3).
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    method: str = "fastfill-pool"
    members: int = 3
    width: int = 768
    epochs: int = 16
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 3e-5
    head_weight: float = 0.2
    pool_share: float = 0.5
    uncertainty: bool = True
    freeze_norm: bool = False


def published_fct(settings: FitSettings, views: int) -> FitSettings:
    """FCT's published recipe (arXiv 2112.02805, section 4): MSE, Adam 5e-4, width 2048, 80 epochs of one random view an image.

    80 epochs of one view are ``80 / views`` passes over all views. The batch stays at most 256: the published 1,024 would leave
    only a couple of steps an epoch on a few thousand images.
    """
    return replace(
        settings,
        method="fct",
        members=1,
        width=2048,
        epochs=max(1, round(80 / views)),
        batch=256,
        learning_rate=5e-4,
        weight_decay=3.05e-5,
        head_weight=0.0,
        pool_share=0.0,
        uncertainty=False,
        freeze_norm=True,
    )
