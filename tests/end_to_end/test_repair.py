"""``fct repair``: what is damaged is computed again, answers are as before, and nothing is changed where that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.damage import repairing
from registry.live import Live
from registry.revisions import history
from registry.revisions.revision import Revision, read
from registry.workspace import Workspace
from tests.end_to_end.conftest import Copies, Project, having
from tests.end_to_end.test_damage import arrivals, data_file, flipped

pytestmark = pytest.mark.slow


def damage(project: Project, table: str, release: int | None = None) -> Path:
    """Flip two bits in the first data file of a table of what serves, or of a release."""
    ws = project.workspace()
    path = data_file(ws, revision(ws, release), table)
    path.write_bytes(flipped(path))
    assert project.fct("status", "--verify").code == 3
    return path


def revision(ws: Workspace, release: int | None = None) -> Revision:
    serving = history.serving(ws.ledger)
    assert serving is not None
    return serving if release is None else history.latest(ws.ledger.entries())[release]


def answers(ws: Workspace) -> list[list[tuple[str, float]]]:
    from registry.revisions.serving import open_serving

    serving = open_serving(ws)
    rows = ws.gallery.space_rows(serving.revision.space, serving.searcher.ids[:20])
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
    before, space, found = revision(ws), revision(ws).space, answers(ws)
    assert carried.fct("repair").code == 0 and revision(ws) == before, "there is nothing to do"
    path = damage(carried, space)
    bytes_ = path.read_bytes()
    ran = carried.fct("repair", "--dry-run", "--json")
    assert ran.code == 0 and revision(ws) == before and json.loads(ran.out)["rows"][space] > 0, ran.out + ran.err
    said = repaired(carried)
    now = revision(ws)
    assert now.state.content == before.state.content and now.index == before.index
    assert said["rows"].keys() == {space} and answers(ws) == found and path.read_bytes() == bytes_
    assert "repair" in carried.fct("log").out
    having(carried, ("ingest", str(arrivals(tmp_path / "more"))), ("rollback", "--without-missing"))
    having(carried, ("promote", "2"), ("backfill", "--fraction", "0.2"))
    found = answers(ws)
    damage(carried, space)
    repaired(carried)
    assert answers(ws) == found, "backfilled rows are made from features of the release's own"
    having(carried, ("rollback", "--without-missing"), ("promote", "2"), ("status", "--verify"))


def test_features_are_embedded_again_and_every_release_that_had_them_goes_on(carried: Project) -> None:
    ws = carried.workspace()
    live = Live(ws)
    assert live.look() and live.now is not None
    having(carried, ("delete", str(ws.gallery.item_ids(role="item")[0])))
    assert live.look()
    before, old, rows, found = revision(ws), revision(ws, 1), ws.gallery.raw("features/v1"), answers(ws)
    damage(carried, "features/v1")
    damage(carried, old.space, 1)
    assert any("fct repair" in one for one in json.loads(carried.fct("status", "--verify", "--json").out)["damaged"])
    said = repaired(carried)
    assert said["rows"].keys() == {"features/v1", old.space} and said["compared"] > 0
    again = ws.gallery.raw("features/v1")
    assert (again["id"] == rows["id"]).all() and (again["psi"] == rows["psi"]).all() and np.allclose(again["phi"], rows["phi"], rtol=1e-3)
    now = revision(ws)
    assert now.tables["features/v1"].version > before.tables["features/v1"].version and now.index == before.index
    assert live.look() and live.now.serving.revision == now and not live.problem, "a server goes on with the new revision"
    assert answers(ws) == found
    having(carried, ("rollback",), ("status", "--verify"))
    assert revision(ws).state.rows == old.state.rows
    having(carried, ("promote", "2"), ("backfill", "--fraction", "0.1"), ("status", "--verify"))


def test_nothing_is_changed_while_an_image_is_gone_or_is_another_picture(served: Project, tmp_path: Path) -> None:
    ws, more = served.workspace(), arrivals(tmp_path / "more")
    there = revision(ws).tables["features/v1"].files
    having(served, ("ingest", str(more)))
    new = revision(ws).tables["features/v1"].files.keys() - there.keys()
    path = next(ws.gallery.root / name for name in new if "/data/" in name)
    path.unlink()
    one, other = sorted(more.rglob("*.png"))[::5]
    whole = one.read_bytes()
    one.unlink()
    said = refused(served)
    assert [name for name, _ in said["gone"]] == [one.relative_to(more).as_posix()] and "put the images back" in said["error"]["sentence"]
    one.symlink_to(shutil.copy(other, tmp_path / "elsewhere.png"))
    assert "no declared root" in refused(served)["gone"][0][1]
    one.unlink()
    one.write_bytes(other.read_bytes())
    assert "another picture" in refused(served)["gone"][0][1]
    one.write_bytes(whole)
    assert repaired(served)["rows"] == {"features/v1": 6} and said["compared"] == 5
    having(served, ("ingest", str(arrivals(tmp_path / "most"))), ("gc", "--yes"), ("status", "--verify"))
    ran = served.command("delete", one.relative_to(more).as_posix(), "--purge")  # old versions go, in which files are missing
    assert ran.code == 0, ran.err
    having(served, ("status", "--verify"))


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy"])
def test_an_index_is_built_anew_in_a_folder_of_its_own(served: Project, name: str) -> None:
    ws = served.workspace()
    before, found = revision(ws).index, answers(ws)
    path = ws.folder / before.folder / name
    path.write_bytes(flipped(path))
    said = repaired(served)
    now = revision(ws).index
    assert said["indexes"] == [1] and not said["rows"] and now.folder != before.folder and now.identity == before.identity
    assert answers(ws) == found and not path.exists(), "the damaged one goes, by the name in the entry"


@pytest.mark.parametrize("where", ["write", "carry", "enter", "drop"])
def test_a_repair_that_was_killed_is_finished_by_the_next(carried: Project, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = carried.workspace()
    space, rows, found = revision(ws).space, ws.gallery.raw("features/v1"), answers(ws)
    damage(carried, "features/v1")
    damage(carried, space)
    with monkeypatch.context() as patch:
        patch.setattr(repairing, where, killed)
        assert carried.fct("repair").code == 130
    done = where == "drop"
    assert (revision(ws).number > 1) == done and carried.fct("status", "--verify").code == (0 if done else 3)
    if not done:
        repaired(carried)
    assert answers(ws) == found and (ws.gallery.feature_ids(1) == rows["id"]).all()
    having(carried, ("rollback",), ("status", "--verify"))


def killed(*args: object, **more: object) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_repaired_is_left_behind_by_name_or_restored(carried: Project) -> None:
    ws = carried.workspace()
    old = revision(ws, 1)
    damage(carried, revision(ws).space)
    manifest = next(ws.gallery.root / name for name in old.state.files if "_versions" in name)
    manifest.unlink()
    assert refused(carried)["blocked"].keys() == {"1"} and "cannot be repaired" in carried.fct("repair").err
    for leave in ("2", "7"):
        assert carried.fct("repair", "--leave", leave).code == 2
    assert repaired(carried, "--leave", "1")["left"].keys() == {"1"}
    ran = carried.fct("rollback")
    assert ran.code == 3 and manifest.name in ran.err and "left behind" in ran.err, ran.err
    having(carried, ("backfill", "--fraction", "0.1"), ("status", "--verify"))


def test_items_are_restored_and_nothing_else_is_touched_before(served: Project) -> None:
    ws = served.workspace()
    space = damage(served, revision(ws).space)
    items = next(ws.gallery.root / name for name in revision(ws).tables["items"].files if "/data/" in name)
    whole = items.read_bytes()
    items.write_bytes(flipped(items))
    cures = {
        Path(one.split(": ")[1].split(";")[0]).name: one for one in json.loads(served.fct("status", "--verify", "--json").out)["damaged"]
    }
    assert "fct repair" in cures[space.name] and "fct repair" not in cures[items.name] and "restore it" in cures[items.name]
    assert items.name in refused(served)["blocked"]["1"]
    items.write_bytes(whole)
    repaired(served)


def test_a_gallery_from_which_nothing_serves_yet_is_repaired(copy_of: Copies, tmp_path: Path) -> None:
    project = having(copy_of(), ("register", "build/releases/v1"), ("ingest", str(arrivals(tmp_path / "more"))))
    ws = project.workspace()
    path = next(ws.gallery.root / name for name in ws.gallery.files("features/v1") if "/data/" in name)
    path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairing, "write", killed)
        assert project.fct("repair").code == 130
    assert not len(ws.gallery.feature_ids(1)) or len(ws.gallery.feature_ids(1)) < len(ws.gallery.item_ids())
    repaired(project)
    assert (ws.gallery.feature_ids(1) == ws.gallery.item_ids()).all()


def test_a_space_of_what_serves_that_is_gone_is_damage(served: Project) -> None:
    ws = served.workspace()
    shutil.rmtree(ws.gallery.table_path(revision(ws).space))
    assert refused(served)["blocked"].keys() == {"1"}


@pytest.mark.parametrize("table", ["features/v1", "its space", "its manifest", "its index"])
def test_a_candidate_with_damaged_files_is_measured_again(copy_waiting: Copies, table: str) -> None:
    project = copy_waiting()
    ws = project.workspace()
    having(project, ("approve", "2", "--by", "ana", "--why", "fine"))
    its = read(ws.upgrade_folder(2) / "revision.json")
    path = ws.folder / its.index.folder / "index.faiss"
    if table == "its manifest":
        path = max(ws.gallery.table_path(its.space).glob("_versions/*.manifest"), key=lambda one: -int(one.stem))
    elif table != "its index":
        path = data_file(ws, its, table)
    path.write_bytes(flipped(path))
    assert repaired(project)["void"] == [2]
    ran = project.fct("promote", "2")
    assert ran.code == 3 and ("dropped by repair" if table == "its manifest" else "no verdict") in ran.err, ran.err
    having(project, ("reconcile", "--once"), ("approve", "2", "--by", "ana", "--why", "again"), ("promote", "2"), ("status", "--verify"))
