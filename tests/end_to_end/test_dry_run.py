"""``--dry-run``: every command of a release's life and of the gallery says what it would do, and not a byte of the workspace changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fct.arrays import digests
from tests.end_to_end.conftest import Copies, Project, having

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def waiting(copy_waiting: Copies) -> Project:
    """Version 1 serves, version 2 is approved and waits for its promotion."""
    return having(copy_waiting(), ("approve", "2", "--by", "ana", "--why", "good"))


def state(project: Project) -> dict[str, str]:
    root = project.folder / "workspace"
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and not {"locks", "prefect"} & set(path.parts) and path.suffix not in (".db-wal", ".db-shm")
    ]
    return digests.of_files(files, root)


def tried(project: Project, *args: str) -> str:
    before = state(project)
    ran = project.fct(*args, "--dry-run")
    assert ran.code == 0, ran.out + ran.err
    assert state(project) == before, args
    return ran.out + ran.err


def test_nothing_is_changed_and_what_would_be_is_said(waiting: Project, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    picture = next((waiting.folder / "build/data/images").rglob("*.png"))
    shutil.copy(picture, more / "new.png")
    shutil.copy(picture, more / "same.png")
    (more / "broken.png").write_bytes(b"no image")
    said = tried(waiting, "ingest", str(more))
    assert "2 items would be added, 0 are there" in said and "broken.png" in said and "same bytes" in said
    one = str(waiting.workspace().gallery.item_ids(role="item")[0])
    assert "1 items would be deleted, 1 ids unknown" in tried(waiting, "delete", one, "nobody", "--purge")
    assert "would be tiny version 2" in tried(waiting, "register", "build/releases/v2")
    assert "would be approved by bob" in tried(waiting, "approve", "2", "--by", "bob", "--why", "x")
    assert "would be rejected" in tried(waiting, "reject", "2", "--by", "bob", "--why", "x")
    said = tried(waiting, "promote", "2")
    assert "tiny 2 would serve in place of 1" in said and "0 of them to be caught up, approved by ana" in said
    assert "would hold" in tried(waiting, "export", str(tmp_path / "all.parquet")) and not (tmp_path / "all.parquet").exists()
    assert "to version 2" in tried(waiting, "upgrade", "2")
    assert tried(waiting, "reconcile") == "Nothing to do.\n", "promote.auto is false in the tests' project"


def test_a_dry_run_is_refused_where_the_command_would_be(waiting: Project) -> None:
    for args, code in (
        (("promote", "1"), 2),
        (("rollback",), 2),
        (("approve", "1", "--by", "a", "--why", "b"), 0),
        (("register", "build"), 2),
        (("reject", "1", "--by", "a", "--why", "b"), 3),
    ):
        before = state(waiting)
        ran = waiting.fct(*args, "--dry-run")
        assert ran.code == code, (args, ran.out, ran.err)
        assert state(waiting) == before, args


def test_a_promotion_and_a_rollback_do_what_was_foreseen(waiting: Project) -> None:
    foreseen = json.loads(waiting.fct("promote", "2", "--dry-run", "--json").out)
    entry = json.loads(waiting.fct("promote", "2", "--json").out)
    assert entry["serving"]["release"] == foreseen["version"] and entry["detail"]["delta_rows"] == foreseen["delta_rows"]
    before = state(waiting)
    foreseen = json.loads(waiting.fct("rollback", "--dry-run", "--json").out)
    assert state(waiting) == before
    entry = json.loads(waiting.fct("rollback", "--by", "ana", "--why", "test", "--json").out)
    assert (entry["serving"]["release"], entry["serving"]["revision"]) == (foreseen["to"], foreseen["revision"])
