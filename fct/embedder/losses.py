"""Losses an embedder can be trained with, beside softmax cross-entropy.

Legend: N rows of a batch, D dimensions of φ, K classes, K_old and D_old of an older head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fct.errors import BadInput

# ArcFace's own scale of 64 is for 85,000 classes. Small networks on a hundred classes from scratch do not converge with it: mAP on the
# icons' validation split 0.38 at 64, 0.41 at 30, 0.50 at 16 (softmax 0.48; margin 0.5, one seed).
ARC_SCALE = 16.0
ARC_MARGIN = 0.5
TEMPERATURE = 0.1  # supervised contrastive, the paper's


class Influence(NamedTuple):
    """The frozen head of an older version, for BCT's influence loss; any tuple of these four will do.

    Attributes:
        head_weight: (K_old, D_old) float.
        head_bias: (K_old,) float.
        classes: (K_old,) int, the new class number of each row of the old head; −1 where the new embedder has no such class.
        weight: of the influence loss beside the embedder's own.
    """

    head_weight: np.ndarray
    head_bias: np.ndarray
    classes: np.ndarray
    weight: float


def arcface(phi: Tensor, weight: Tensor, labels: Tensor, *, scale: float = ARC_SCALE, margin: float = ARC_MARGIN) -> Tensor:
    """ArcFace (Deng et al., CVPR 2019, arXiv 1801.07698, equation 3): an angle is added between φ and its own class's direction.

    Cross-entropy over scale·cos θⱼ, with scale·cos(θ_y + margin) for the own class. Where θ_y + margin would pass π, and the cosine
    rise again, cos θ_y − margin·sin(margin) takes its place, as in the authors' code.

    Args:
        phi: (N, D), any norm. weight: (K, D), any norm. labels: (N,) int64.
        margin: radians.
    """
    cosine = functional.linear(functional.normalize(phi, dim=1), functional.normalize(weight, dim=1))
    own = cosine.gather(1, labels[:, None]).squeeze(1)
    sine = (1 - own.square()).clamp_min(1e-12).sqrt()
    moved = own * math.cos(margin) - sine * math.sin(margin)
    moved = torch.where(own > math.cos(math.pi - margin), moved, own - margin * math.sin(margin))
    logits = scale * cosine.scatter(1, labels[:, None], moved[:, None])
    return functional.cross_entropy(logits, labels)


def cosine_head(weight: Tensor, phi: Tensor, *, scale: float = ARC_SCALE) -> tuple[Tensor, Tensor]:
    """ArcFace's directions as a linear head for φ as it is: weight (K, D) and bias (K,), zero.

    φ keeps its norm when it is stored, so the scale is divided by the mean norm of ``phi`` (N, D): a row of that norm gets
    scale·cos θ, every row the class with the smallest angle.
    """
    norm = phi.norm(dim=1).mean().clamp_min(1e-12)
    return scale / norm * functional.normalize(weight, dim=1), weight.new_zeros(len(weight))


def supervised_contrastive(phi: Tensor, labels: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, arXiv 2004.11362, equation 2, L_out).

    For each row the mean over its positives (other rows of its class) of −log of the positive's share among all other rows. Here on φ
    itself, which is what is searched, without the paper's projection network.

    Args:
        phi: (N, D), any norm: normalised here. labels: (N,) int64. Rows without a positive do not count; none with one: zero.
    """
    unit = functional.normalize(phi, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    log_share = torch.log_softmax((unit @ unit.T / temperature).masked_fill(itself, float("-inf")), dim=1)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    count = positive.sum(dim=1)
    rows = -log_share.masked_fill(~positive, 0.0).sum(dim=1) / count.clamp_min(1)
    return rows.sum() / (count > 0).sum().clamp_min(1)


def influence(phi: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, old_rows: Tensor) -> Tensor:
    """BCT's influence loss (Shen et al., CVPR 2020, arXiv 2003.11942, section 3): the frozen old head must classify the new φ rightly.

    Cross-entropy over the old classes of the rows whose class the old head knows; the others do not count; none: zero. Where the
    dimensions differ the first min(D, D_old) of both are used, as if the shorter one went on with zeros.

    Args:
        phi: (N, D). labels: (N,) int64, new class numbers 0 … K − 1. weight: (K_old, D_old). bias: (K_old,).
        old_rows: (K,) int64, the old head's row of each new class, −1 for none; see :func:`rows_of`.
    """
    wanted = old_rows[labels]
    shared = min(phi.shape[1], weight.shape[1])
    logits = functional.linear(phi[:, :shared], weight[:, :shared], bias)
    known = wanted >= 0
    rows = functional.cross_entropy(logits, wanted.clamp_min(0), reduction="none")
    return (rows * known).sum() / known.sum().clamp_min(1)


def rows_of(old: Influence, classes: int) -> np.ndarray:
    """The old head's row of each of K new classes, −1 where it has none: (K,) int64.

    Raises:
        BadInput: the head's pieces do not fit each other, a class number is out of range or named twice, or no class is shared.
    """
    weight, bias, numbers = (np.asarray(piece) for piece in old[:3])
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or numbers.shape != bias.shape or numbers.dtype.kind not in "iu":
        raise BadInput(
            "the old head's pieces do not fit each other",
            wanted="weight (K, D), bias (K,) and whole class numbers (K,)",
            got=f"{weight.shape}, {bias.shape} and {numbers.shape} {numbers.dtype}",
        )
    shared = numbers[numbers >= 0]
    if (numbers < -1).any() or (shared >= classes).any() or len(np.unique(shared)) < len(shared):
        raise BadInput(
            "the old head's class numbers are unusable", wanted=f"−1, or different ones of 0 … {classes - 1}", got=numbers.tolist()[:10]
        )
    if not len(shared):
        raise BadInput("the old head knows none of the new classes", wanted="at least one shared class", todo="train without influence")
    rows = np.full(classes, -1, np.int64)
    rows[shared] = np.flatnonzero(numbers >= 0)
    return rows
