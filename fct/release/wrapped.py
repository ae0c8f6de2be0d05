"""The modules of a wrapped model (:mod:`fct.release.wrapping`): they are exported, and their classes' names stand in the program.

Legend: N images, S side in pixels of the program's input, K of the model's, D dimensions of φ, P codes of ψ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fct.errors import BadInput
from fct.side.coders import Projection

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CELLS = 2  # of a map, each way
WRITTEN = "fct.wrapped"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies


@dataclass(frozen=True)
class Preprocess:
    """What a model does with an image before it looks: ``size`` S in (the short side is brought to it, the middle square cut out, by who reads the
    file), ``crop`` K of its middle, then (x / 255 − ``mean``) / ``std`` channel by channel.

    Raises:
        BadInput: a crop larger than the image, or a deviation that is not above 0.

    Examples:
        >>> from fct import release
        >>> release.Preprocess(256, 224).mean  # ImageNet's, as most pretrained models want them
        (0.485, 0.456, 0.406)
        >>> release.Preprocess(128, 224)
        Traceback (most recent call last):
        fct.errors.BadInput: ...
    """

    size: int = 256
    crop: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.size:
            raise BadInput("the crop does not fit the image", wanted=f"1 to {self.size} pixels", got=self.crop)
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise BadInput("mean and deviation need three channels, deviations above 0", got=f"{self.mean}, {self.std}")


class Prepared(nn.Module):
    """(N, 3, S, S) uint8 → (N, 3, K, K) float32, as a :class:`Preprocess` says."""

    __module__ = WRITTEN

    mean: Tensor
    std: Tensor

    def __init__(self, how: Preprocess, size: int):
        super().__init__()
        self.size, self.crop, self.given = how.size, how.crop, size
        self.register_buffer("mean", torch.tensor(how.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(how.std).view(1, 3, 1, 1) * 255)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float()
        if self.given != self.size:  # of two networks in one program one may want larger images than the other
            x = functional.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        if self.crop != self.size:
            edge = (self.size - self.crop) // 2
            x = x[:, :, edge : edge + self.crop, edge : edge + self.crop]
        return (x - self.mean) / self.std


class Seen(nn.Module):
    """A model, and what one of its layers gives: (N, D) as it is; a map (N, C, h, w) or tokens (N, T, C) pooled."""

    __module__ = WRITTEN

    def __init__(self, model: nn.Module, layer: str | None, pooling: str):
        super().__init__()
        self.model, self.layer, self.pooling = model, layer, pooling

    def forward(self, x: Tensor) -> Tensor:
        return pooled(output_of(self.model, self.layer, x), self.pooling)


class Mapped(nn.Module):
    """A model, and the map of one of its layers in :data:`CELLS` × :data:`CELLS` cells, flattened; what has no layout is taken as it is."""

    __module__ = WRITTEN

    def __init__(self, model: nn.Module, layer: str | None):
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, x: Tensor) -> Tensor:
        found = output_of(self.model, self.layer, x)
        return functional.adaptive_avg_pool2d(found, CELLS).flatten(1) if found.ndim == 4 else pooled(found, "mean")


class Wrapped(nn.Module):
    """(N, 3, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8. :func:`wrap` makes it.

    Examples:
        >>> from torch import nn
        >>> from fct import release
        >>> issubclass(release.Wrapped, nn.Module)
        True
    """

    __module__ = WRITTEN

    def __init__(self, look: nn.Module, seen: nn.Module, side_look: nn.Module, side_seen: nn.Module, coder: Projection):
        super().__init__()
        self.look, self.seen, self.side_look, self.side_seen, self.coder = look, seen, side_look, side_seen, coder

    @property
    def bits(self) -> list[int]:
        """Bits of each code of ψ, as :func:`fct.release.write` wants them in ``side``."""
        return self.coder.bits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return single(self.seen(self.look(images))), self.coder(single(self.side_seen(self.side_look(images))))


def pooled(found: Tensor, pooling: str) -> Tensor:
    """(N, D) vectors as they are; maps (N, C, h, w) and tokens (N, T, C): their mean, or the first token."""
    if found.ndim == 4:
        return found.mean(dim=(2, 3))
    if found.ndim == 3:
        return found[:, 0] if pooling == "first" else found.mean(dim=1)
    if found.ndim != 2:
        raise BadInput("the model gives no vectors", wanted="(N, D), (N, C, h, w) or (N, T, C)", got=tuple(found.shape))
    return found


def single(found: Tensor) -> Tensor:
    """As float32; what is that already is passed on, not as an alias, which is an operator of its own in an exported program."""
    return found if found.dtype == torch.float32 else found.float()


def output_of(model: nn.Module, layer: str | None, x: Tensor) -> Tensor:
    """What the model, or one layer inside of it, gives."""
    if layer is None:
        found = model(x)
    else:
        held: list[Tensor] = []
        handle = model.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: held.append(output))
        try:
            model(x)
        finally:
            handle.remove()
        if not held:
            raise BadInput("the model does not pass through this layer", got=layer)
        found = held[-1]
    if not isinstance(found, Tensor):
        raise BadInput("the model gives no tensor", got=type(found).__name__, todo="name a layer")
    return found
