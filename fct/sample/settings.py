"""Settings of the block ``embed`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class EmbedSettings:
    """params.yaml, ``embed``: the splits that are fitting images (labelled) and pool (unlabelled), views of each, batch of a program.

    ``pool_recombined``: further views of the pool, of pictures put together from two (:func:`fct.embedder.augment.recombined`).
    ``preview``: give h what the new embedder sees in ψ, where ψ is a picture (:mod:`fct.release.preview`).
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    fitting: tuple[str, ...]
    pool: tuple[str, ...]
    views: int
    pool_views: int
    pool_recombined: int
    preview: bool
    batch: int
