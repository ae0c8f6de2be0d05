"""A project that `fct init` began, far from the repository: the real DVC runs its first stages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import PATIENCE_S, command, tiny_images

pytestmark = pytest.mark.slow


def run(folder: Path, *args: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
    }
    ran = subprocess.run(args, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout + ran.stderr


def test_a_new_project_runs_its_first_stages_on_ones_own_images(tmp_path: Path) -> None:
    tiny_images(tmp_path / "images")
    ran = command(tmp_path, "init", "shop")
    assert ran.code == 0 and "git init && dvc init" in ran.err, ran.err
    shop = tmp_path / "shop"
    assert not (shop / "fct").exists()
    text = (shop / "params.yaml").read_text(encoding="utf-8")
    changes = {"source: icons": f"source: {tmp_path / 'images'}", "image_size: 32": "image_size: 16", "canaries: 64": "canaries: 8"}
    for old, new in (
        changes | {"epochs: 30": "epochs: 1", "drawing_epochs: 2": "drawing_epochs: 1", "device: auto": "device: cpu"}
    ).items():
        assert old in text
        text = text.replace(old, new)
    (shop / "params.yaml").write_text(text, encoding="utf-8")
    run(shop, "git", "init", "-q")
    run(shop, "dvc", "init", "-q")
    assert re.findall(r"Running stage '([^']+)'", run(shop, "dvc", "repro", "data", "train@v1")) == ["data", "train@v1"]
    assert json.loads((shop / "build/data/summary.json").read_text())["images"] > 100
    assert json.loads((shop / "build/releases/v1/release.json").read_text())
    assert "didn't change" in run(shop, "dvc", "repro", "train@v1")
    listed = run(shop, "dvc", "stage", "list", "--name-only").split()
    assert listed == ["data", "train@v1", "train@v2", "embed", "fit", "transform", "index", "evaluate", "validate"]
    assert "build" not in run(shop, "git", "status", "--porcelain", "--untracked-files=all")
    again = command(tmp_path, "init", "shop")
    assert again.code == 2 and "params.yaml and dvc.yaml" in again.err and (shop / "params.yaml").read_text(encoding="utf-8") == text
