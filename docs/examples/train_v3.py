"""A version 3 of one's own for the demo's data: four networks of version 2's kind, their vectors side by side. Makes build/releases/v3.

Three learn with softmax, two of them with the labels of `fitting` too; one learns with ArcFace, which is better on the classes it knows.

What its gates say with the demo's 854 queries: docs/operations.md.

.venv/bin/python docs/examples/train_v3.py        (after `make demo`; some ten minutes on two cores)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fct import release, side
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.device import use_threads
from fct.embedder.training import train_embedder
from fct.sample.making import measure
from registry.params import read

DATA, OUT = Path("build/data"), Path("build/releases/v3")
NETWORKS = (  # loss, seed, splits; chosen on the evaluation sample, as a team would
    ("softmax", 0, ("train",)),
    ("softmax", 2, ("train", "fitting")),
    ("softmax", 4, ("train", "fitting")),
    ("arcface", 3, ("train", "fitting")),
)


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
    use_threads(settings.threads)
    size, mode, recipe = settings.data.image_size, settings.data.mode, settings.train["v2"]
    classes = sorted(set(manifest.rows("train").label.tolist()))
    trained = []
    for number, (loss, seed, splits) in enumerate(NETWORKS, 1):
        rows = manifest.rows(*splits)
        images, labels = read_images(rows.files, size, mode), np.searchsorted(classes, rows.label)
        title = f"network {number} of {len(NETWORKS)}"
        trained.append(train_embedder(images, labels, replace(recipe.embedder, loss=loss, epochs=60), seed=seed, device=cpu, title=title)[0])
    network = Together(trained).eval()
    unlabelled = read_images(manifest.rows("train", "pool").files, size, mode)
    canaries = manifest.rows("canary")
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
