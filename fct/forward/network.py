"""The network of a learned forward transformation h.

Legend: N rows, D old dimensions, P side dimensions, E new dimensions, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


class ForwardNetwork(nn.Module):
    """FCT's architecture (arXiv 2112.02805, section 4.1): a branch each for old and side, concatenated, two hidden layers.

    branch(old): D → 2D → 2E; branch(side): P → 2P → 2E; concatenated → W → W → E. BatchNorm and ReLU after every layer but the
    last. One more linear unit predicts the log-variance s of FastFill. Inputs are standardised and outputs scaled back with
    statistics of the fitting pairs, which travel with the weights.
    """

    old_mean: Tensor
    old_std: Tensor
    side_mean: Tensor
    side_std: Tensor
    new_mean: Tensor
    new_scale: Tensor

    def __init__(self, old: int, side: int, new: int, width: int):
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
        self.old_branch = nn.Sequential(_layer(old, 2 * old), _layer(2 * old, 2 * new))
        self.side_branch = nn.Sequential(_layer(side, 2 * side), _layer(2 * side, 2 * new)) if side else None
        self.trunk = nn.Sequential(_layer(4 * new if side else 2 * new, width), _layer(width, width))
        self.out = nn.Linear(width, new)
        self.log_variance = nn.Linear(width, 1)

    def forward(self, old: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D), (N, P) → standardised new (N, E) (scale back with :meth:`restore`), log-variance s (N,)."""
        parts = [self.old_branch((old.float() - self.old_mean) / self.old_std)]
        if self.side_branch is not None:
            parts.append(self.side_branch((side.float() - self.side_mean) / self.side_std))
        hidden = self.trunk(torch.cat(parts, dim=1))
        return self.out(hidden), self.log_variance(hidden).squeeze(1)

    def restore(self, standardised: Tensor) -> Tensor:
        """Standardised (N, E) → vectors in the new space, in the scale the new model gives."""
        return standardised * self.new_scale + self.new_mean


class ForwardEnsemble(nn.Module):
    """Networks fitted alike from different seeds; their vectors are averaged.

    A single fit on a few thousand pairs varies by several points of the recovered fraction from seed to seed on unseen classes;
    three averaged do not, and gain on top of it (docs/decisions/0003-h.md), for three times h's arithmetic.
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
