"""Where a benchmark runs: its data, its effort, its device, and arrays kept on disk so that an interrupted run goes on.

Legend: N images, C channels, S side in pixels.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.data import Data, read
from fct.arrays import digests
from fct.arrays.files import whole_file
from fct.embedder import augment

ROOT = Path(__file__).parents[2]
VIEW_SEEDS = {"fitting": 0, "pool": 1}


@dataclass(frozen=True)
class Effort:
    """How much is computed. ``epochs``: share of an embedder's epochs. ``fit_epochs``: most epochs of a learned h (0: its recipe's)."""

    views: int = 8
    pool_views: int = 4
    pool_recombined: int = 4
    most_pool: int = 12_000
    epochs: float = 1.0
    fit_epochs: int = 0


FULL = Effort()
QUICK = Effort(views=2, pool_views=1, pool_recombined=1, most_pool=1500, epochs=0.2, fit_epochs=3)
TINY = Effort(views=2, pool_views=1, pool_recombined=1, most_pool=300, epochs=0.1, fit_epochs=2)


@dataclass(frozen=True)
class Lab:
    """One data set, one effort, one device. ``folder``: of ``icons`` the prepared data, of ``folder`` the images."""

    name: str
    folder: str
    cache: Path
    effort: Effort = FULL
    device: str = "cpu"
    architecture: str = ""
    size: int = 32
    per_class: int = 0

    @cached_property
    def data(self) -> Data:
        return read(self.name, self.folder, self.cache, size=self.size, per_class=self.per_class, most_pool=self.effort.most_pool)

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def key(self) -> list[Any]:
        """What every cached array depends on."""
        return [self.data.digest, asdict(replace(self.effort, fit_epochs=0)), self.architecture]

    def views(self, part: str) -> Iterator[np.ndarray]:
        """The views of a part, (N, C, S, S) uint8 each: the images first; of samples nothing else. The same for every model."""
        images = torch.from_numpy(self.data.parts[part].images)
        plain, recombined = self.counts(part)
        generator = torch.Generator().manual_seed(VIEW_SEEDS.get(part, 0))
        for view in range(plain + recombined):
            block = augment.recombined(images, generator) if view >= plain else images
            yield (augment.views(block, generator) if view else block).numpy()

    def counts(self, part: str) -> tuple[int, int]:
        """Plain and recombined views of a part."""
        if part == "fitting":
            return self.effort.views, 0
        return (self.effort.pool_views, self.effort.pool_recombined) if part == "pool" else (1, 0)

    def cached(self, kind: str, key: Any, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays by name, computed once for a key; two processes never compute the same twice."""
        path = self.cache / kind / f"{digests.of_json([self.key, key])[:24]}.npz"
        if not path.exists():
            with locked(path):
                if not path.exists():
                    arrays = make()
                    with whole_file(path) as part, open(part, "wb") as file:
                        np.savez(file, **arrays)  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock beside ``path``; a killed process lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
