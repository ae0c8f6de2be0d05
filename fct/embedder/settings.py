"""Settings of the block ``train.v….embedder`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fct.errors import BadInput

LOSSES = ("softmax", "arcface", "supervised-contrastive")


@dataclass(frozen=True)
class EmbedderSettings:
    """How one version's embedder is made (params.yaml, ``train.v1.embedder`` …).

    Attributes:
        classes: the fraction of the known classes (by sorted name, every other one first) that it is trained on.
        label_smoothing: of the softmax loss; the other losses have none.
        loss: ``softmax`` (cross-entropy of a linear head), ``arcface`` or ``supervised-contrastive`` (:mod:`fct.embedder.losses`).

    Raises:
        BadInput: unknown loss.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    architecture: str
    dim: int
    classes: float
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    loss: str = "softmax"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise BadInput("embedder.loss has an unusable value", wanted=" or ".join(LOSSES), got=self.loss)
