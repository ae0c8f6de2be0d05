"""The development loop with the real DVC, and that it says the same as the operations loop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import PATIENCE_S, Project, make_project

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


@pytest.fixture(scope="module")
def repro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean project after its first ``dvc repro``, as a git repository with everything committed."""
    folder = make_project(tmp_path_factory.mktemp("dvc") / "project")
    for package in ("fct", "registry"):  # as in the repository: files, so that DVC can watch them
        target = (folder / package).resolve()
        (folder / package).unlink()
        run(folder, "cp", "-r", str(target), package)
        for compiled in (folder / package).rglob("__pycache__"):  # as after a clone
            shutil.rmtree(compiled)
    (folder / ".gitignore").write_text("/build\n/images\n__pycache__\n")
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.email", "ana@example.org")
    run(folder, "git", "config", "user.name", "ana")
    run(folder, "dvc", "init", "-q", "-f")
    shutil.copy(Path(__file__).parents[2] / ".dvcignore", folder)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "project")
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "first run")
    return folder


def stages_run(said: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", said)


def test_a_second_repro_does_nothing(repro: Path) -> None:
    assert stages_run(run(repro, "dvc", "repro")) == []


def test_dvc_and_the_flow_give_identical_numbers_on_the_same_input(repro: Path, candidate: Project) -> None:
    development = json.loads((repro / "build/evaluate/metrics.json").read_text())
    operations = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/evaluation-v1/metrics.json").read_text())
    assert development == operations
    h = [
        json.loads((folder / "manifest.json").read_text())["digest"]
        for folder in (repro / "build/forward", candidate.folder / "workspace/upgrades/tiny-v2/h-v1")
    ]
    assert h[0] == h[1]
    shared = ("worth_it", "compatible", "recovered", "recovered_unseen", "worst_class", "new_intact")
    verdicts = [
        json.loads(path.read_text())["gates"]
        for path in (repro / "build/validate/verdict.json", candidate.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")
    ]
    first, second = ([g for g in gates if g["gate"] in shared] for gates in verdicts)
    assert first == second


def test_changing_one_gate_runs_validation_alone_and_a_failed_gate_is_data(repro: Path) -> None:
    params = repro / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("recovered_mAP: 0.0", "recovered_mAP: 5.0"))
    try:
        assert stages_run(run(repro, "dvc", "repro")) == ["validate"]
        assert json.loads((repro / "build/validate/gates.json").read_text())["outcome"] == "refused"
        assert "validate.recovered_mAP" in run(repro, "dvc", "params", "diff")
        assert "refused" in run(repro, "dvc", "metrics", "diff", "HEAD")
    finally:
        params.write_text(before)
        run(repro, "dvc", "checkout", "-q")
        run(repro, "dvc", "repro", "-q")


def test_metrics_plots_and_experiments_work_as_a_dvc_user_expects(repro: Path) -> None:
    assert "known.nh.mAP" in run(repro, "dvc", "metrics", "show")
    run(repro, "dvc", "plots", "show")
    assert (repro / "dvc_plots/index.html").exists()
    said = run(repro, "dvc", "exp", "run", "-S", "fit.epochs=2")
    assert "fit" in stages_run(said) and "train@v1" not in stages_run(said)
    assert "fit.epochs" in run(repro, "dvc", "params", "diff", "HEAD")
