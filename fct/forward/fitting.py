"""Fitting a learned h on pairs.

Legend: N labelled pairs, M pool pairs, D old, P side, E new dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fct import device as devices
from fct.forward.losses import Compared
from fct.forward.methods import KNOWN
from fct.forward.network import ForwardNetwork
from fct.forward.rows import Pairs
from fct.forward.settings import PUBLISHED, FitSettings
from fct.forward.spec import Learned

IN_MEMORY_BYTES = 1 << 30  # larger sets of pairs are gathered batch by batch from their memory maps
CAPPED_PAIRS = 50_000  # an epoch of the shipped recipe counts as at most so many pairs, however many there are

_turn = Lock()  # members are fitted side by side, and first weights come from torch's one generator

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def fit_network(
    pairs: Pairs,
    pool: Pairs | None,
    head: tuple[np.ndarray, np.ndarray] | None,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    title: str,
    most_steps: int | None = None,
) -> ForwardNetwork:
    """Train h with Adam, one warm-up and a cosine, in the precision of the settings (:func:`fct.device.precision`).

    Published methods use Adam with L2 penalty, others AdamW. For more than 50,000 pairs the shipped recipe draws from all of them,
    but takes no more steps than for 50,000.

    Args:
        most_steps: a further cap on the number of steps.

    Returns:
        the network on the CPU in eval mode. Same seed, same machine: same bytes.
    """
    with _turn, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twice = settings.method in PUBLISHED
        net = ForwardNetwork(pairs.old.shape[1], pairs.side.shape[1], pairs.new.shape[1], settings.width, twice)
    standardise(net, [pairs] if pool is None else [pairs, pool])
    net.to(device).train()
    frozen = None
    if head is not None:
        frozen = (
            torch.from_numpy(np.array(head[0], dtype=np.float32)).to(device),
            torch.from_numpy(np.array(head[1], dtype=np.float32)).to(device),
        )
    from_pool = min(round(settings.batch * settings.pool_share), settings.batch - 1) if pool is not None else 0
    from_pairs = min(settings.batch - from_pool, len(pairs))
    steps = steps_of(len(pairs), from_pairs, settings)
    steps = min(steps, most_steps or steps)
    batches = _batches(pairs, pool, from_pairs, from_pool, torch.Generator().manual_seed(seed), device)
    kind = torch.optim.Adam if settings.method in PUBLISHED else torch.optim.AdamW
    optimiser = kind(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    half = devices.precision(settings.precision, device) == devices.BFLOAT16
    warm = max(1, steps // 16)  # FCT: 5 of 80 epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (step + 1) / warm if step < warm else 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm)))),
    )
    with tqdm(total=steps, desc=title, unit="step", mininterval=1) as bar:
        for step in range(steps):
            if settings.freeze_norm and step == steps // 2:
                for module in net.modules():
                    if isinstance(module, torch.nn.BatchNorm1d):
                        module.eval()
            devices.go_on()
            old, side, new, labels = next(batches)
            native = new.float()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                predicted, log_variance = net(old, side)
            predicted, log_variance = predicted.float(), log_variance.float()
            target = (native - net.new_mean) / net.new_scale
            value = loss(predicted, log_variance, target, net.restore(predicted), native, labels, frozen, settings)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            if step % 50 == 0:
                bar.set_postfix(loss=f"{float(value.detach()):.3f}", refresh=False)
    return net.cpu().eval()


def loss(
    predicted: Tensor,
    log_variance: Tensor,
    target: Tensor,
    carried: Tensor,
    native: Tensor,
    labels: Tensor,
    head: tuple[Tensor, Tensor] | None,
    settings: FitSettings,
) -> Tensor:
    """The scalar that the settings' method minimises; what is what: :class:`fct.forward.losses.Compared`."""
    method = KNOWN[settings.method]
    assert isinstance(method, Learned)
    terms = settings.head_weight, settings.label_smoothing, settings.uncertainty
    return method.loss(Compared(predicted, log_variance, target, carried, native, labels, head, *terms))


def steps_of(pairs: int, from_pairs: int, settings: FitSettings) -> int:
    """Steps of a fit: epochs times the batches of an epoch, rounded down, at least one a epoch."""
    counted = pairs if settings.method in PUBLISHED else min(pairs, CAPPED_PAIRS)
    return max(1, counted // from_pairs) * settings.epochs


def standardise(net: ForwardNetwork, sets: list[Pairs]) -> None:
    """Set the network's statistics to means and standard deviations over all sets, read block by block; constants keep the scale 1."""
    count, total, squares, shift = 0, np.zeros(1), np.zeros(1), None
    for pairs in sets:
        for x, y in pairs.blocks():
            rows = np.concatenate([x, y], axis=1)
            shift = rows.mean(axis=0) if shift is None else shift  # near the mean: sums of squares then do not cancel
            rows = rows - shift
            count, total, squares = count + len(rows), total + rows.sum(axis=0), squares + (rows * rows).sum(axis=0)
    assert shift is not None  # there are at least two pairs
    mean = shift + total / count
    std = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    std = np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-30), std, 0)
    first, second = len(net.old_mean), len(net.old_mean) + len(net.side_mean)
    for name, columns in (("old", slice(0, first)), ("side", slice(first, second))):
        getattr(net, f"{name}_mean").copy_(torch.from_numpy(mean[columns]))
        getattr(net, f"{name}_std").copy_(torch.from_numpy(np.where(std[columns] > 0, std[columns], 1.0)))
    net.new_mean.copy_(torch.from_numpy(mean[second:]))
    scale = float(std[second:].mean())
    net.new_scale.copy_(torch.tensor([scale if scale > 0 else 1.0]))  # one scale: MSE keeps its proportions


def _batches(
    pairs: Pairs, pool: Pairs | None, from_pairs: int, from_pool: int, generator: torch.Generator, device: torch.device
) -> Iterator[Batch]:
    """Batches without end: the pairs in random order, epoch by epoch, beside rows drawn from the pool."""
    labelled = _gatherer(pairs, device)
    unlabelled = _gatherer(pool, device) if pool is not None else None
    order = torch.empty(0, dtype=torch.int64)
    while True:
        if len(order) < from_pairs:
            order = torch.randperm(len(pairs), generator=generator)
        batch, order = labelled(order[:from_pairs]), order[from_pairs:]
        if unlabelled is not None and pool is not None and from_pool:
            drawn = unlabelled(torch.randint(len(pool), (from_pool,), generator=generator))
            batch = tuple(torch.cat([a, b.to(a.dtype)]) for a, b in zip(batch, drawn, strict=True))  # type: ignore[assignment]
        yield batch


def _gatherer(pairs: Pairs, device: torch.device) -> Callable[[Tensor], Batch]:
    """positions → old, side, new, labels on the device; from a copy there where that fits, else from the arrays as they lie on disk."""
    if pairs.nbytes <= IN_MEMORY_BYTES:
        whole = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in pairs.gather(slice(None))]
        return lambda positions: tuple(array[positions.to(device)] for array in whole)  # type: ignore[return-value]

    def from_disk(positions: Tensor) -> Batch:
        order = np.sort(positions.numpy())  # ascending reads; a batch's order has no meaning
        return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in pairs.gather(order))  # type: ignore[return-value]

    return from_disk
