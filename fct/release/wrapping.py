"""Wrapping a pretrained model: a module that looks at prepared images becomes a release's program, which returns (φ, ψ) for uint8 images.

The program cuts out the middle, scales and normalises by itself, so that its fingerprint covers all of that. ψ are codes of another network that
is kept for this purpose (*side network*; the same in all versions to come), or of the model's own map with its layout. Codes of another
network carried more per byte on photographs than the model's own features at any size (docs/pretrained.md).

Legend: N images, S side in pixels of the program's input, K of the model's, D dimensions of φ, F of a map, P codes of ψ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct.errors import BadInput
from fct.release.folder import Release
from fct.release.writing import write
from fct.side.coders import Projection, fit_projection

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POOLINGS = ("mean", "first")
WRITTEN = "fct.wrapped"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies
BITS, CELLS, BATCH = 4, 2, 32


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


def wrap(
    model: nn.Module,
    images: np.ndarray,
    *,
    preprocess: Preprocess | None = None,
    layer: str | None = None,
    pooling: str = "mean",
    side_network: nn.Module | None = None,
    side_preprocess: Preprocess | None = None,
    side_layer: str | None = None,
    side_bytes: int = 128,
) -> Wrapped:
    """A program of a pretrained model, for :func:`fct.release.write` (``side={"bits": wrapped.bits}``).

    Args:
        model: (N, 3, K, K) float32, normalised → vectors (N, D), a map (N, C, h, w) or tokens (N, T, C); on the CPU.
        images: (N, 3, S, S) uint8, N ≥ 2 · ``side_bytes``: ψ's components and steps are fitted on them. They need no labels; fitting images, never items.
        layer: dotted name of the layer whose output is φ; by default the model's own output.
        pooling: of a map or of tokens: ``mean``, or the ``first`` token.
        side_network: makes ψ; by default the model itself, by its map ``side_layer`` (default: its last one).
        side_bytes: of ψ, four bits a component.

    Raises:
        BadInput: no such layer (the near ones are named), images of another size than ``preprocess.size``, too few images for so many
            bytes, or a model that gives something else.

    Examples:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> from fct import release
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> images = np.random.default_rng(0).integers(0, 256, (40, 3, 20, 20)).astype("uint8")  # your fitting images
        >>> program = release.wrap(model, images, preprocess=release.Preprocess(20, 16), layer="3", side_bytes=4)
        >>> phi, psi = program(torch.from_numpy(images[:2]))
        >>> phi.shape, psi.shape, psi.dtype
        (torch.Size([2, 8]), torch.Size([2, 8]), torch.int8)
        >>> isinstance(program, release.Wrapped), program.bits == [4] * 8
        (True, True)
    """
    how = preprocess or Preprocess()
    side_how = side_preprocess or (how if side_network is None else Preprocess())
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (3, how.size, how.size):
        raise BadInput(
            "the images have the wrong form", wanted=f"(N, 3, {how.size}, {how.size}) uint8", got=f"{images.shape} {images.dtype}"
        )
    if pooling not in POOLINGS:
        raise BadInput("unknown pooling", wanted=" or ".join(POOLINGS), got=pooling)
    _named(model, layer, "layer")
    second = model if side_network is None else side_network
    if side_network is None and side_layer is None:
        side_layer = _last_map(model, how)
    _named(second, side_layer, "side_layer")
    look, side_look = Prepared(how, how.size), Prepared(side_how, how.size)
    seen = Seen(model, layer, pooling).eval()
    side_seen = (Mapped(second, side_layer) if side_network is None else Seen(second, side_layer, "mean")).eval()
    _checked(lambda: seen(look(torch.from_numpy(images[:2]))))
    maps = _maps(lambda batch: side_seen(side_look(batch)), images)
    coder = fit_projection(maps, _components(side_bytes, maps.shape), BITS)
    return Wrapped(look, seen, side_look, side_seen, coder).eval()


def write_wrapped(
    folder: str | Path, wrapped: Wrapped, canaries: np.ndarray, *, size: int, metric: str = "cosine", made_of: dict[str, Any] | None = None
) -> Release:
    """Write the release folder of a wrapped model; (K, 3, S, S) uint8 ``canaries`` are images of no user, K ≥ 8.

    Args:
        made_of: what is worth knowing of the model and its side network, for people.

    Raises:
        BadInput: as :func:`fct.release.writing.write`.
    """
    names = [f"canary-{number:03d}" for number in range(len(canaries))]
    about = {"bits": wrapped.bits, **(made_of or {})}
    return write(folder, wrapped, size=size, mode="RGB", canary_ids=names, canary_images=canaries, metric=metric, side=about)


def _components(side_bytes: int, shape: tuple[int, ...]) -> int:
    wanted = side_bytes * 8 // BITS
    if side_bytes < 1 or wanted > min(shape):
        raise BadInput(
            "ψ cannot have so many bytes",
            wanted=f"1 to {min(shape) * BITS // 8} bytes, from {shape[0]} images and {shape[1]} features",
            got=side_bytes,
            todo="give more images, or ask for fewer bytes",
        )
    return wanted


def _maps(see: Callable[[Tensor], Tensor], images: np.ndarray) -> np.ndarray:
    """(N, F) float32 of what the side network sees."""
    blocks = [torch.from_numpy(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    bar = tqdm(blocks, desc="fitting side-information", unit="batch", leave=False)
    return np.concatenate([_checked(partial(see, block)).numpy() for block in bar])


def _checked(run: Callable[[], Tensor]) -> Tensor:
    """What a model gives, as float32; BadInput where it cannot take such images."""
    try:
        with torch.inference_mode():
            return run().float()
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            "the model cannot take these images", got=str(error).strip().splitlines()[0], todo="check size and crop of its preprocessing"
        ) from error


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


def _named(model: nn.Module, layer: str | None, what: str) -> None:
    names = [name for name, _ in model.named_modules() if name]
    if layer is not None and layer not in names:
        near = get_close_matches(layer, names, n=5, cutoff=0.3) or names[-5:]
        raise BadInput(f"the model has no {what} of this name", wanted=f"such as {', '.join(near)}", got=layer)


def _last_map(model: nn.Module, how: Preprocess) -> str | None:
    """The name of the last layer that gives a map (N, C, h, w) of several places; None where none does."""
    found: list[str] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] >= CELLS:
                found.append(name)

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in _leaves(model)]
    try:
        _checked(lambda: Seen(model, None, "mean").eval()(torch.zeros(2, 3, how.crop, how.crop)))
    finally:
        for handle in handles:
            handle.remove()
    return found[-1] if found else None


def _leaves(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    return ((name, part) for name, part in model.named_modules() if name and not any(part.children()))
