"""The wheel in an empty environment and an empty folder: everything on vectors runs, and nothing of the tree is there to help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.elsewhere import copy_of_the_tree

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long  # some gigabytes of torch are installed

ON_VECTORS = (
    "fct try --old old.npy --new new.npy --labels labels.npy --method ridge",
    "fct fit --old old.npy --new new.npy --labels labels.npy --method ridge --out h",
    "fct transform --forward h --old old.npy --out carried.npy --sigma sigma.npy",
    "fct evaluate --query new.npy --gallery carried.npy --query-labels labels.npy --gallery-labels labels.npy",
    "fct curve --query new.npy --transformed carried.npy --native new.npy --sigma sigma.npy --query-labels labels.npy --gallery-labels labels.npy",
)
FROM_PYTHON = """
import numpy as np, fct
old, new, labels = (np.load(f"{name}.npy") for name in ("old", "new", "labels"))
h = fct.fit(old, new, labels=labels, method="ridge")
carried, sigma = h.transform(old)
assert np.allclose(carried, np.load("carried.npy"), atol=1e-5) and np.allclose(sigma, np.load("sigma.npy"), atol=1e-5)
assert "site-packages" in fct.__file__ and fct.__version__ != "0"
"""


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def ran(folder: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``words`` in ``folder``, with the programs of the new environment alone and no variable that leads to the tree."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    return subprocess.run([programs / words[0], *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def did(folder: Path, programs: Path, *words: str) -> str:
    found = ran(folder, programs, *words)
    assert found.returncode == 0, f"{' '.join(words)}: {found.stderr[-3000:]}"
    return found.stdout


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """The folder of programs of a new environment that holds the wheel, its extra ``cpu`` and nothing else."""
    own = Path(sys.executable).parent
    with copy_of_the_tree("tree") as tree:  # removed at the end, with all gigabytes
        folder = tree.parent
        did(folder, own, "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", ".", str(tree))
        (wheel,) = folder.glob("*.whl")
        did(folder, own, "python", "-m", "venv", "new")
        programs = folder / "new" / "bin"
        did(folder, programs, "python", "-m", "pip", "install", "--quiet", f"{wheel}[cpu]")
        yield programs


def test_everything_on_vectors_runs_and_a_command_beyond_names_its_extra(programs: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 12)
    meaning = rng.normal(size=(20, 6))[labels] + 0.4 * rng.normal(size=(240, 6))
    np.save(tmp_path / "labels.npy", labels)
    for name, dim in (("old", 8), ("new", 10)):
        np.save(tmp_path / f"{name}.npy", (meaning @ rng.normal(size=(6, dim))).astype(np.float32))
    for line in ON_VECTORS:
        did(tmp_path, programs, *line.split())
    did(tmp_path, programs, "python", "-c", FROM_PYTHON)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    beyond = ran(tmp_path, programs, "fct", "up")
    assert beyond.returncode == 1
    assert "pip install 'forward-compatible-releases[ops]'" in beyond.stderr


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else_is(programs: Path) -> None:
    installed = Path(did(programs, programs, "python", "-c", "import fct; print(fct.__path__[0])").strip()).parent
    for package in ("fct", "registry", "flows"):
        assert files(installed / package) == files(programs.parents[1] / "tree" / package)
    assert not (installed / "tests").exists()
    assert not (installed / "benchmarks").exists()
