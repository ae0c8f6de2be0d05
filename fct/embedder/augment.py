"""Random views of images, on tensors, from an explicit generator.

No flips: an arrow to the left and one to the right are different classes of icon.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Strength:
    """How far a view may be from its image: degrees, fraction of the size, relative scale, side of an erased square."""

    degrees: float = 10.0
    shift: float = 0.08
    scale: float = 0.15
    erase: float = 0.0


MILD = Strength()
STRONG = Strength(degrees=15.0, shift=0.12, scale=0.25, erase=0.25)


def views(images: Tensor, generator: torch.Generator, strength: Strength = MILD) -> Tensor:
    """One random view of each image: rotated, shifted, scaled (both axes on their own), perhaps with a square erased.

    Args:
        images: (N, C, H, W) uint8; what lies outside takes the value of the image's corner (its background).
        generator: on the CPU, so that views are the same on every device.

    Returns:
        (N, C, H, W) uint8 on the device of ``images``.
    """
    n, _, height, width = images.shape
    draw = (torch.rand(n, 7, generator=generator) * 2 - 1).to(images.device)
    angle = draw[:, 0] * math.radians(strength.degrees)
    sx, sy = 1 + draw[:, 1] * strength.scale, 1 + draw[:, 2] * strength.scale
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [cos * sx, -sin * sy, 2 * strength.shift * draw[:, 3], sin * sx, cos * sy, 2 * strength.shift * draw[:, 4]], dim=1
    ).view(n, 2, 3)
    background = images[:, :, :1, :1].float()
    grid = functional.affine_grid(theta, [n, images.shape[1], height, width], align_corners=False)
    moved = functional.grid_sample(images.float() - background, grid, align_corners=False) + background
    if strength.erase > 0:
        rows = torch.arange(height, device=images.device).view(1, 1, height, 1) / height
        columns = torch.arange(width, device=images.device).view(1, 1, 1, width) / width
        top = ((draw[:, 5] + 1) / 2 * (1 - strength.erase)).view(n, 1, 1, 1)
        left = ((draw[:, 6] + 1) / 2 * (1 - strength.erase)).view(n, 1, 1, 1)
        hole = (rows >= top) & (rows < top + strength.erase) & (columns >= left) & (columns < left + strength.erase)
        moved = torch.where(hole, background, moved)
    return moved.round().clamp(0, 255).to(torch.uint8)


def recombined(images: Tensor, generator: torch.Generator) -> Tensor:
    """A new picture from each image: turned or mirrored, then mostly joined with another one.

    An h that is to hold on classes nobody labelled must have met shapes from outside of the classes at hand. Turned by quarter turns
    and mirrored (8 ways), an image is another shape; joined with a second one (its right or lower half replaced, or both drawn over
    each other: each a fifth of the time), it is one that no class has. Both embedders see the same picture, so it is a pair as good
    as any.

    Args:
        images: (N, C, S, S) uint8, square.
        generator: on the CPU; draws do not depend on S, so that two sizes of the same images give the same pictures.

    Returns:
        (N, C, S, S) uint8.
    """
    n, half = len(images), images.shape[-1] // 2
    turn = torch.randint(8, (n,), generator=generator)
    partner, way = torch.randperm(n, generator=generator), torch.randint(5, (n,), generator=generator)
    turned = images.clone()
    for number in range(8):
        rows = (turn == number).to(images.device)
        block = torch.rot90(images[rows], number % 4, (2, 3))
        turned[rows] = block.flip(3) if number >= 4 else block
    other, out = turned[partner.to(images.device)], turned.clone()
    right, lower, over = ((way == number).to(images.device) for number in range(3))
    out[right, :, :, half:] = other[right, :, :, half:]
    out[lower, :, half:] = other[lower, :, half:]
    out[over] = torch.minimum(turned[over], other[over])
    return out
