"""Wrapping a pretrained model: a module that looks at prepared images becomes a release's program, which returns (φ, ψ) for uint8 images.

The program cuts out the middle, scales and normalises by itself, so that its fingerprint covers all of that. ψ are codes of another network that
is kept for this purpose (*side network*; the same in all versions to come), or of the model's own map with its layout. Codes of another
network carried more per byte on photographs than the model's own features at any size (docs/pretrained.md).

Legend: N images, S side in pixels of the program's input, K of the model's, D dimensions of φ, F of a map, P codes of ψ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fct.errors import BadInput
from fct.release.folder import Release
from fct.release.wrapped import CELLS, Mapped, Prepared, Preprocess, Seen, Wrapped
from fct.release.writing import write
from fct.side.coders import fit_projection

POOLINGS = ("mean", "first")
BITS, BATCH = 4, 32


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
