"""Side-information ψ: what is stored beside φ for every gallery item, prepared before the next version is known.

Two built-in kinds, both keep the spatial layout (a globally pooled ψ carries half as much), both made from the releasing
version's own training images alone:

``simclr``  an encoder trained by SimCLR (Chen et al. 2020, NT-Xent) as FCT proposes (arXiv 2112.02805, section 3.2), projected from
            its flattened feature map.
``pca``     the embedder's own mid-level map, flattened.

Each is projected by a PCA and stored as int8. Legend: N images, C channels, S side in pixels, F flattened map, P dimensions of ψ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct import augment
from fct.embedder import _Block, _conv
from fct.errors import BadInput
from fct.training import batches, unit

KINDS = ("simclr", "pca")
GRID = 4
LEVELS = 127  # int8, symmetric


@dataclass(frozen=True)
class SideSettings:
    """params.yaml, ``train.v1.side``: which kinds, how many dimensions (= bytes) each, how SimCLR is trained."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    kinds: tuple[str, ...]
    dims: int
    simclr_width: int
    simclr_epochs: int
    simclr_batch: int
    simclr_temperature: float
    simclr_learning_rate: float


class SimCLREncoder(nn.Module):
    """A small residual network; its output is a 4×4 map, not a pooled vector."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.channels = channels
        self.net = nn.Sequential(
            _conv(channels, width, 2), _conv(width, 2 * width, 2), _Block(2 * width, 3 * width, 2), nn.AdaptiveAvgPool2d(GRID)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, S, S) float in 0–1 → (N, c, 4, 4)."""
        return self.net(images)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
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


def train_simclr(images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str) -> SimCLREncoder:
    """Train the encoder on (N, C, S, S) uint8 images without labels; the projection head is thrown away."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = SimCLREncoder(images.shape[1], settings.simclr_width).to(device)
        features = 3 * settings.simclr_width * GRID * GRID
        head = nn.Sequential(nn.Flatten(), nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128)).to(device)
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
                loss = nt_xent(both[: len(rows)], both[len(rows) :], settings.simclr_temperature)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
            bar.update()
    return net.cpu().eval()


class Projection(nn.Module):
    """A flattened map → int8 codes: PCA, then one step size per dimension."""

    mean: Tensor
    components: Tensor
    step: Tensor

    def __init__(self, mean: Tensor, components: Tensor, step: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("step", step)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, F) float → (N, P) int8."""
        codes = (maps - self.mean) @ self.components / self.step
        return codes.round().clamp(-LEVELS, LEVELS).to(torch.int8)


def fit_projection(maps: np.ndarray, dims: int) -> Projection:
    """PCA of (N, F) float maps to ``dims`` dimensions; steps so that the 99.9th percentile of each just fits int8.

    Raises:
        BadInput: fewer rows or columns than ``dims``.
    """
    if min(maps.shape) < dims:
        raise BadInput(
            "too little to project side-information from",
            wanted=f"at least {dims} images and map values",
            got=maps.shape,
            todo="lower side.dims",
        )
    data = torch.from_numpy(np.asarray(maps, dtype=np.float64))
    mean = data.mean(dim=0)
    _, vectors = torch.linalg.eigh((data - mean).T @ (data - mean) / len(data))
    components = vectors[:, -dims:].flip(1)
    components = components * torch.sign(components.gather(0, components.abs().argmax(dim=0, keepdim=True)))  # eigh's signs are arbitrary
    spread = torch.quantile(((data - mean) @ components).abs(), 0.999, dim=0)
    return Projection(mean.float(), components.float(), (spread / LEVELS).clamp_min(1e-12).float())


def layout(maps: Tensor, most: int = 8) -> Tensor:
    """(N, c, h, w) → (N, F): flattened with its layout, pooled to at most ``most`` × ``most`` cells."""
    if maps.shape[-1] > most:
        maps = functional.adaptive_avg_pool2d(maps, most)
    return maps.flatten(1)


class Program(nn.Module):
    """What is exported as one program: uint8 images → (φ, ψ)."""

    def __init__(self, embedder: nn.Module, simclr: nn.Module | None, projections: dict[str, Projection]):
        super().__init__()
        self.embedder = embedder
        self.simclr = simclr
        self.projections = nn.ModuleDict(projections)

    def maps(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(N, C, S, S) uint8 → φ (N, D) and each kind's flattened map (N, F)."""
        x = unit(images)
        phi, middle = self.embedder(x)
        found = {"pca": layout(middle)}
        if self.simclr is not None:
            found["simclr"] = layout(self.simclr(x))
        return phi, found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8."""
        phi, found = self.maps(images)
        return phi, torch.cat([projection(found[kind]) for kind, projection in self.projections.items()], dim=1)


def prepare(
    embedder: nn.Module, images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str = "side-information"
) -> Program:
    """Make the program of a release: train what ψ needs on the release's own images and project.

    Args:
        embedder: (N, C, S, S) float in 0–1 → φ (N, D), map (N, c, h, w); eval mode.
        images: (N, C, S, S) uint8, the images the embedder was trained on.

    Raises:
        BadInput: unknown, repeated or no kind of side-information.
    """
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown or not settings.kinds or len(set(settings.kinds)) < len(settings.kinds):
        raise BadInput("unknown, repeated or no kind of side-information", wanted=" and ".join(KINDS), got=list(settings.kinds))
    simclr = train_simclr(images, settings, seed=seed, device=device, title=title) if "simclr" in settings.kinds else None
    program = Program(embedder, simclr, {}).eval()
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {kind: [] for kind in settings.kinds}
    with torch.inference_mode():
        for view in range(4):  # the first as it is, then random views: a PCA of 1,000 maps alone follows their noise
            for start in range(0, len(images), 512):
                block = torch.from_numpy(np.ascontiguousarray(images[start : start + 512]))
                _, maps = program.maps(augment.views(block, generator) if view else block)
                for kind in settings.kinds:
                    found[kind].append(maps[kind])
    projections = {kind: fit_projection(torch.cat(found[kind]).numpy(), settings.dims) for kind in settings.kinds}
    return Program(embedder, simclr, projections).eval()
