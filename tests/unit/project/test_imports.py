"""The numeric core runs where nothing but torch, torchvision, numpy and safetensors (and what draws progress bars and images) is installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
CODE = """
import importlib, pkgutil, sys

BLOCKED = {"mlflow", "prefect", "dvc", "great_expectations", "pydantic", "lance", "faiss", "pandas", "yaml", "typer", "pyarrow", "obstore", "fastapi", "ray",
           "matplotlib", "scipy", "sklearn", "jaxtyping", "beartype"}

# an entry of None makes every import fail, while looking for a module (as torch does for pandas) finds that it is not there
sys.modules.update(dict.fromkeys(BLOCKED))

import fct
for found in pkgutil.walk_packages(fct.__path__, "fct."):
    if found.name not in {"fct.gallery.gallery", "fct.gallery.tables", "fct.gallery.index", "fct.datasets.icons", "fct.datasets.sheet", "fct.datasets.stage"}:
        importlib.import_module(found.name)
assert callable(fct.fit) and callable(fct.load)
assert not BLOCKED & {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}

import numpy as np
import torch
torch.set_num_threads(1)
from fct.sample import evaluation
from fct.forward import FitSettings
from fct.sample.pairs import Sample

rng = np.random.default_rng(0)
old, new = rng.normal(size=(60, 8)).astype("float32"), rng.normal(size=(60, 12)).astype("float32")
side = rng.integers(-127, 128, (60, 4)).astype("int8")
h = fct.fit(old, new, side=side, settings=FitSettings(width=16, epochs=1, members=1, batch=16), device="cpu")
carried, sigma = h.transform(old, side)
labels = np.array([f"class-{i % 5}" for i in range(60)])
sample = Sample(np.arange(60).astype(str), labels, np.full(60, ""), np.full(60, "known"), old, side, new)
summary = evaluation.summarise(evaluation.measure(sample, carried, "cosine"), seed=0)
h.save(sys.argv[1])
assert fct.load(sys.argv[1]).digest == h.digest
assert not BLOCKED & {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(summary["known"]["nn"]["top1"]["value"])
"""


def test_the_core_imports_fits_transforms_and_evaluates_without_the_frameworks(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "h")], cwd=ROOT, capture_output=True, text=True, timeout=6000, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 <= float(done.stdout) <= 1


def test_importing_the_package_alone_loads_nothing_heavy():
    code = "import sys, fct; print(sorted({'torch', 'numpy', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "[]"


HEAVY = (
    "torch",
    "torchvision",
    "mlflow",
    "sqlalchemy",
    "alembic",
    "pandas",
    "pyarrow",
    "lance",
    "faiss",
    "numpy",
    "prefect",
    "great_expectations",
    "fastapi",
    "matplotlib",
    "scipy",
    "httpx",
    "pydantic",
    "yaml",
)
NEEDED = (  # in a project without a workspace; one process runs them one after the other, so each may import what those before it needed
    (("--help",), set()),
    (("log",), {"pydantic", "yaml"}),
    (("status",), {"pydantic", "yaml"}),
    (("adopt", "rows.npy", "--as", "v1", "--dry-run"), {"pydantic", "yaml", "numpy"}),
)
COMMANDS = """
import json, sys
from flows.cli import main

heavy, commands = json.loads(sys.argv[1])
found = []
for args in commands:
    sys.argv = ["fct", *args]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (args, stop.code)
    found.append(sorted(set(heavy) & set(sys.modules)))
print("modules:" + json.dumps(found))
"""


def imported(folder: Path, commands: list[tuple[str, ...]]) -> list[set[str]]:
    """Heavy modules that are there after each of some commands, all run in one new process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    given = json.dumps([HEAVY, commands])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, given], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [set(one) for one in json.loads(done.stdout.rpartition("modules:")[2])]


def test_a_command_imports_nothing_heavy_that_it_does_not_need(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(300, 8)).astype("float32"))
    found = imported(tmp_path, [args for args, _ in NEEDED])
    assert {" ".join(args): there - needed for (args, needed), there in zip(NEEDED, found, strict=True)} == {
        " ".join(args): set() for args, _ in NEEDED
    }
    assert not (tmp_path / "workspace").exists(), "who only looks begins no workspace"
