"""Settings of the block ``train.v….side`` of params.yaml. Reading them needs neither torch nor numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fct.errors import BadInput

BITS = (8, 4, 2, 1)  # of a code of ψ, as a release may declare them
KINDS = ("simclr", "vicreg", "pca", "picture", "thumbnail")


@dataclass(frozen=True)
class SideSettings:
    """params.yaml, ``train.v1.side``: which kinds, how many dimensions and bits, how SimCLR and VICReg are trained.

    Attributes:
        kinds: any of :data:`KINDS`, each once; their codes stand in ψ in this order.
        dims: of each kind, one number for all or one for each. A thumbnail's is its pixels, a square number.
        simclr_width, simclr_epochs, simclr_batch, simclr_temperature, simclr_learning_rate: of the encoder; VICReg takes all but the
            temperature.
        bits: of every code, 8, 4, 2 or 1.
        bytes: of each kind. The PCA's components share them, and ``dims`` and ``bits`` do not count; 0: dims × bits says how many.
        images: splits of the data that ψ is prepared from, without labels; never validation or gallery.
        drawing_epochs: passes over them that train what draws a picture again.

    Raises:
        BadInput: a value is out of its range.

    Examples:
        >>> from fct.side import SideSettings
        >>> training = dict(simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002)
        >>> SideSettings(kinds=("picture", "thumbnail"), dims=(128, 16), **training).each
        (128, 16)
        >>> SideSettings(kinds=("thumbnail",), dims=10, **training)
        Traceback (most recent call last):
        fct.errors.BadInput: a thumbnail's dims are its pixels; wanted a square number such as 64, 144 or 256; got 10
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    kinds: tuple[str, ...]
    dims: int | tuple[int, ...]
    simclr_width: int
    simclr_epochs: int
    simclr_batch: int
    simclr_temperature: float
    simclr_learning_rate: float
    bits: int = 8
    bytes: int = 0
    images: tuple[str, ...] = ("train",)
    drawing_epochs: int = 4

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise BadInput("side.bits has an unusable value", wanted=" or ".join(map(str, BITS)), got=self.bits)
        if isinstance(self.dims, tuple) and len(self.dims) != len(self.kinds):
            raise BadInput("side.dims does not fit side.kinds", wanted=f"one number, or {len(self.kinds)}", got=list(self.dims))
        if min(self.each, default=1) < 1:
            raise BadInput("side.dims has an unusable value", wanted="at least 1", got=self.dims)
        if self.bytes < 0 or (self.bytes and "thumbnail" in self.kinds):
            wanted = "0 with the kind thumbnail, whose pixels have all as many bits" if self.bytes > 0 else "0 or more"
            raise BadInput("side.bytes has an unusable value", wanted=wanted, got=self.bytes)
        if self.drawing_epochs < 1:
            raise BadInput("side.drawing_epochs has an unusable value", wanted="at least 1", got=self.drawing_epochs)
        wrong = [split for split in self.images if not split.startswith(("train", "fitting", "pool"))]
        if wrong or not self.images:
            raise BadInput("side.images has an unusable value", wanted="train, fitting or pool", got=list(self.images))
        pixels = dict(zip(self.kinds, self.each, strict=True)).get("thumbnail", 1)
        if math.isqrt(pixels) ** 2 != pixels:
            raise BadInput("a thumbnail's dims are its pixels", wanted="a square number such as 64, 144 or 256", got=pixels)

    @property
    def each(self) -> tuple[int, ...]:
        """Dimensions of each kind."""
        return self.dims if isinstance(self.dims, tuple) else (self.dims,) * len(self.kinds)
