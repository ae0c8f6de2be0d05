"""A workspace that earlier code has left is read, served, rolled back, promoted and upgraded by the code of the day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.revisions import kept
from tests.archive import ARCHIVES, taken_out
from tests.archive.make import MOST_BYTES, SHOP
from tests.end_to_end.conftest import Project

Old = tuple[Project, dict[str, Any]]


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.name.split(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    return taken_out(request.param, tmp_path)


def done(project: Project, *args: str) -> str:
    ran = project.fct(*args)
    assert ran.code == 0, f"{args}: {ran.out}{ran.err}"
    return ran.out


def statuses(project: Project, *more: str) -> dict[str, str]:
    return {n: one["status"] for n, one in json.loads(done(project, "status", "--json", *more))["versions"].items()}


def same_answers(found: dict[str, Any], before: dict[str, Any]) -> None:
    """The same items with the same words; scores within what another processor's sums differ by, which may swap equal ones."""
    assert (found["release"], found["revision"]) == (before["release"], before["revision"])
    score = {hit["id"]: hit["score"] for hit in before["hits"]}
    least = min(score.values())
    for hit in found["hits"]:
        assert hit["score"] == pytest.approx(score.get(hit["id"], least), abs=1e-4), hit["id"]
    words = {hit["id"]: (hit["label"], hit["origin"]) for hit in before["hits"]}
    assert all(words.get(hit["id"], (hit["label"], hit["origin"])) == (hit["label"], hit["origin"]) for hit in found["hits"])


def test_there_is_an_archive_and_it_is_small() -> None:
    assert ARCHIVES and all(archive.stat().st_size <= MOST_BYTES for archive in ARCHIVES)


def test_it_is_read_and_serves_as_before(old: Old) -> None:
    project, expected = old
    assert statuses(project) == expected["statuses"]["tiny"]
    assert statuses(project, *SHOP) == expected["statuses"]["shop"]
    log = json.loads(done(project, "log", "--json"))
    assert [entry["action"] for entry in log].count("promote") == 2 and log[-1]["action"] == "approve"
    same_answers(json.loads(done(project, "search", expected["query"], "-k", "20", "--json")), expected["answers"]["2"])
    assert expected["deleted"] not in [
        hit["id"] for hit in json.loads(done(project, "search", expected["query"], "-k", "400", "--json"))["hits"]
    ]


def test_what_serves_is_kept_when_it_is_first_opened_and_needs_no_mlflow_from_then_on(old: Old) -> None:
    project, expected = old
    workspace = project.workspace()
    place = kept.place(workspace, workspace.ledger.serving()["release_digest"])
    assert not place.exists(), "earlier code kept none"
    asked = ("search", expected["query"], "-k", "20", "--json")
    before = done(project, *asked)
    assert place.is_dir()
    for name in ("mlflow.db", "artifacts"):
        (workspace.folder / name).rename(project.folder / name)
    assert done(project, *asked) == before
    done(project, "delete", json.loads(before)["hits"][0]["id"], "--by", "ana")


def test_it_rolls_back_and_what_waits_with_an_approval_is_promoted(old: Old) -> None:
    project, expected = old
    done(project, "rollback", "--by", "ben", "--why", "a test", "--without-missing")
    found = json.loads(done(project, "search", expected["query"], "-k", "20", "--json"))
    assert found["release"] == 1
    before = [hit["id"] for hit in expected["answers"]["1"]["hits"] if hit["id"] != expected["deleted"]]
    assert [hit["id"] for hit in found["hits"]][:5] == before[:5]
    done(project, "promote", "2")
    done(project, "promote", "3")
    assert statuses(project)["3"] == "serving"
    assert json.loads(done(project, "search", expected["query"], "--json"))["release"] == 3


@pytest.mark.slow
def test_its_upgrades_go_on_one_that_was_cut_short_and_one_that_waits(old: Old) -> None:
    project, expected = old
    assert expected["statuses"]["shop"]["2"] not in ("passed", "refused", "inconclusive")
    done(project, "reconcile", "--once", *SHOP)
    assert statuses(project, *SHOP) == {"1": "serving", "2": "passed"}, "the given pairs are divided by the rule of the day"
    verdict = json.loads((project.folder / "workspace/upgrades/shop-v2/verdict/verdict.json").read_text(encoding="utf-8"))
    assert "recovered_unseen" in {gate["gate"] for gate in verdict["gates"] if gate["outcome"] == "passed"}, "five classes are held out"
    done(project, "approve", "2", "--by", "ana", "--why", "good", *SHOP)
    done(project, "promote", "2", *SHOP)
    done(project, "reconcile", "--once")
    assert statuses(project)["3"] == "approved", "a verdict that was reached and approved says what it said"
    done(project, "upgrade", "3")
    assert statuses(project)["3"] == "inconclusive", "measured again it follows the rules of the day: two unseen classes"
    done(project, "ingest", "build/data/images/validation")
    done(
        project, "delete", json.loads(done(project, "search", expected["query"], "--json"))["hits"][0]["id"], "--by", "ana", "--why", "sold"
    )
    done(project, "gc", "--yes")
