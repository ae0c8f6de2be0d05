"""Terms of the losses of learned forward transformations; each method puts its own together (:mod:`fct.forward.methods`).

Every term compares rows of a batch: row i of ``carried`` is h's output, row i of ``native`` the new model's vector of the same item.
Legend: N rows, E new dimensions, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fct.arrays.shapes import Bool, Float, Int64

CONTRASTIVE_TEMPERATURE = 0.1  # supervised contrastive learning (arXiv 2004.11362), section 4
MIXED_TEMPERATURE = 0.05  # the RACT authors' public code
TERM_WEIGHT = 0.5  # of a contrastive or mixed term beside the MSE, as in the trial of METHODS.md


def squared_error(predicted: Float[Tensor, "N E"], target: Float[Tensor, "N E"]) -> Float[Tensor, " N"]:
    """(N,) mean squared error of each row over its E dimensions: FCT's loss (arXiv 2112.02805, section 4)."""
    return ((predicted - target) ** 2).mean(dim=1)


def head_entropy(
    carried: Float[Tensor, "N E"], labels: Int64[Tensor, " N"], head: tuple[Float[Tensor, "K E"], Float[Tensor, " K"]], smoothing: float
) -> Float[Tensor, " N"]:
    """(N,) smoothed cross-entropy of each row through the frozen head of the new model; 0 for rows with label −1.

    FastFill's discriminative term (arXiv 2303.04766, section 3): carried rows must be classified as the new model's own are.

    Args:
        carried: (N, E) in the scale of the new model. labels: (N,) rows of the head or −1. head: weight (K, E), bias (K,).
    """
    logits = functional.linear(carried, head[0], head[1])
    entropy = functional.cross_entropy(logits, labels.clamp_min(0), label_smoothing=smoothing, reduction="none")
    return torch.where(labels >= 0, entropy, 0.0)


def weighed(errors: Float[Tensor, " N"], log_variance: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """(N,) ½·e^(−s)·l + ½·s: losses l weighed by the predicted log-variance s (FastFill, arXiv 2303.04766, eq. 3)."""
    return 0.5 * (-log_variance).exp() * errors + 0.5 * log_variance


def contrastive(
    carried: Float[Tensor, "N E"],
    native: Float[Tensor, "N E"],
    labels: Int64[Tensor, " N"],
    temperature: float = CONTRASTIVE_TEMPERATURE,
) -> Float[Tensor, ""]:
    """Mean over carried rows i and their positives p of −log softmax over all native rows k of cos(carried_i, native_k)/τ at p.

    LORTH's supervised contrastive term (arXiv 2509.16664) in the form L_out of arXiv 2004.11362, eq. 2, across the two spaces. The
    positives of i are i itself and every row of its label; a row with label −1 (or a label nobody else has) has itself alone, and
    where nobody has a label this is instance discrimination.

    Args:
        carried, native: (N, E) of any norm. labels: (N,), −1 = none.
    """
    logits = functional.normalize(carried, dim=1) @ functional.normalize(native, dim=1).T / temperature
    positive = _alike(labels)
    log_share = logits.log_softmax(dim=1)
    return -((log_share * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def mixed(
    carried: Float[Tensor, "N E"], native: Float[Tensor, "N E"], labels: Int64[Tensor, " N"], temperature: float = MIXED_TEMPERATURE
) -> Float[Tensor, ""]:
    """RACT's regression-alleviating term: in a mixed gallery a query's carried positive must beat native negatives, too.

    Hot-Refresh Model Upgrades (ICLR 2022), loss L_ra-comp, with h learned in place of the new model: mean over native queries i of
    log(1 + Σ_k [exp((n_i·c_k − n_i·c_i)/τ) + exp((n_i·n_k − n_i·c_i)/τ)]), n native, c carried, both L2-normalised, k over the rows
    that are not of i's label (without labels: all other rows).

    Args:
        carried, native: (N, E) of any norm. labels: (N,), −1 = none.
    """
    c, n = functional.normalize(carried, dim=1), functional.normalize(native, dim=1)
    own = (c * n).sum(dim=1, keepdim=True)
    hidden = _alike(labels)
    negatives = [((n @ other.T) - own).div(temperature).masked_fill(hidden, float("-inf")) for other in (c, n)]
    return torch.cat([torch.zeros_like(own), *negatives], dim=1).logsumexp(dim=1).mean()


def _alike(labels: Int64[Tensor, " N"]) -> Bool[Tensor, "N N"]:
    """(N, N) bool: the same row, or the same label."""
    same = (labels[:, None] == labels[None]) & (labels >= 0)[:, None]
    return same | torch.eye(len(labels), dtype=torch.bool, device=labels.device)


@dataclass(frozen=True)
class Compared:
    """A batch as a method's loss sees it, and what the settings say of the terms.

    ``predicted``, ``target``: (N, E) standardised; ``carried``, ``native``: (N, E) the same in the scale of the new model.
    ``log_variance``: (N,); ``labels``: (N,), −1 = none; ``head``: weight (K, E) and bias (K,), or None.
    """

    predicted: Tensor
    log_variance: Tensor
    target: Tensor
    carried: Tensor
    native: Tensor
    labels: Tensor
    head: tuple[Tensor, Tensor] | None
    head_weight: float
    label_smoothing: float
    uncertainty: bool

    @property
    def errors(self) -> Tensor:
        """(N,) :func:`squared_error`."""
        return squared_error(self.predicted, self.target)

    @property
    def entropy(self) -> Tensor:
        """(N,) :func:`head_entropy`; 0 without a head, or where it has no weight."""
        if self.head is None or self.head_weight <= 0:
            return torch.zeros(len(self.labels), dtype=self.predicted.dtype, device=self.predicted.device)
        return head_entropy(self.carried, self.labels, self.head, self.label_smoothing)
