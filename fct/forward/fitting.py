"""Fitting a learned h on pairs.

Legend: N labelled pairs, M pool pairs, D old, P side, E new dimensions, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from fct.forward.network import ForwardNetwork
from fct.forward.settings import FitSettings


@dataclass(frozen=True)
class Pairs:
    """Rows that correspond: old (N, D), side (N, P; P may be 0), new (N, E); labels (N,) class numbers or −1."""

    old: np.ndarray
    side: np.ndarray
    new: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Pairs:
        return Pairs(self.old[rows], self.side[rows], self.new[rows], self.labels[rows])

    def __len__(self) -> int:
        return len(self.old)


def loss(
    predicted: Tensor,
    log_variance: Tensor,
    target: Tensor,
    restored: Tensor,
    labels: Tensor,
    head: tuple[Tensor, Tensor] | None,
    settings: FitSettings,
) -> Tensor:
    """MSE, weighted by the predicted uncertainty, plus cross-entropy through the frozen head of the new model.

    FastFill (arXiv 2303.04766, eq. 3): ½·e^(−s)·l + ½·s. Here s weighs the MSE term alone: batches mix labelled rows and rows of
    the pool, and a term that only some rows have would otherwise be read as their uncertainty.

    Args:
        predicted, target: (N, E) standardised; restored: (N, E) ``predicted`` in the scale of the new model.
        log_variance: (N,); labels: (N,), −1 = none; head: weight (K, E) and bias (K,).
    """
    error = ((predicted - target) ** 2).mean(dim=1)
    if settings.uncertainty:
        error = 0.5 * (-log_variance).exp() * error + 0.5 * log_variance
    total = error.mean()
    if head is not None and settings.head_weight > 0:
        known = labels >= 0
        if bool(known.any()):
            logits = functional.linear(restored[known], head[0], head[1])
            total = total + settings.head_weight * functional.cross_entropy(logits, labels[known], label_smoothing=0.1)
    return total


def _standardise(net: ForwardNetwork, pairs: list[Pairs]) -> None:
    for name in ("old", "side"):
        data = np.concatenate([getattr(p, name) for p in pairs]).astype(np.float64)
        if data.shape[1]:
            getattr(net, f"{name}_mean").copy_(torch.from_numpy(data.mean(axis=0)))
            getattr(net, f"{name}_std").copy_(torch.from_numpy(np.maximum(data.std(axis=0), 1e-6)))
    new = np.concatenate([p.new for p in pairs]).astype(np.float64)
    net.new_mean.copy_(torch.from_numpy(new.mean(axis=0)))
    net.new_scale.copy_(torch.tensor([max(float(new.std(axis=0).mean()), 1e-6)]))  # one scale: MSE keeps its proportions


def fit_network(
    pairs: Pairs,
    pool: Pairs | None,
    head: tuple[np.ndarray, np.ndarray] | None,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    title: str,
) -> ForwardNetwork:
    """Train h with AdamW, one warm-up and a cosine; bfloat16 autocast halves the time of a step within the noise of seeds.

    Returns:
        the network on the CPU in eval mode. Same seed, same machine: same bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ForwardNetwork(pairs.old.shape[1], pairs.side.shape[1], pairs.new.shape[1], settings.width)
    _standardise(net, [pairs] if pool is None else [pairs, pool])
    net.to(device).train()

    def on_device(p: Pairs) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (p.old, p.side, p.new, p.labels.astype(np.int64))]

    labelled, unlabelled = on_device(pairs), on_device(pool) if pool is not None else None
    frozen = tuple(torch.from_numpy(np.asarray(a, dtype=np.float32)).to(device) for a in head) if head is not None else None
    from_pool = round(settings.batch * settings.pool_share) if unlabelled is not None else 0
    from_pairs = min(settings.batch - from_pool, len(pairs))
    per_epoch = max(1, len(pairs) // from_pairs)
    steps = per_epoch * settings.epochs
    warm = max(1, steps // 16)  # FCT: 5 of 80 epochs
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (step + 1) / warm if step < warm else 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm)))),
    )
    order = torch.empty(0, dtype=torch.int64)
    with tqdm(total=steps, desc=title, unit="step", mininterval=1) as bar:
        for step in range(steps):
            if settings.freeze_norm and step == steps // 2:
                for module in net.modules():
                    if isinstance(module, torch.nn.BatchNorm1d):
                        module.eval()
            if len(order) < from_pairs:
                order = torch.randperm(len(pairs), generator=generator)
            rows, order = order[:from_pairs].to(device), order[from_pairs:]
            batch = [a[rows] for a in labelled]
            if unlabelled is not None and from_pool:
                drawn = torch.randint(len(unlabelled[0]), (from_pool,), generator=generator).to(device)
                batch = [torch.cat([a, b[drawn]]) for a, b in zip(batch, unlabelled, strict=True)]
            old, side, new, labels = batch
            with torch.autocast(device.type, dtype=torch.bfloat16):
                predicted, log_variance = net(old, side)
            predicted, log_variance = predicted.float(), log_variance.float()
            target = (new.float() - net.new_mean) / net.new_scale
            value = loss(predicted, log_variance, target, net.restore(predicted), labels, frozen, settings)  # type: ignore[arg-type]
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            if step % 50 == 0:
                bar.set_postfix(loss=f"{float(value.detach()):.3f}", refresh=False)
    return net.cpu().eval()
