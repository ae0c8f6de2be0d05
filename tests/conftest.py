"""What tests share: one torch thread, no telemetry, workers, a tiny data set and two tiny releases made once for all workers."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DVC_NO_ANALYTICS"] = "true"
os.environ["TQDM_DISABLE"] = "1"

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from tests import shapes

if TYPE_CHECKING:
    from fct.release.folder import Release

torch.set_num_threads(1)

shapes.install()  # before anything imports the rooms of arrays

SIZE = 16
CLASSES = tuple(f"class-{letter}" for letter in "abcdefghij")


WORKER_BYTES = 2 * 2**30  # torch, MLflow and a tiny project
LONGEST = (
    *("test_operations.py", "test_kills.py", "test_dvc.py", "test_offline_report.py", "test_third_version.py", "test_exporting.py"),
    *("test_arriving.py", "test_serve_moving.py"),
)
Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a worker for each core that this process may use, as far as the memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores, memory // WORKER_BYTES))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, so that no worker waits for another's last one."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """``once(name, make)``: the folder that ``make`` fills, made by the first worker that asks. Nobody changes what is in it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / "once" / name, root / "once" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(root / "once" / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def image_folder(once: Once) -> Path:
    """``root/class/image.png``: ten classes of twelve grey 16 × 16 images, a pattern a class and noise over it."""
    return once("images", draw) / "images"


def draw(folder: Path) -> None:
    root = folder / "images"
    rng = np.random.default_rng(0)
    for name in CLASSES:
        pattern = rng.integers(0, 256, (4, 4)).repeat(4, 0).repeat(4, 1)
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = (0.5 * pattern + 0.5 * rng.integers(0, 256, (SIZE, SIZE))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")


@pytest.fixture(scope="session")
def data(image_folder: Path, once: Once) -> Path:
    """A data folder with manifest: every split has images."""
    from dataclasses import replace

    from fct.datasets.stage import prepare
    from tests.tiny_data import TINY_DATA

    settings = replace(TINY_DATA, source=str(image_folder), image_size=SIZE, mode="L", near_duplicate_cosine=0.99, canaries=8)
    return once("data", lambda folder: prepare(settings, folder / "data")) / "data"


@pytest.fixture(scope="session")
def v1(data: Path, once: Once) -> Release:
    """A small-cnn of one epoch on half of the known classes, with both kinds of side-information."""
    from fct.embedder.settings import EmbedderSettings
    from fct.release.examining import open_release
    from fct.sample.making import make_release
    from fct.side.settings import SideSettings

    embedder = EmbedderSettings(
        "small-cnn", dim=8, classes=0.5, epochs=1, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1
    )
    side = SideSettings(
        ("simclr", "pca"), dims=8, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
    )

    def make(folder: Path) -> None:
        make_release("v1", data, folder / "release", embedder, side, size=SIZE, mode="L", seed=0, device="cpu")

    return open_release(once("v1", make) / "release")


@pytest.fixture(scope="session")
def v2(data: Path, once: Once) -> Release:
    """A small-cnn of two epochs on all known classes, 12 dimensions."""
    from fct.embedder.settings import EmbedderSettings
    from fct.release.examining import open_release
    from fct.sample.making import make_release
    from fct.side.settings import SideSettings

    embedder = EmbedderSettings(
        "small-cnn", dim=12, classes=1.0, epochs=2, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1
    )
    side = SideSettings(
        ("pca",), dims=8, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
    )

    def make(folder: Path) -> None:
        make_release("v2", data, folder / "release", embedder, side, size=SIZE, mode="L", seed=1, device="cpu")

    return open_release(once("v2", make) / "release")


@pytest.fixture(scope="session")
def untrained(once: Once) -> Release:
    """A release whose program shows what is in an image (tests/embedding.py); nobody trained it."""
    from fct.release.examining import open_release
    from tests.embedding import make

    return open_release(once("untrained", make) / "release", run=False)
