"""What may go: `fct gc` says it first, and keeps what somebody returns to or decides about."""

from __future__ import annotations

import json
from pathlib import Path

from fct.arrays.files import read_json
from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Copies, Project, having
from tests.end_to_end.lives import answers, queries, set_params, sound


def test_gc_says_first_what_goes_and_keeps_what_a_rollback_returns_to(living: Project) -> None:
    set_params(living, batch_rows__4096="batch_rows: 30")
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "0.3").code == 0
    asked = queries(open_serving(ws))
    before, head = answers(open_serving(ws), asked), ws.ledger.head()
    (indexes,) = (ws.folder / "indexes").glob("*")
    there = {path.name for path in indexes.glob("*")}
    assert len(there) > 3
    plan = json.loads(living.fct("gc", "--json").out)
    assert plan["kept"] == [1, 2] and plan["spaces"] == [] and plan["versions"] and ws.ledger.head() == head
    assert {path.name for path in indexes.glob("*")} == there, "nothing was done"
    ran = living.fct("gc", "--yes", "--by", "ana", "--why", "disk")
    assert ran.code == 0, ran.err
    assert ws.ledger.head().action == "gc" and ws.ledger.head().serving == head.serving
    kept = {
        Path(head.serving["index"]["folder"]).name,
        Path(next(e.serving for e in ws.ledger.entries() if e.serving)["index"]["folder"]).name,
    }
    assert {path.name for path in indexes.glob("*")} == kept
    assert answers(open_serving(ws), asked) == before
    assert "nothing can go" in living.fct("gc").out
    assert living.fct("gc", "--yes").code == 0 and ws.ledger.head().number == head.number + 1
    sound(living)
    assert living.fct("rollback").code == 0
    assert open_serving(ws).revision.release == 1


def test_gc_of_a_retired_release_is_named_by_the_rollback_it_prevents(living: Project) -> None:
    set_params(living, keep_releases__2="keep_releases: 1")
    ws = living.workspace()
    features = {name: ws.gallery.snapshot(name).content for name in ("features/v1", "items")}
    plan = json.loads(living.fct("gc", "--json").out)
    assert plan["kept"] == [2] and plan["spaces"] == ["spaces/v1-native"] and "upgrades/tiny-v1/pairs-v1" in plan["folders"]
    assert living.fct("gc", "--yes").code == 0
    assert {name: ws.gallery.snapshot(name).content for name in features} == features
    ran = living.fct("rollback")
    assert ran.code == 3 and "dropped by `fct gc`" in ran.err
    assert (ws.upgrade_folder(1) / "report.html").exists() and (ws.upgrade_folder(1) / "verdict/verdict.json").exists()
    assert living.fct("search", str(next((living.folder / "build/data/images/validation").rglob("*.png")))).code == 0


def test_gc_keeps_a_candidate_whole(copy_waiting: Copies) -> None:
    project = copy_waiting()
    assert project.fct("gc", "--yes").code == 0
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    ran = project.fct("promote", "2")
    assert ran.code == 0, ran.err


def test_a_candidate_that_gc_dropped_after_its_rejection_is_said_to_be_gone_and_is_measured_again(copy_waiting: Copies) -> None:
    project = copy_waiting()
    ws, digest = project.workspace(), read_json(project.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")["digest"]
    having(project, ("reject", "2", "--by", "ana", "--why", "slow"), ("gc", "--yes"))
    entry = ws.ledger.head().number
    ws.releases.untag(2, "fct.reject")
    ws.releases.tag(2, "fct.approve", f"ana {digest}")  # as in the MLflow UI
    gone = f"what version 2 was measured with was dropped by gc (ledger entry {entry})"
    for command in (("approve", "2", "--by", "ana", "--why", "after all"), ("promote", "2"), ("promote", "2", "--dry-run")):
        ran = project.fct(*command)
        assert ran.code == 3 and gone in ran.err and "`fct upgrade 2`" in ran.err, ran.err
    said = json.loads(project.fct("status", "--fresh", "--json").out)
    assert said["versions"]["2"]["status"] == "fitted" and gone in said["ignored"]["2"]
    assert project.fct("upgrade", "2").code == 0
    having(project, ("approve", "2", "--by", "ana", "--why", "after all"), ("promote", "2"), ("status", "--verify"))
