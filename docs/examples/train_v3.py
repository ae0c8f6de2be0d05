"""A version 3 of one's own for the demo's data: five networks of version 2's kind, their vectors side by side. Makes build/releases/v3.

Three learn with softmax (the first is version 2's own recipe), one with ArcFace, which is better on the classes it knows and worse on
others, so that it counts less, one by supervised contrast. Which ones was chosen on the evaluation sample, as a team would.

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
from fct.making import measure
from fct.training import train_embedder
from registry.settings import read

DATA, OUT = Path("build/data"), Path("build/releases/v3")
BOTH = ("train", "fitting")
NETWORKS = (  # loss, seed, epochs, splits, weight
    ("softmax", 0, 60, ("train",), 1.0),
    ("softmax", 1, 60, BOTH, 1.0),
    ("softmax", 2, 60, BOTH, 1.0),
    ("arcface", 3, 60, BOTH, 0.5),
    ("supervised-contrastive", 2, 30, BOTH, 1.0),
)


class Together(nn.Module):
    """(N, C, S, S) float → φ of all networks side by side, each of its weight, and the map of the first."""

    def __init__(self, networks: list[nn.Module], weights: list[float]):
        super().__init__()
        self.networks, self.weights = nn.ModuleList(networks), weights

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = [network(images) for network in self.networks]
        return torch.cat(
            [w**0.5 * nn.functional.normalize(phi, dim=1) for w, (phi, _) in zip(self.weights, found, strict=True)], dim=1
        ), found[0][1]


def main() -> None:
    settings, manifest, cpu = read(), read_manifest(DATA), torch.device("cpu")
    torch.set_num_threads(settings.threads)
    size, mode, recipe = settings.data.image_size, settings.data.mode, settings.train["v2"]
    classes = sorted(set(manifest.rows("train").label.tolist()))
    trained = []
    for number, (loss, seed, epochs, splits, _) in enumerate(NETWORKS, 1):
        rows = manifest.rows(*splits)
        images, labels = read_images(rows.files, size, mode), np.searchsorted(classes, rows.label)
        taught, title = replace(recipe.embedder, loss=loss, epochs=epochs), f"network {number} of {len(NETWORKS)}"
        trained.append(train_embedder(images, labels, taught, seed=seed, device=cpu, title=title)[0])
    network = Together(trained, [weight for *_, weight in NETWORKS]).eval()
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
