"""Runs cut short, late-comers and second tries: nothing is lost, nothing slips in, running the command again finishes the work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from registry.upgrades.steps.index import index
from registry.upgrades.upgrade import Upgrade
from tests.end_to_end.conftest import Copies, Project, having


@pytest.fixture(scope="module")
def waiting(copy_waiting: Copies) -> Project:
    """Version 2 has a passed verdict and an approval."""
    return having(copy_waiting(), ("approve", "2", "--by", "ana", "--why", "w"))


def new_images(project: Project, name: str, count: int) -> str:
    folder = project.folder / name
    folder.mkdir()
    for number, image in enumerate(sorted((project.folder / "images").rglob("*.png"))[:count]):
        shutil.copy(image, folder / f"{name}-{number}.png")
    return name


def serving(project: Project) -> tuple[int, int]:
    """Release and number of rows that serve."""
    entry = json.loads(project.fct("log", "--json").out)[-1]["serving"]
    return entry["release"], entry["tables"][entry["space"]]["rows"]


def test_a_verdict_that_was_never_put_before_people_is_published_by_the_next_reconcile(waiting: Project) -> None:
    candidate = waiting.folder / "workspace/upgrades/tiny-v2/candidate.json"
    candidate.unlink()  # as if the run had been killed between validate and publish
    assert waiting.fct("promote", "2").code == 3
    assert waiting.fct("reconcile", "--once").code == 0
    assert candidate.exists()


@pytest.mark.parametrize("name", ["candidate.json", "revision.json", "verdict/verdict.json", "verdict/canaries.json"])
@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_half_a_file_forbids_promotion_and_status_still_answers(waiting: Project, name: str, text: str) -> None:
    path = waiting.folder / "workspace/upgrades/tiny-v2" / name
    before = path.read_bytes()
    path.write_text(text)
    try:
        ran = waiting.fct("promote", "2")
        assert ran.code == 3 and ran.err.startswith("fct: ") and len(ran.err.strip().splitlines()) == 1, ran.err
        assert waiting.fct("status").code == 0
    finally:
        path.write_bytes(before)


def test_other_index_settings_never_touch_the_index_that_serves_and_never_slip_past_the_verdict(waiting: Project) -> None:
    params = waiting.folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("kind: auto", "kind: hnsw"))
    try:
        index(Upgrade(waiting.workspace(), 2))  # a run killed right after the step index
        ran = waiting.fct("promote", "2")
        assert ran.code == 3 and "revision.json of version 2 is not the file that was approved" in ran.err, ran.err
        image = next((waiting.folder / "images").rglob("*.png"))
        assert waiting.fct("search", str(image)).code == 0
    finally:
        params.write_text(before)
        assert waiting.fct("upgrade", "2").code == 0


def test_more_late_comers_than_allowed_need_a_new_verdict_however_often_one_tries(waiting: Project) -> None:
    """Also: ingest while a candidate waits is served at once by version 1, and carried over at promotion."""
    params = waiting.folder / "params.yaml"
    before = params.read_text()
    _, rows = serving(waiting)
    assert waiting.fct("ingest", new_images(waiting, "late", 5)).code == 0
    assert serving(waiting) == (1, rows + 5)
    params.write_text(before.replace("max_delta: 0.5", "max_delta: 0.0001"))
    for _ in range(2):
        ran = waiting.fct("promote", "2")
        assert ran.code == 3 and "5 of" in ran.err, ran.err
    params.write_text(before)
    ran = waiting.fct("promote", "2")
    assert ran.code == 0, ran.err
    assert serving(waiting) == (2, rows + 5)
    assert waiting.fct("rollback", "--by", "ana", "--why", "w").code == 0
    assert serving(waiting) == (1, rows + 5)


def test_an_ingest_cut_short_is_finished_by_the_next(waiting: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = serving(waiting)
    folder = new_images(waiting, "cut", 4)
    with monkeypatch.context() as patch:
        patch.setattr("registry.items.recording.extend", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert waiting.fct("ingest", folder).code == 130
    assert serving(waiting)[1] == rows
    assert waiting.fct("ingest", folder).code == 0
    assert serving(waiting)[1] == rows + 4


def test_ingesting_again_by_another_path_changes_nothing(waiting: Project) -> None:
    entries = len(json.loads(waiting.fct("log", "--json").out))
    ran = waiting.fct("ingest", str((waiting.folder / "cut").absolute()), "--json")
    assert ran.code == 0 and json.loads(ran.out)["added"] == 0
    assert len(json.loads(waiting.fct("log", "--json").out)) == entries


def test_a_version_whose_artifacts_cannot_be_had_is_invalid_and_keeps_nobody_waiting(waiting: Project) -> None:
    releases = waiting.workspace().releases
    releases.client.create_model_version("tiny", source=str(Path("/nowhere/at/all").as_uri()))
    ran = waiting.fct("reconcile", "--once")
    assert ran.code == 0 and "invalid" in ran.err, ran.err
    assert releases.version(3).tags["fct.status"] == "invalid"


def test_the_champion_is_read_from_the_ledger_each_time_an_upgrade_starts(waiting: Project) -> None:
    ran = waiting.fct("upgrade", "1")
    assert ran.code == 2 and "serves already" in ran.err
