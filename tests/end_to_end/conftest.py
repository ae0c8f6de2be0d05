"""A tiny project of a user's own: an ImageFolder, params.yaml, dvc.yaml; the same code as at full size, with the real parts."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image

if TYPE_CHECKING:
    from conftest import Once

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 900  # on no machine is this a measure: after so long something hangs


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str


def command(folder: Path, *args: str) -> Ran:
    """Run the real ``fct`` in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ran = subprocess.run(
        [sys.executable, "-m", "flows.cli", *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def in_process(folder: Path, *args: str) -> Ran:
    """The same entry point without the seconds that importing takes: ``flows.cli.main`` in this process, in ``folder``."""
    from flows.cli import main

    out, err, before, argv = io.StringIO(), io.StringIO(), Path.cwd(), sys.argv
    code = 0
    os.chdir(folder)
    sys.argv = ["fct", *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        os.chdir(before)
        sys.argv = argv
    return Ran(code, out.getvalue(), err.getvalue())


def tiny_images(root: Path, classes: int = 34, each: int = 21, size: int = 16, seed: int = 0) -> None:
    """``root/class/NN.png``: a pattern a class, shifted and under noise, so that a good embedder beats a poor one."""
    rng = np.random.default_rng(seed)
    for number in range(classes):
        pattern = rng.integers(0, 2, (4, 4)).repeat(4, 0).repeat(4, 1) * 200
        folder = root / f"class-{number:02}"
        folder.mkdir(parents=True)
        for image in range(each):
            moved = np.roll(pattern, (int(rng.integers(-2, 3)), int(rng.integers(-2, 3))), (0, 1))
            pixels = np.clip(moved + rng.normal(0, 45, (size, size)) + 25, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{image:02}.png")


def tiny_params(images: Path) -> dict[str, Any]:
    """The repository's params.yaml made small; the gates stay on, with bounds that so few queries can settle."""
    params: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params |= {"model": "tiny", "threads": 1, "device": "cpu"}
    params["data"] |= {
        "source": str(images),
        "image_size": 16,
        "canaries": 12,
        "unseen_fraction": 0.36,  # six classes in either half: five are needed for a bound
        "pool_fraction": 0.1,
        "evaluation_fraction": 0.25,
        "near_duplicate_cosine": 0.999,
    }
    v1, v2 = params["train"]["v1"], params["train"]["v2"]
    v1["embedder"] |= {"dim": 8, "epochs": 2, "batch": 32}
    v1["side"] |= {"kinds": ["pca"], "dims": 48}
    v2["embedder"] |= {"architecture": "small-cnn", "dim": 16, "epochs": 30, "batch": 32}
    v2["side"] |= {"kinds": ["pca"], "dims": 16}
    params["embed"] |= {"views": 4, "pool_views": 2}
    # float32: another processor then makes the same networks up to the last bits
    params["fit"] |= {"members": 1, "width": 128, "epochs": 25, "batch": 128, "precision": "float32"}
    params["transform"] |= {"batch_rows": 64}
    params["validate"] |= {
        "recovered_top1": 0.0,
        "recovered_mAP": 0.0,
        "unseen_tolerance": 0.5,
        "worst_class_tolerance": 0.5,
        "coverage_most": 0.9,
        "canary_margin": 0.35,
        "negative_flips": 0.5,
        "subgroup_tolerance": 0.5,
        "dip_tolerance": 0.5,
        "order_margin": 1.0,
        "beats_linear": -1.0,
        "threshold_shift": 0.5,
    }
    params["promote"] |= {"max_delta": 0.5, "auto": False}  # what is approved waits, so that tests can look at it
    return params


def make_project(folder: Path) -> Path:
    """A folder with images, params.yaml and dvc.yaml, as a git repository with DVC."""
    folder.mkdir(parents=True)
    tiny_images(folder / "images")
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params(folder / "images"), sort_keys=False), encoding="utf-8")
    shutil.copy(REPOSITORY / "dvc.yaml", folder)
    shutil.copy(REPOSITORY / ".dvcignore", folder)
    for package in ("fct", "registry"):
        (folder / package).symlink_to(REPOSITORY / package)
    return folder


def wait_for(what: Callable[[], object], why: Callable[[], str] = lambda: "", every_s: float = 0.05) -> float:
    """Wait until it holds; the seconds that it took. ``why`` says what there is to see where it never does."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < PATIENCE_S, why()
        time.sleep(every_s)
    return time.monotonic() - begun


@dataclass
class Project:
    """A project folder with the command in it."""

    folder: Path

    def fct(self, *args: str) -> Ran:
        return in_process(self.folder, *args)

    def command(self, *args: str) -> Ran:
        return command(self.folder, *args)

    def workspace(self) -> Any:
        from registry.workspace import open_workspace

        return open_workspace(self.folder / "params.yaml")


Copies = Callable[[], Project]
FIRST = (
    ("register", "build/releases/v1"),
    ("ingest", "build/data"),
    ("reconcile", "--once"),
    ("approve", "1", "--by", "ana", "--why", "first"),
    ("promote", "1"),
)


def having(project: Project, *commands: tuple[str, ...]) -> Project:
    """The project after these commands."""
    for args in commands:
        ran = project.fct(*args)
        assert ran.code == 0, f"{args}: {ran.out}{ran.err}"
    return project


def copied(original: Path, target: Path) -> Project:
    """A project of one's own as the original is; the images of what was ingested stay where they are."""
    shutil.copytree(original, target, symlinks=True)
    if (target / "workspace/mlflow.db").exists():
        moved(Project(original), Project(target))
    return Project(target)


# Four states of one project, each made once for all workers; a test that changes something takes a copy.


@pytest.fixture(scope="session")
def trained_folder(once: Once) -> Path:
    commands = (("data",), ("train", "v1"), ("train", "v2"))
    return once("trained", lambda folder: having(Project(make_project(folder / "project")), *commands)) / "project"


@pytest.fixture(scope="session")
def serving_folder(trained_folder: Path, once: Once) -> Path:
    return once("serving", lambda folder: having(copied(trained_folder, folder / "project"), *FIRST)) / "project"


@pytest.fixture(scope="session")
def waiting_folder(serving_folder: Path, once: Once) -> Path:
    commands = (("register", "build/releases/v2"), ("reconcile", "--once"))
    return once("waiting", lambda folder: having(copied(serving_folder, folder / "project"), *commands)) / "project"


@pytest.fixture(scope="session")
def promoted_folder(waiting_folder: Path, once: Once) -> Path:
    commands = (("approve", "2", "--by", "ana", "--why", "fine"), ("promote", "2"))
    return once("promoted", lambda folder: having(copied(waiting_folder, folder / "project"), *commands)) / "project"


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Project]:
    return lambda original: copied(original, tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture(scope="session")
def copy_of(trained_folder: Path, copies: Callable[[Path], Project]) -> Copies:
    """Fresh copies of a project with data and two releases, each with an empty workspace."""
    return lambda: copies(trained_folder)


@pytest.fixture(scope="session")
def copy_serving(serving_folder: Path, copies: Callable[[Path], Project]) -> Copies:
    """Fresh copies of a project in which version 1 serves."""
    return lambda: copies(serving_folder)


@pytest.fixture(scope="session")
def copy_waiting(waiting_folder: Path, copies: Callable[[Path], Project]) -> Copies:
    """Fresh copies of a project in which version 1 serves, version 2 has a passed verdict and waits for a person."""
    return lambda: copies(waiting_folder)


@pytest.fixture(scope="session")
def trained(copy_of: Copies) -> Project:
    """Data and two releases; nothing is registered."""
    return copy_of()


@pytest.fixture(scope="session")
def candidate(copy_waiting: Copies) -> Project:
    """Version 1 serves, version 2 has a passed verdict and waits for a person; who changes that restores it."""
    return copy_waiting()


@pytest.fixture(scope="module")
def promoted(promoted_folder: Path, copies: Callable[[Path], Project]) -> Project:
    """Version 2 serves, version 1 served before."""
    return copies(promoted_folder)


@pytest.fixture
def living(promoted: Project, tmp_path: Path) -> Project:
    """A copy of the promoted project of its own."""
    return copied(promoted.folder, tmp_path / "project")


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: under the test's output, or where FCT_SCREENSHOTS says."""
    folder = Path(os.environ.get("FCT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def moved(original: Project, project: Project) -> None:
    """MLflow's database names the artifacts by absolute path: let them name the copy."""
    import sqlite3

    with sqlite3.connect(project.folder / "workspace/mlflow.db") as database:
        tables = [
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
        ]
        for table, column in tables:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(original.folder), str(project.folder)))
