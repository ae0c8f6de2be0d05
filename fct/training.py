"""Training an embedder and its classification head with cross-entropy on random views.

Legend: N images, C channels, S side in pixels, K classes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct import augment, embedder
from fct.errors import BadInput


@dataclass(frozen=True)
class EmbedderSettings:
    """How one version's embedder is made (params.yaml, ``train.v1.embedder`` …).

    ``classes``: the fraction of the known classes (by sorted name, every other one first) that it is trained on.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    architecture: str
    dim: int
    classes: float
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float


def batches(rows: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Random order, whole batches only (a last batch of one row would break BatchNorm), at least one."""
    order = torch.randperm(rows, generator=generator)
    batch = min(batch, rows)
    for start in range(0, rows - batch + 1, batch):
        yield order[start : start + batch]


def unit(images: Tensor) -> Tensor:
    """uint8 images → float ink in 0–1 (black on white becomes 1 on 0)."""
    return 1 - images.float() / 255


def train_embedder(
    images: np.ndarray, labels: np.ndarray, settings: EmbedderSettings, *, seed: int, device: torch.device, title: str = "training"
) -> tuple[nn.Module, nn.Linear]:
    """Train with cross-entropy on random views, one-cycle learning rate, AdamW.

    Args:
        images: (N, C, S, S) uint8.
        labels: (N,) class numbers 0 … K−1.

    Returns:
        the embedder and its head (D → K), on the CPU, in eval mode. Same seed, same machine: same bytes.

    Raises:
        BadInput: fewer than two classes.
    """
    classes = int(labels.max()) + 1
    if classes < 2:
        raise BadInput("an embedder needs at least two classes to learn from", got=classes, where=title)
    generator = torch.Generator().manual_seed(seed)
    net = embedder.build(settings.architecture, settings.dim, images.shape[1], images.shape[2], seed).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        head = nn.Linear(settings.dim, classes).to(device)
    x, y = torch.from_numpy(np.ascontiguousarray(images)).to(device), torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
    parameters = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = max(1, len(x) // settings.batch) * settings.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=steps + 1)
    net.train()
    with tqdm(total=settings.epochs, desc=title, unit="epoch", mininterval=1) as bar:
        for _ in range(settings.epochs):
            total = torch.zeros((), device=device)
            count = 0
            for rows in batches(len(x), settings.batch, generator):
                phi, _ = net(unit(augment.views(x[rows], generator)))
                loss = functional.cross_entropy(head(phi), y[rows], label_smoothing=settings.label_smoothing)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.detach()
                count += 1
            bar.set_postfix(loss=f"{float(total) / count:.3f}", refresh=False)
            bar.update()
    return net.cpu().eval(), head.cpu().eval()
