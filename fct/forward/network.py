"""The network of a learned forward transformation h.

Legend: N rows, D old dimensions, P side dimensions, E new dimensions, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BRANCH_WIDEST = 1024  # beyond D, P or E = 512 the published 2D and 2E stop growing: 4,096-d vectors would need 100 M weights
LEAST_OUTPUTS = 16


class Linear(nn.Linear):
    """A linear layer whose product has at least 16 columns: the last bits of narrower ones depend on a row's place in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        if self.out_features >= LEAST_OUTPUTS:
            return super().forward(x)
        missing = LEAST_OUTPUTS - self.out_features
        weight, bias = functional.pad(self.weight, (0, 0, 0, missing)), functional.pad(self.bias, (0, missing))
        return functional.linear(x, weight, bias)[:, : self.out_features]


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


def _branch(inputs: int, outputs: int) -> nn.Sequential:
    hidden, out = min(2 * inputs, BRANCH_WIDEST), min(2 * outputs, BRANCH_WIDEST)
    return nn.Sequential(_layer(inputs, hidden), _layer(hidden, out))


class ForwardNetwork(nn.Module):
    """FCT's architecture (arXiv 2112.02805, section 4.1): a branch each for old and side, concatenated, two hidden layers.

    branch(old): D → 2D → 2E; branch(side): P → 2P → 2E (2D, 2P and 2E at most 1,024); concatenated → W → W → E. BatchNorm and ReLU
    after every layer but the last. One more linear unit predicts the log-variance s of FastFill. Inputs are standardised and
    outputs scaled back with statistics of the fitting pairs, which travel with the weights.

    Args:
        twice: without side-information, give φ_old to the second branch as well, as the paper does.
    """

    old_mean: Tensor
    old_std: Tensor
    side_mean: Tensor
    side_std: Tensor
    new_mean: Tensor
    new_scale: Tensor

    def __init__(self, old: int, side: int, new: int, width: int, twice: bool = False):
        super().__init__()
        for name, size in (
            ("old_mean", old),
            ("old_std", old),
            ("side_mean", side),
            ("side_std", side),
            ("new_mean", new),
            ("new_scale", 1),
        ):
            self.register_buffer(name, torch.zeros(size) if "mean" in name else torch.ones(size))
        self.twice = twice and not side
        second = old if self.twice else side
        self.old_branch = _branch(old, new)
        self.side_branch = _branch(second, new) if second else None
        joined = min(2 * new, BRANCH_WIDEST) * (2 if second else 1)
        self.trunk = nn.Sequential(_layer(joined, width), _layer(width, width))
        self.out = Linear(width, new)
        self.log_variance = Linear(width, 1)

    def forward(self, old: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D), (N, P) → standardised new (N, E) (scale back with :meth:`restore`), log-variance s (N,)."""
        first = (old.float() - self.old_mean) / self.old_std
        parts = [self.old_branch(first)]
        if self.side_branch is not None:
            parts.append(self.side_branch(first if self.twice else (side.float() - self.side_mean) / self.side_std))
        hidden = self.trunk(torch.cat(parts, dim=1))
        return self.out(hidden), self.log_variance(hidden).squeeze(1)

    def restore(self, standardised: Tensor) -> Tensor:
        """Standardised (N, E) → vectors in the new space, in the scale the new model gives."""
        return standardised * self.new_scale + self.new_mean


class ForwardEnsemble(nn.Module):
    """Networks fitted alike from different seeds; their vectors are averaged.

    A single fit on a few thousand pairs varies by several points of the recovered fraction from seed to seed on unseen classes;
    averaged ones do not, and gain on top of it (docs/decisions/0003-h.md), for as many times h's arithmetic.
    """

    def __init__(self, members: list[ForwardNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, old: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D), (N, P) → vectors in the new space (N, E), predicted standard deviation σ (N,), both means over the members."""
        vectors, spreads = [], []
        for member in self.members:
            assert isinstance(member, ForwardNetwork)
            out, log_variance = member(old, side)
            vectors.append(member.restore(out))
            spreads.append((0.5 * log_variance).exp())
        return torch.stack(vectors).mean(dim=0), torch.stack(spreads).mean(dim=0)
