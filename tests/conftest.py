"""What tests share: one torch thread, no telemetry, a tiny data set and two tiny releases made once a session."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DVC_NO_ANALYTICS"] = "true"
os.environ["TQDM_DISABLE"] = "1"

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from fct.release import Release

torch.set_num_threads(1)

SIZE = 16
CLASSES = tuple(f"class-{letter}" for letter in "abcdefghij")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``root/class/image.png``: ten classes of twelve grey 16 × 16 images, a pattern a class and noise over it."""
    root = tmp_path_factory.mktemp("folder") / "images"
    rng = np.random.default_rng(0)
    for name in CLASSES:
        pattern = rng.integers(0, 256, (4, 4)).repeat(4, 0).repeat(4, 1)
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = (0.5 * pattern + 0.5 * rng.integers(0, 256, (SIZE, SIZE))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def data(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with manifest: every split has images."""
    from fct.datasets.settings import DataSettings
    from fct.datasets.stage import prepare

    out = tmp_path_factory.mktemp("data") / "data"
    prepare(
        DataSettings(
            source=str(image_folder),
            image_size=SIZE,
            mode="L",
            known_min_packs=1,
            unseen_min_packs=1,
            max_drawings=1,
            near_duplicate_cosine=0.99,
            pool_images=1000,
            canaries=8,
            known_classes=0,
            unseen_classes=0,
            packs=(),
            unseen_fraction=0.4,
            pool_fraction=0.2,
            fitting_fraction=0.2,
            evaluation_fraction=0.2,
            seed=0,
        ),
        out,
    )
    return out


@pytest.fixture(scope="session")
def v1(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A small-cnn of one epoch on half of the known classes, with both kinds of side-information."""
    from fct.making import make_release
    from fct.side import SideSettings
    from fct.training import EmbedderSettings

    embedder = EmbedderSettings(
        "small-cnn", dim=8, classes=0.5, epochs=1, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1
    )
    side = SideSettings(
        ("simclr", "pca"), dims=8, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
    )
    return make_release("v1", data, tmp_path_factory.mktemp("v1") / "release", embedder, side, size=SIZE, mode="L", seed=0, device="cpu")


@pytest.fixture(scope="session")
def v2(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A small-cnn of two epochs on all known classes, 12 dimensions."""
    from fct.making import make_release
    from fct.side import SideSettings
    from fct.training import EmbedderSettings

    embedder = EmbedderSettings(
        "small-cnn", dim=12, classes=1.0, epochs=2, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1
    )
    side = SideSettings(
        ("pca",), dims=8, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
    )
    return make_release("v2", data, tmp_path_factory.mktemp("v2") / "release", embedder, side, size=SIZE, mode="L", seed=1, device="cpu")
