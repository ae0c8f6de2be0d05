"""The base install has what vectors alone need; what a command needs besides is named with its extra."""

from __future__ import annotations

import builtins
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import _not_installed, main

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "pylance": "lance", "faiss-cpu": "faiss", "prometheus-client": "prometheus_client"}


def modules(requirements: list[str]) -> set[str]:
    names = {re.split(r"[<>=!~ ;\[]", one)[0] for one in requirements}
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


BASE = modules(PROJECT["dependencies"])
ELSE = {name for extra in PROJECT["optional-dependencies"].values() for name in modules(extra)} - BASE


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def imported(name: str, globals: Any = None, *args: Any, **kwargs: Any) -> Any:
        by = str((globals or {}).get("__name__", "")).split(".")[0]
        if by in ("fct", "registry", "flows") and name.split(".")[0] in ELSE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, globals, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)


def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["fct", *args])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.usefixtures("without_extras")
def test_vectors_alone_need_the_base_install_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 12)
    meaning = rng.normal(size=(20, 6))[labels] + 0.4 * rng.normal(size=(240, 6))
    np.save("labels.npy", labels)
    for name, dim in (("old", 8), ("new", 10)):
        np.save(f"{name}.npy", (meaning @ rng.normal(size=(6, dim))).astype(np.float32))
    for args in (
        ("try", "--old", "old.npy", "--new", "new.npy", "--labels", "labels.npy", "--method", "ridge"),
        ("fit", "--old", "old.npy", "--new", "new.npy", "--labels", "labels.npy", "--method", "ridge", "--out", "h"),
        ("transform", "--forward", "h", "--old", "old.npy", "--out", "carried.npy"),
        ("evaluate", "--query", "new.npy", "--gallery", "carried.npy", "--query-labels", "labels.npy", "--gallery-labels", "labels.npy"),
    ):
        code, said = ran(monkeypatch, capsys, *args)
        assert code == 0, said


def test_a_command_whose_extra_is_missing_names_it(tmp_path: Path) -> None:
    """In a process of its own: here the packages are imported already."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    code = "import sys; sys.modules['obstore'] = None; from flows.cli import main; sys.argv = ['fct', 'log']; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "pip install 'forward-compatible-releases[ops]'" in ran.stderr


@pytest.mark.parametrize(
    ("module", "todo"),
    [
        ("mlflow", "pip install 'forward-compatible-releases[ops]'"),
        ("lance", "pip install 'forward-compatible-releases[ops]'"),
        ("faiss", "pip install 'forward-compatible-releases[ops,cpu]'"),
        ("qdrant_client", "pip install 'forward-compatible-releases[ops,qdrant]'"),
        ("elsewhere", "pip install elsewhere"),
    ],
)
def test_the_extra_of_each_package(module: str, todo: str) -> None:
    error = _not_installed(module)
    assert error.exit_code == 1
    assert str(error).endswith(todo)


def test_what_import_fct_offers() -> None:
    import fct

    assert dir(fct) == sorted(fct.__all__)
    assert {name: getattr(fct, name) for name in fct.__all__}
    assert fct.__version__ == PROJECT["version"]
    with pytest.raises(AttributeError):
        fct.release_all  # noqa: B018


def test_every_text_of_the_packages_is_in_the_wheel() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    shipped = {path for package, names in data.items() for name in names for path in ROOT.joinpath(*package.split(".")).glob(name)}
    there = {path for room in ("fct", "registry", "flows") for path in (ROOT / room).rglob("*") if path.is_file()}
    assert {path for path in there if path.suffix not in (".py", ".pyc")} == shipped
    assert ROOT / "flows/project/dvc.yaml" in shipped
