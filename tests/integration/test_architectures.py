"""Every architecture that can be named becomes a release, is registered in a real MLflow, and embeds two images from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fct import embedder, release, side
from fct.program import programs
from registry.mlflow.releases import Releases

MARKS = {"small-vit": [pytest.mark.slow], "resnet50": [pytest.mark.long], "vit-b-16": [pytest.mark.long]}  # a minute of export, and more


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in embedder.ARCHITECTURES])
def test_an_architecture_exports_registers_and_embeds_two_images(name: str, store: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    network = embedder.build(name, 16, 3, 32, seed=0).eval()
    settings = side.SideSettings(("pca",), 4, 4, 1, 4, 0.2, 0.001)
    program = side.prepare(network, images, settings, seed=0, device=torch.device("cpu"))
    folder = tmp_path / "release"
    release.write(folder, program, size=32, mode="RGB", canary_ids=[f"c{n}" for n in range(12)], canary_images=images)
    releases = Releases(f"sqlite:///{store / 'mlflow.db'}", name, store)
    number = releases.register(folder, "gallery")
    assert releases.register(folder, "gallery") == number  # the same release is the same version
    registered = releases.release(number)
    phi, psi = programs.embed(registered.program(), images[:2], device=torch.device("cpu"))
    assert phi.shape == (2, 16) and phi.dtype == np.float32 and np.isfinite(phi).all()
    assert psi.shape == (2, 4) and psi.dtype == np.int8
