"""Training an embedder and its classification head on random views, with one of several losses.

Legend: N images, C channels, S side in pixels, K classes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct import device as devices
from fct import embedder
from fct.embedder import augment, losses
from fct.embedder.losses import Influence
from fct.embedder.settings import EmbedderSettings
from fct.errors import BadInput


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
    images: np.ndarray,
    labels: np.ndarray,
    settings: EmbedderSettings,
    *,
    seed: int,
    device: torch.device,
    title: str = "training",
    influence: Influence | tuple[np.ndarray, np.ndarray, np.ndarray, float] | None = None,
    precision: str = devices.FLOAT32,
) -> tuple[nn.Module, nn.Linear]:
    """Train on random views, one-cycle learning rate, AdamW.

    ``supervised-contrastive`` sees two views of each image of a batch; its head learns by cross-entropy from φ that is held fixed.
    ``arcface``: the head returned is linear, see :func:`fct.embedder.losses.cosine_head`.

    Args:
        images: (N, C, S, S) uint8.
        labels: (N,) class numbers 0 … K−1.
        influence: head of an older version that must classify φ rightly too: BCT, compatible with the old gallery without h
            (:func:`fct.embedder.losses.influence`). Together with any loss.
        precision: see :func:`fct.device.precision`.

    Returns:
        the embedder and its head (D → K), on the CPU, in eval mode. Same seed, same machine: same bytes.

    Raises:
        BadInput: fewer than two classes, or an old head that does not fit.
    """
    classes = int(labels.max()) + 1
    if classes < 2:
        raise BadInput("an embedder needs at least two classes to learn from", got=classes, where=title)
    old = _frozen(Influence(*influence), classes, device) if influence is not None else None
    half = devices.precision(precision, device) == devices.BFLOAT16
    generator = torch.Generator().manual_seed(seed)
    net = embedder.build(settings.architecture, settings.dim, images.shape[1], images.shape[2], seed).to(device)
    net = net.to(memory_format=torch.channels_last)  # a step of a small ResNet takes two thirds of the time
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        head = nn.Linear(settings.dim, classes).to(device)
    x, y = torch.from_numpy(np.ascontiguousarray(images)).to(device), torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
    parameters = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    steps = max(1, len(x) // settings.batch) * settings.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=steps + 1)
    net.train()
    with tqdm(total=settings.epochs, desc=title, unit="epoch", mininterval=1) as bar:
        for _ in range(settings.epochs):
            total = torch.zeros((), device=device)
            count = 0
            for rows in batches(len(x), settings.batch, generator):
                seen = rows.repeat(2) if settings.loss == "supervised-contrastive" else rows
                batch = unit(augment.views(x[seen], generator)).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                    phi, _ = net(batch)
                phi = phi.float()
                loss = _own_loss(phi, head, y[seen], settings)
                if old is not None:
                    loss = loss + old[0] * losses.influence(phi, y[seen], *old[1:])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.detach()
                count += 1
            bar.set_postfix(loss=f"{float(total) / count:.3f}", refresh=False)
            bar.update()
    net = net.cpu().eval()  # channels last, as its program will be: half to two thirds of the time for an image
    head = head.cpu().eval()
    if settings.loss == "arcface":
        _make_linear(head, net, images)
    return net, head


def _own_loss(phi: Tensor, head: nn.Linear, labels: Tensor, settings: EmbedderSettings) -> Tensor:
    if settings.loss == "arcface":
        return losses.arcface(phi, head.weight, labels)
    if settings.loss == "supervised-contrastive":
        return losses.supervised_contrastive(phi, labels) + functional.cross_entropy(head(phi.detach()), labels)
    return functional.cross_entropy(head(phi), labels, label_smoothing=settings.label_smoothing)


def _frozen(old: Influence, classes: int, device: torch.device) -> tuple[float, Tensor, Tensor, Tensor]:
    rows = losses.rows_of(old, classes)
    weight, bias = (torch.from_numpy(np.array(piece, dtype=np.float32)).to(device) for piece in old[:2])
    return float(old.weight), weight, bias, torch.from_numpy(rows).to(device)


def _make_linear(head: nn.Linear, net: nn.Module, images: np.ndarray) -> None:
    with torch.inference_mode():
        phi = torch.cat([net(unit(torch.from_numpy(images[at : at + 512])))[0] for at in range(0, min(len(images), 4096), 512)])
    with torch.no_grad():
        weight, bias = losses.cosine_head(head.weight, phi.clone())
        head.weight.copy_(weight)
        head.bias.copy_(bias)
