"""Upgrades that are killed, race each other or are overtaken: finished work is kept, and the end is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fct.arrays.files import read_json
from flows.upgrade import STEPS
from registry.decisions import decisions
from tests.end_to_end.conftest import Copies, Project, having

pytestmark = pytest.mark.slow


def begun(project: Project, *args: str) -> subprocess.Popen[str]:
    """The real command in a process of its own, its stderr line by line."""
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *args],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def what_it_made(project: Project) -> dict[str, Any]:
    folder = project.folder / "workspace/upgrades/tiny-v2"
    revision, gallery = read_json(folder / "revision.json"), project.workspace().gallery
    return {
        "h": read_json(folder / "h-v1/manifest.json")["digest"],
        "space": revision["space"],
        # items say where their images lie, and the two projects lie in two places
        "rows": {name: gallery.snapshot(name, at=one["version"]).content for name, one in revision["tables"].items() if name != "items"},
        "index": revision["index"]["identity"],
        "verdict": read_json(folder / "verdict/verdict.json")["digest"],
    }


def finished(project: Project) -> dict[Path, int]:
    """Files of finished steps and when they were written."""
    folder = project.folder / "workspace/upgrades/tiny-v2"
    names = ("pairs-v1/fitting/old.npy", "h-v1/weights.safetensors", "closed-v1/manifest.json", "evaluation-v1/metrics.json")
    return {folder / name: (folder / name).stat().st_mtime_ns for name in names if (folder / name).exists()}


def test_an_upgrade_killed_in_each_of_its_steps_ends_as_an_undisturbed_one_without_redoing_finished_steps(
    copy_serving: Copies, candidate: Project
) -> None:
    project = having(copy_serving(), ("register", "build/releases/v2"))
    before: dict[Path, int] = {}
    for step in STEPS:
        process = begun(project, "upgrade", "2")
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == f"tiny v2: {step}":
                break
        else:
            pytest.fail(f"the run ended before the step {step}")
        process.kill()
        process.wait()
        assert project.workspace().ledger.serving()["release"] == 1
        now = finished(project)
        assert {path: now[path] for path in before} == before, f"killed in {step}: a finished step was done again"
        before = now
    ran = project.command("upgrade", "2")
    assert ran.code == 0, ran.err
    now = finished(project)
    assert {path: now[path] for path in before} == before
    assert what_it_made(project) == what_it_made(candidate)
    assert project.fct("approve", "2", "--by", "ana", "--why", "w").code == 0 and project.fct("promote", "2").code == 0


def test_of_four_racing_upgrades_one_works_and_the_others_say_who(copy_serving: Copies) -> None:
    project = having(copy_serving(), ("register", "build/releases/v2"))
    racers = [begun(project, "upgrade", "2") for _ in range(4)]
    ended = [(process.communicate()[1], process.returncode) for process in racers]
    codes = sorted(code for _, code in ended)
    assert codes.count(1) <= 3 and set(codes) <= {0, 1}, ended
    losers = [err for err, code in ended if code == 1]
    assert losers, "all four worked, one after the other"
    assert all("another process works on 'tiny'" in err and "upgrade to version 2" in err and "Traceback" not in err for err in losers)
    assert json.loads(project.fct("status", "--json").out)["versions"]["2"]["status"] == "passed"


def test_a_newer_version_supersedes_a_waiting_one_which_can_still_be_approved(copy_waiting: Copies) -> None:
    project = copy_waiting()
    params = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(params.replace("seed: 0\n", "seed: 1\n", 1))
    assert project.fct("train", "v2", "--out", "build/releases/v3").code == 0
    (project.folder / "params.yaml").write_text(params)
    assert project.fct("register", "build/releases/v3").code == 0
    found = json.loads(project.fct("status", "--json").out)["versions"]
    assert found["2"]["status"] == "superseded" and found["3"]["status"] == "registered"
    workspace = project.workspace()
    digest = read_json(project.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")["digest"]
    workspace.releases.tag(2, "fct.approve", f"ana {digest}")  # explicitly, as in the MLflow UI
    decisions.record(workspace)
    assert json.loads(project.fct("status", "--json").out)["versions"]["2"]["status"] == "approved"
    assert project.fct("promote", "2").code == 0
    assert json.loads(project.fct("status", "--json").out)["serving"]["release"] == 2


def test_a_tag_that_approves_is_carried_out_by_the_next_look_and_written_down_once(copy_waiting: Copies) -> None:
    project = copy_waiting()
    workspace = project.workspace()
    digest = read_json(project.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")["digest"]
    workspace.releases.tag(2, "fct.approve", f"ana {digest}")
    assert "approved by ana" in project.fct("reconcile", "--once").err
    assert project.fct("reconcile", "--once").code == 0
    workspace.releases.untag(2, "fct.approve")
    assert "is gone" in project.fct("reconcile", "--once").err
    workspace.releases.tag(2, "fct.reject", "ben too slow")
    assert "rejected by ben" in project.fct("reconcile", "--once").err
    workspace.releases.untag(2, "fct.reject")
    workspace.releases.tag(2, "fct.approve", f"ana {digest}")
    params = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(params.replace("auto: false", "auto: true"))
    ran = project.fct("reconcile", "--once")
    assert ran.code == 0 and "promoted" in ran.err, ran.err
    decisions = [(entry.action, entry.by) for entry in workspace.ledger.entries() if entry.detail.get("version") == 2]
    assert decisions == [("approve", "ana"), ("withdraw", "registry"), ("reject", "ben"), ("approve", "ana")]
    assert workspace.ledger.serving()["release"] == 2 and workspace.ledger.entries()[-1].by == "ana"


def test_only_named_approvers_count(copy_waiting: Copies) -> None:
    project = copy_waiting()
    params = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(params.replace("approvers: []", "approvers: [ana]").replace("auto: false", "auto: true"))
    ran = project.fct("approve", "2", "--by", "mallory", "--why", "me")
    assert ran.code == 3 and "promote.approvers" in ran.err
    workspace = project.workspace()
    digest = read_json(project.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")["digest"]
    workspace.releases.tag(2, "fct.approve", f"mallory {digest}")
    project.fct("reconcile", "--once")
    assert workspace.ledger.serving()["release"] == 1
    assert "mallory" in workspace.releases.version(2).tags["fct.note"] and "mallory" in project.fct("status").out
    assert all(entry.by != "mallory" for entry in workspace.ledger.entries())
