"""A version 3 of one's own for the demo's data: three networks of version 2's kind, their vectors side by side. Makes build/releases/v3.

.venv/bin/python docs/examples/train_v3.py        (after `make demo`; two minutes)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fct import release, side
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.making import measure
from fct.training import train_embedder
from registry.settings import read

DATA, OUT, SEEDS = Path("build/data"), Path("build/releases/v3"), (1, 2, 3)


class Together(nn.Module):
    """(N, C, S, S) float → φ of all networks side by side, and the map of the first."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = [network(images) for network in self.networks]
        return torch.cat([nn.functional.normalize(phi, dim=1) for phi, _ in found], dim=1), found[0][1]


def main() -> None:
    settings, manifest, cpu = read(), read_manifest(DATA), torch.device("cpu")
    torch.set_num_threads(settings.threads)
    size, mode, recipe = settings.data.image_size, settings.data.mode, settings.train["v2"]
    train, pool, canaries = (manifest.rows(split) for split in ("train", "pool", "canary"))
    images, classes = read_images(train.files, size, mode), sorted(set(train.label.tolist()))
    labels = np.searchsorted(classes, train.label)
    trained = [train_embedder(images, labels, recipe.embedder, seed=seed, device=cpu, title=f"network {seed}") for seed in SEEDS]
    network = Together([one for one, _ in trained]).eval()
    unlabelled = np.concatenate([images, read_images(pool.files, size, mode)])
    program = side.prepare(network, unlabelled, recipe.side, seed=0, device=cpu)
    made = release.write(
        OUT,
        program.cpu(),
        size=size,
        mode=mode,
        canary_ids=canaries.id.tolist(),
        canary_images=read_images(canaries.files, size, mode),
        classes=classes,
        picture=side.fit_drawer(program, unlabelled, recipe.side, seed=0, device=cpu),
        side={"kinds": list(recipe.side.kinds), "bits": program.bits, "prepared_from": len(unlabelled)},
        measurements=measure(program, DATA, size=size, mode=mode, device=cpu),
    )
    print(f"{OUT}: {made.dim} dimensions, {made.about['measurements']}")


if __name__ == "__main__":
    main()
