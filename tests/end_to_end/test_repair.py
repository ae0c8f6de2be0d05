"""``fct repair``: what is damaged is computed again, answers are as before, and nothing is changed where that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.workspace import Workspace
from tests.end_to_end.conftest import Copies, Project, having
from tests.end_to_end.test_damage import arrivals, data_file, flipped


def damage(project: Project, table: str, release: int | None = None) -> Path:
    """Flip two bits in the first data file of a table of what serves, or of a release."""
    ws = project.workspace()
    path = data_file(ws, revision(ws, release)["tables"], table)
    path.write_bytes(flipped(path))
    assert project.fct("status", "--verify").code == 3
    return path


def revision(ws: Workspace, release: int | None = None) -> dict[str, Any]:
    from registry.revision import latest

    serving = ws.ledger.serving()
    assert serving is not None
    return serving if release is None else latest(ws.ledger.entries())[release]


def answers(ws: Workspace) -> list[list[tuple[str, float]]]:
    from registry.serving import open_serving

    serving = open_serving(ws)
    rows = ws.gallery.space_rows(serving.revision["space"], serving.searcher.ids[:20])
    return [[(hit.id, round(hit.score, 5)) for hit in hits] for hits in serving.search_vectors(rows.vectors, 5)]


def repaired(project: Project, *args: str) -> dict[str, Any]:
    ran = project.fct("repair", "--by", "ana", "--why", "a disk failed", "--json", *args)
    assert ran.code == 0, ran.out + ran.err
    ws = project.workspace()
    assert ws.ledger.head().action == "repair" and ws.ledger.head().by == "ana"
    assert project.fct("status", "--verify").code == 0
    return json.loads(ran.out)  # type: ignore[no-any-return]


def refused(project: Project, *args: str) -> dict[str, Any]:
    """Exit code 3, and neither the ledger nor a table has changed."""
    ws = project.workspace()
    before = ws.ledger.head(), {name: ws.gallery.newest_version(name) for name in ws.gallery.tables()}
    ran = project.fct("repair", "--json", *args)
    assert ran.code == 3 and "Traceback" not in ran.err, ran.out + ran.err
    assert before == (ws.ledger.head(), {name: ws.gallery.newest_version(name) for name in ws.gallery.tables()})
    assert project.fct("status", "--verify").code == 3
    return json.loads(ran.out)  # type: ignore[no-any-return]


@pytest.fixture
def served(copy_serving: Copies) -> Project:
    return copy_serving()


@pytest.fixture
def carried(promoted_folder: Path, copies: Any) -> Project:
    """Version 2 serves what it carried over from version 1."""
    return copies(promoted_folder)  # type: ignore[no-any-return]


def test_rows_of_a_space_are_made_again_from_features(carried: Project, tmp_path: Path) -> None:
    ws = carried.workspace()
    before, space, found = revision(ws), revision(ws)["space"], answers(ws)
    assert carried.fct("repair").code == 0 and revision(ws) == before, "there is nothing to do"
    path = damage(carried, space)
    bytes_ = path.read_bytes()
    ran = carried.fct("repair", "--dry-run", "--json")
    assert ran.code == 0 and revision(ws) == before and json.loads(ran.out)["rows"][space] > 0, ran.out + ran.err
    said = repaired(carried)
    now = revision(ws)
    assert now["tables"][space]["content"] == before["tables"][space]["content"] and now["index"] == before["index"]
    assert said["rows"].keys() == {space} and answers(ws) == found and path.read_bytes() == bytes_
    assert "repair" in carried.fct("log").out
    having(carried, ("ingest", str(arrivals(tmp_path / "more"))), ("rollback", "--without-missing"))
    having(carried, ("promote", "2"), ("status", "--verify"))
