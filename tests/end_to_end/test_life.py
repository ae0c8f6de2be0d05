"""The life of two releases, with real MLflow, Prefect, Lance, FAISS and Great Expectations, through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fct.forward.settings import CLOSED
from flows.upgrade import STEPS
from registry.verdicts.names import GATES
from tests.end_to_end.conftest import FIRST, Copies, Project, having


def serving(project: Project) -> Any:
    return json.loads(project.fct("status", "--json").out)["serving"]


def status(project: Project) -> dict[str, str]:
    return {version: one["status"] for version, one in json.loads(project.fct("status", "--json").out)["versions"].items()}


def query(project: Project) -> str:
    return str(next((project.folder / "build/data/images/validation").rglob("*.png")))


def answers(project: Project) -> Any:
    ran = project.fct("search", query(project), "-k", "20", "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@contextmanager
def altered(path: Path, data: bytes | None) -> Iterator[None]:
    """A file with other bytes (or deleted, None) inside the block; restored afterwards."""
    before = path.read_bytes()
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def test_the_upgrade_reads_no_gallery_image_and_reaches_a_verdict(candidate: Project) -> None:
    costs = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/costs.json").read_text())
    verdict = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json").read_text())
    assert costs["gallery_images_read"] == 0
    assert verdict["outcome"] == "passed"
    assert {g["gate"] for g in verdict["gates"]} == set(GATES)
    applied = {g["gate"] for g in verdict["gates"] if g["outcome"] != "not applicable"}
    assert applied == set(GATES) - {"order_helps"}, "params.yaml of the tiny project leaves no order to judge"
    assert len(verdict["suite"]["expectations"]) == len([g for g in verdict["gates"] if g["outcome"] != "not applicable"])


WATCHED = """
import sys

started = []
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, said: started.append((event, said)) if event in STARTS else None)
sys.argv = ["fct", *sys.argv[1:]]
from flows.cli import main

try:
    main()
finally:
    named = {said[1][2] if "-m" in said[1] else str(said[0]).rpartition("/")[2] if event == "subprocess.Popen" else event for event, said in started}
    print(sorted(name for name in sys.modules if name.split(".")[0] == "prefect"), sorted(named - {"ldconfig", "uname"}))  # libraries ask these two
"""


def test_without_a_server_the_steps_run_in_this_process_without_prefect(copy_of: Copies) -> None:
    project = copy_of()
    for args in (("register", "build/releases/v1"), ("ingest", "build/data")):
        assert project.fct(*args).code == 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED, "reconcile", "--once"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert [line for line in ran.stderr.splitlines() if line.startswith("tiny v1: ")] == [f"tiny v1: {step}" for step in STEPS]
    said = "Prefect's modules, and processes that were started: one, for the program that nobody has approved yet"
    assert ran.stdout.splitlines()[-1] == "[] ['fct.program.sandbox.child']", said
    assert status(project) == {"1": "passed"}


def test_a_prefect_server_that_is_named_and_away_is_one_sentence(candidate: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    ran = candidate.command("upgrade", "2")
    assert ran.code == 1 and "does not answer" in ran.err and "http://127.0.0.1:9/api" in ran.err and "PREFECT_API_URL" in ran.err
    assert "Traceback" not in ran.err and "contract" not in ran.err


def test_the_candidate_is_before_people_in_mlflow(candidate: Project) -> None:
    candidate.fct("reconcile", "--once")  # the status tag is a copy for people; other tests have moved it
    releases = candidate.workspace().releases
    version = releases.version(2)
    digest = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json").read_text())["digest"]
    assert digest[:12] in version.description and "fct.approve" in version.description
    assert version.tags["fct.status"] == "passed" and version.tags["fct.verdict"] == digest
    run_id = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/candidate.json").read_text())["run_id"]
    assert "<html" in releases.candidate_file(run_id, "report.html").read_text()
    assert f"/runs/{run_id}/artifacts/report.html" in version.description


def test_every_h_has_a_card_that_says_what_it_was_compared_with(candidate: Project) -> None:
    releases = candidate.workspace().releases
    number = json.loads((candidate.folder / "workspace/upgrades/tiny-v2/candidate.json").read_text())["forwards"]["v1"]
    cards = [releases.client.get_model_version("tiny-forward", str(number)).description]
    assert len(cards[0]) < 4500
    for words in ("version 1 to version 2", "| **fastfill-pool** |", "held-out rows", "Do not use it for items of another embedder"):
        assert words in cards[0], words
    assert sum(f"| {method} |" in cards[0] for method in CLOSED) == 1, "the best closed form, which lost or won"


def test_running_reconcile_again_does_nothing(candidate: Project) -> None:
    candidate.fct("reconcile", "--once")
    before = {p: p.stat().st_mtime_ns for p in (candidate.folder / "workspace/upgrades").rglob("*.json")}
    ran = candidate.fct("reconcile", "--once")
    assert ran.code == 0 and "Nothing to do" in ran.err
    assert before == {p: p.stat().st_mtime_ns for p in (candidate.folder / "workspace/upgrades").rglob("*.json")}


def test_running_the_upgrade_again_redoes_no_finished_step_and_reaches_the_same_verdict(candidate: Project) -> None:
    folder = candidate.folder / "workspace/upgrades/tiny-v2"
    digest = json.loads((folder / "verdict/verdict.json").read_text())["digest"]
    h = (folder / "h-v1/weights.safetensors").stat().st_mtime_ns
    assert candidate.fct("upgrade", "2").code == 0
    assert json.loads((folder / "verdict/verdict.json").read_text())["digest"] == digest
    assert (folder / "h-v1/weights.safetensors").stat().st_mtime_ns == h


def test_promote_before_approval_exits_3_and_changes_nothing(candidate: Project) -> None:
    ran = candidate.fct("promote", "2")
    assert ran.code == 3 and "not approved" in ran.err and "fct approve 2" in ran.err
    assert serving(candidate) == {"release": 1, "revision": 1}


def test_an_approval_of_another_digest_exits_3(candidate: Project) -> None:
    releases = candidate.workspace().releases
    releases.tag(2, "fct.approve", "ana 0123456789ab")
    try:
        ran = candidate.fct("promote", "2")
        assert ran.code == 3, ran.err
        assert serving(candidate)["release"] == 1
    finally:
        releases.untag(2, "fct.approve")


def test_a_status_tag_or_alias_set_by_hand_decides_nothing(candidate: Project) -> None:
    releases = candidate.workspace().releases
    releases.tag(2, "fct.status", "approved")
    releases.follow(2)
    assert candidate.fct("promote", "2").code == 3
    assert "moved by hand" in candidate.fct("status").out
    candidate.fct("reconcile", "--once")
    assert releases.champion() == 1 and releases.version(2).tags["fct.status"] == "passed"


def test_a_search_in_another_release_than_serves_is_refused(candidate: Project) -> None:
    ran = candidate.fct("search", query(candidate), "--release", "2")
    assert ran.code == 3 and "release 1 does" in ran.err


def places(project: Project) -> dict[str, Path]:
    workspace = project.workspace()
    folder = project.folder / "workspace/upgrades/tiny-v2"
    revision = json.loads((folder / "revision.json").read_text())
    run_id = json.loads((folder / "candidate.json").read_text())["run_id"]
    space = workspace.gallery.table_path(revision["space"])
    return {
        "program": workspace.releases.folder_of(2) / "program.pt2",
        "verdict": folder / "verdict/verdict.json",
        "published verdict": workspace.releases.candidate_file(run_id, "verdict.json"),
        "space": next((space / "data").iterdir()),
        "index": project.folder / "workspace" / revision["index"]["folder"] / "index.faiss",
        "h": folder / "h-v1/weights.safetensors",
    }


@pytest.mark.parametrize("what", ["program", "verdict", "published verdict", "space", "index", "h"])
@pytest.mark.parametrize("how", ["altered", "deleted"])
def test_an_artifact_changed_or_deleted_since_the_approval_exits_3(candidate: Project, what: str, how: str) -> None:
    releases = candidate.workspace().releases
    assert candidate.fct("approve", "2", "--by", "ana", "--why", "test").code == 0
    path = places(candidate)[what]
    try:
        with altered(path, flipped(path) if how == "altered" else None):
            ran = candidate.fct("promote", "2")
        assert ran.code == 3, ran.err
        assert len(ran.err.strip().splitlines()) == 1 and "Traceback" not in ran.err
        assert serving(candidate)["release"] == 1
        assert candidate.fct("status", "--verify").code == 0, "restored, and read: the alarm is over"
    finally:
        releases.untag(2, "fct.approve")


def test_approve_promote_rollback_and_every_status_on_the_way_is_true(candidate: Project) -> None:
    assert status(candidate) == {"1": "serving", "2": "passed"}
    assert "fct approve 2" in candidate.fct("status").out
    before = answers(candidate)
    assert before["release"] == 1

    assert candidate.fct("approve", "2", "--by", "ana", "--why", "report looks right").code == 0
    assert status(candidate)["2"] == "approved" and "fct promote 2" in candidate.fct("status").out

    ran = candidate.fct("promote", "2")
    assert ran.code == 0, ran.err
    assert status(candidate) == {"1": "retired", "2": "serving"} and serving(candidate) == {"release": 2, "revision": 1}
    after = answers(candidate)
    assert after["release"] == 2 and {hit["origin"] for hit in after["hits"]} == {"forward 1→2"}
    assert candidate.workspace().releases.champion() == 2

    assert candidate.fct("promote", "2").code == 2  # it serves already

    ran = candidate.fct("rollback", "--by", "ben", "--why", "a test")
    assert ran.code == 0, ran.err
    assert status(candidate)["1"] == "serving" and serving(candidate) == {"release": 1, "revision": 1}
    assert answers(candidate) == before  # bit for bit: scores are printed with all their digits
    assert "alias champion points at 2" in candidate.fct("status").out, "a rollback asks no MLflow"
    assert candidate.fct("reconcile", "--once").code == 0
    assert candidate.workspace().releases.champion() == 1 and "alias" not in candidate.fct("status").out
    log = candidate.fct("log").out
    assert all(word in log for word in ("approve 2", "promote", "rollback", "by ben", "report looks right"))

    assert candidate.fct("promote", "2").code == 0
    assert answers(candidate)["hits"] == after["hits"]
    assert candidate.fct("rollback", "--by", "ben", "--why", "leave it as it was").code == 0


def test_ids_of_canaries_are_never_answers(candidate: Project) -> None:
    ran = candidate.fct("search", query(candidate), "-k", "1000", "--json")
    ids = [hit["id"] for hit in json.loads(ran.out)["hits"]]
    assert len(ids) > 100 and not any(one.startswith("canary:") for one in ids)


def test_a_rejected_candidate_cannot_be_promoted(candidate: Project) -> None:
    releases = candidate.workspace().releases
    assert candidate.fct("reject", "2", "--by", "ana", "--why", "arrows got worse").code == 0
    try:
        assert status(candidate)["2"] in ("rejected", "retired")
        assert candidate.fct("promote", "2").code == 3
    finally:
        releases.untag(2, "fct.reject")


@pytest.mark.slow
def test_version_3_goes_straight_from_the_native_version(copy_of: Copies) -> None:
    """v3 after v2: the gallery is native to v1, so its h is fitted from v1, and the champion as served is v2 on h(1→2).

    With ψ as a picture: h(1→3) is given what version 3 sees in it, h(1→2) what version 2 sees, and their dimensions differ.
    """
    project = copy_of()
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["train"]["v1"]["side"] |= {"kinds": ["picture"], "bytes": 32, "drawing_epochs": 1}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    second = (("register", "build/releases/v2"), ("reconcile", "--once"), ("approve", "2", "--by", "a", "--why", "w"), ("promote", "2"))
    having(project, ("train", "v1"), *FIRST, *second)
    params["train"]["v2"]["embedder"]["dim"] += 8
    path.write_text(yaml.safe_dump(params | {"seed": 1}, sort_keys=False))
    assert project.fct("train", "v2", "--out", "build/releases/v3").code == 0
    assert project.fct("register", "build/releases/v3").code == 0
    ran = project.fct("reconcile", "--once")
    assert ran.code == 0, ran.err
    folder = project.folder / "workspace/upgrades/tiny-v3"
    verdict = json.loads((folder / "verdict/verdict.json").read_text())
    assert verdict["from"] == 2 and list(verdict["covers"]["forward"]) == ["1"]
    assert (folder / "h-v1/manifest.json").exists() and not (folder / "h-v2").exists()
    two = json.loads((project.folder / "workspace/upgrades/tiny-v2/evaluation-v1/metrics.json").read_text())
    three = verdict["metrics"]
    assert three["known"]["oo"]["mAP"]["value"] == pytest.approx(two["known"]["nh"]["mAP"]["value"], abs=1e-6)
