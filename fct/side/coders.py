"""From what a kind of side-information is made of to codes: a PCA in few bits, or a small grey picture.

Legend: N images, C channels, S side in pixels, F flattened map, P dimensions of ψ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fct.arrays.shapes import Float, Float64, Int8, UInt8
from fct.errors import BadInput
from fct.side import codes

LEVELS = 127  # 8 bits: int8, symmetric
WRITTEN = "fct.coders"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies


class Projection(nn.Module):
    """A flattened map → int8 codes: PCA, then one step size per dimension.

    ``reach``: 2^(bits − 1) of each dimension, or None for 8 bits, where a code is the nearest whole number of steps in −127 … 127;
    see :mod:`fct.side.codes` for the others.
    """

    __module__ = WRITTEN

    mean: Tensor
    components: Tensor
    step: Tensor
    reach: Tensor | None

    def __init__(self, mean: Tensor, components: Tensor, step: Tensor, reach: Tensor | None = None):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("step", step)
        self.register_buffer("reach", reach)

    @property
    def bits(self) -> list[int]:
        """Bits of each code."""
        return [8] * len(self.step) if self.reach is None else [int(reach).bit_length() for reach in self.reach.tolist()]

    def forward(self, maps: Tensor) -> Tensor:
        """(N, F) float → (N, P) int8."""
        found = (maps - self.mean) @ self.components / self.step
        if self.reach is None:
            return found.round().clamp(-LEVELS, LEVELS).to(torch.int8)
        return torch.minimum(torch.maximum(found.floor(), -self.reach), self.reach - 1).to(torch.int8)


def fit_projection(maps: np.ndarray, dims: int, bits: int | Sequence[int] = 8) -> Projection:
    """PCA of (N, F) float maps to ``dims`` dimensions, and the step of each.

    8 bits: the 99.9th percentile just fits int8 (the error is below 0.1 % of the variance whatever the rule). Fewer: the step that
    loses least (:func:`fct.side.codes.best_steps`), with clipping and rounding weighed against each other on these maps.

    Args:
        bits: of every code, or of each of the ``dims`` codes, as :func:`fct.side.codes.bits_per_component` shares them out.

    Raises:
        BadInput: fewer rows or columns than ``dims``, or bits that no code can have.
    """
    each = codes.bits_of(np.asarray(bits), dims)
    if min(maps.shape) < dims:
        raise BadInput(
            "there is too little data for the PCA of the side-information",
            wanted=f"at least {dims} images and map values",
            got=maps.shape,
            todo="lower side.dims",
        )
    return _coded(*_principal(maps, dims), each)


def _principal(maps: Float[np.ndarray, "N F"], dims: int) -> tuple[Float64[Tensor, " F"], Float64[Tensor, "F P"], Float64[Tensor, "N P"]]:
    """Mean (F,), components (F, ``dims``) by falling variance, and the maps projected on them (N, ``dims``); float64."""
    data = torch.from_numpy(np.asarray(maps, dtype=np.float64))
    mean = data.mean(dim=0)
    data = data - mean
    _, vectors = torch.linalg.eigh(data.T @ data / len(data))
    components = vectors[:, -dims:].flip(1)
    components = components * torch.sign(components.gather(0, components.abs().argmax(dim=0, keepdim=True)))  # eigh's signs are arbitrary
    return mean, components, data @ components


def _coded(mean: Tensor, components: Tensor, projected: Tensor, each: np.ndarray) -> Projection:
    if (each == 8).all():
        step = torch.quantile(projected.abs(), 0.999, dim=0) / LEVELS
        return Projection(mean.float(), components.float(), step.clamp_min(1e-12).float())
    step = torch.from_numpy(codes.best_steps(projected.numpy(), each))
    reach = torch.from_numpy(2.0 ** (each - 1)).float()
    return Projection(mean.float(), components.float(), step.clamp_min(1e-12).float(), reach)


def fit_water_filled(maps: np.ndarray, total_bits: int, most_dims: int = 512) -> tuple[Projection, np.ndarray]:
    """PCA whose components share ``total_bits`` by their variance (:func:`fct.side.codes.bits_per_component`): (projection, bits (P,)).

    For equal bytes it keeps more of the map than any number of bits that all components have. P is what the bits are enough for, at
    most ``most_dims``; :func:`fct.side.codes.pack` takes the bits as they are.

    Raises:
        BadInput: too few maps, or more bits than the components can take.
    """
    dims = min(*maps.shape, total_bits, most_dims)
    mean, components, projected = _principal(maps, dims)
    bits = codes.bits_per_component(projected.numpy().var(axis=0), total_bits)
    bits = bits[bits > 0]  # variances fall, so these are the first
    return _coded(mean, components[:, : len(bits)], projected[:, : len(bits)], codes.bits_of(bits, len(bits))), bits


class Thumbnail(nn.Module):
    """The picture in ``side`` × ``side`` grey pixels of 2^bits levels; white and black are among them."""

    __module__ = WRITTEN

    def __init__(self, side: int, bits: int):
        super().__init__()
        self.side = side
        self.levels = 2**bits

    @property
    def bits(self) -> list[int]:
        """Bits of each code."""
        return [self.levels.bit_length() - 1] * self.side**2

    def forward(self, ink: Tensor) -> Tensor:
        """(N, C, S, S) float ink in 0–1 → (N, side²) int8 from −2^(bits−1), no ink, to 2^(bits−1) − 1, all ink."""
        grey = ink.mean(dim=1, keepdim=True)
        if self.side != grey.shape[-1]:
            grey = functional.interpolate(grey, size=(self.side, self.side), mode="bilinear", antialias=True)
        most = self.levels - 1
        return ((grey.flatten(1) * most).round().clamp(0, most) - self.levels // 2).to(torch.int8)


def enlarge(thumbnails: Int8[np.ndarray, "N P"], bits: int, size: int) -> UInt8[np.ndarray, "N 1 {size} {size}"]:
    """Codes (N, side²) int8 of :class:`Thumbnail` → grey pictures (N, 1, size, size) uint8, enlarged bilinearly."""
    side = math.isqrt(thumbnails.shape[1])
    ink = (torch.from_numpy(thumbnails).float() + 2 ** (bits - 1)).view(-1, 1, side, side) / (2**bits - 1)
    large = functional.interpolate(1 - ink, size=(size, size), mode="bilinear")
    return (large * 255).round().clamp(0, 255).to(torch.uint8).numpy()
