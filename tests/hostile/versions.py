"""Versions of a model as strangers register them: an honest one, and networks that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fct import release
from fct.arrays import digests
from fct.release.folder import FILES

Json = dict[str, Any]


class Honest(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = images.flatten(1).float() / 255
        return flat[:, 100:105] * 3 + 1, (flat[:, :3] * 100).to(torch.int8)


class Mixing(Honest):
    """Vectors that depend on the other images of the batch."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phi, psi = super().forward(images)
        return phi - phi.mean(dim=0, keepdim=True) + phi.mean(dim=1, keepdim=True), psi


class InCrowds(Honest):
    """The same, in batches of more than the contract looks at. A query comes alone."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phi, psi = super().forward(images)
        count = torch.ones_like(phi[:, :1]).sum(dim=0, keepdim=True)
        return phi + (count > 8.5).float() * phi.mean(dim=0, keepdim=True), psi


def noise(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 16, 16), dtype=np.uint8)


def written(folder: Path, module: nn.Module, images: np.ndarray | None = None, **more: Any) -> Path:
    given: Json = {"canary_ids": [f"c{n}" for n in range(8)], "canary_images": noise() if images is None else images}
    return release.write(folder, module, size=16, mode="L", **given, **more).folder


def say(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / "release.json").read_text())
    about["files"] = {name: digests.of_file(folder / name) for name in FILES[:2] + FILES[3:] if (folder / name).exists()}
    (folder / "release.json").write_text(json.dumps(about | changes))
