"""Encoders trained without labels, for side-information: SimCLR and VICReg on random views of a release's own images.

Legend: N images, C channels, S side in pixels, D dimensions of a projection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct.arrays.shapes import Float
from fct.embedder import augment
from fct.embedder.networks import _Block, _conv
from fct.embedder.training import batches, unit

if TYPE_CHECKING:
    from fct.side.settings import SideSettings

GRID = 4
WRITTEN = "fct.ssl"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies


class MapEncoder(nn.Module):
    """A small residual network; its output is a 4×4 map, not a pooled vector."""

    __module__ = WRITTEN

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.channels = channels
        self.net = nn.Sequential(
            _conv(channels, width, 2), _conv(width, 2 * width, 2), _Block(2 * width, 3 * width, 2), nn.AdaptiveAvgPool2d(GRID)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, S, S) float in 0–1 → (N, c, 4, 4)."""
        return self.net(images)


def nt_xent(first: Float[Tensor, "N D"], second: Float[Tensor, "N D"], temperature: float) -> Float[Tensor, ""]:
    """NT-Xent: each view must find the other view of its image among all 2N − 2 views of other images (SimCLR, eq. 1).

    Args:
        first, second: (N, D) projections of two views, row by row of the same image.
    """
    both = functional.normalize(torch.cat([first, second]), dim=1)
    n = len(first)
    scores = both @ both.T / temperature
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=both.device), float("-inf"))
    partner = torch.arange(2 * n, device=both.device).roll(n)
    return functional.cross_entropy(scores, partner)


def vicreg(
    first: Float[Tensor, "N D"], second: Float[Tensor, "N D"], *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Float[Tensor, ""]:
    """VICReg (Bardes, Ponce, LeCun, ICLR 2022, arXiv 2105.04906, equations 1–6, invariance averaged over D as in its algorithm 1).

    λ·mean (z − z')² + μ·(v(Z) + v(Z')) + ν·(c(Z) + c(Z')), where v = 1/D Σⱼ max(0, 1 − √(Var zⱼ + 10⁻⁴)) keeps every dimension
    spread out and c = 1/D Σ_{i≠j} Cov(Z)ᵢⱼ² keeps them different. Variance and covariance divide by N − 1.

    Args:
        first, second: (N, D) projections of two views, row by row of the same image, N ≥ 2.
        invariance, variance, covariance: λ, μ, ν.
    """
    spread = sum((functional.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in (first, second)), first.new_zeros(()))
    shared = first.new_zeros(())
    for z in (first, second):
        centred = z - z.mean(dim=0)
        products = centred.T @ centred / (len(z) - 1)
        shared = shared + (products.square().sum() - products.diagonal().square().sum()) / z.shape[1]
    return invariance * functional.mse_loss(first, second) + variance * spread + covariance * shared


def train_simclr(images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str) -> MapEncoder:
    """Train the encoder with NT-Xent on (N, C, S, S) uint8 images without labels; the projection head is thrown away."""

    def head(features: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128))

    def loss(first: Tensor, second: Tensor) -> Tensor:
        return nt_xent(first, second, settings.simclr_temperature)

    return _train(images, settings, head, loss, seed=seed, device=device, title=title)


def train_vicreg(images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str) -> MapEncoder:
    """The same with VICReg's loss; width, epochs, batch and learning rate are SimCLR's, there is no temperature."""

    def head(features: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256))

    return _train(images, settings, head, vicreg, seed=seed, device=device, title=title)


def _train(
    images: np.ndarray,
    settings: SideSettings,
    make_head: Callable[[int], nn.Module],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int,
    device: torch.device,
    title: str,
) -> MapEncoder:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MapEncoder(images.shape[1], settings.simclr_width).to(device)
        head = make_head(3 * settings.simclr_width * GRID * GRID).to(device)
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=settings.simclr_learning_rate, weight_decay=1e-4)
    per_epoch = max(1, len(x) // settings.simclr_batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.simclr_learning_rate, total_steps=per_epoch * settings.simclr_epochs + 1
    )
    net.train()
    with tqdm(total=settings.simclr_epochs, desc=title, unit="epoch", mininterval=1) as bar:
        for _ in range(settings.simclr_epochs):
            for rows in batches(len(x), settings.simclr_batch, generator):
                pair = [augment.views(x[rows], generator, augment.STRONG) for _ in range(2)]
                both = head(net(unit(torch.cat(pair))))
                loss = loss_of(both[: len(rows)], both[len(rows) :])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
            bar.update()
    return net.cpu().eval()
