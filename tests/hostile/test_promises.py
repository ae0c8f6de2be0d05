"""Promises of docs/guarantees.md, attacked where parts meet: each test is a chain of events that broke one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml

from fct.gallery import tables
from registry.items.deletion import delete
from registry.live import Live
from registry.revisions.history import latest
from registry.workspace import Workspace
from tests.end_to_end.conftest import Copies, Project, having

pytestmark = pytest.mark.slow


def picture(project: Project, folder: str, name: str, of: str) -> Path:
    """A folder with the picture of another image under a name of its own; run again it exchanges the picture."""
    place = project.folder / folder / Path(name).parent
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(project.folder / "images" / of, project.folder / folder / name)
    return project.folder / folder


def served_row(ws: Workspace, one: str) -> np.ndarray:
    """(N, D) rows of an id in what serves: N is 0 or 1."""
    serving = ws.ledger.serving()
    assert serving is not None
    rows = ws.gallery.read_space(serving["space"], at=serving["tables"][serving["space"]]["version"])
    return rows.vectors[rows.ids == one]


def flipped(data: bytes) -> bytes:
    """Two bits of a number: Lance reads the file as before."""
    at = len(data) // 4
    return data[:at] + bytes([data[at] ^ 0b11]) + data[at + 1 :]


def lose_newest(ws: Workspace) -> None:
    folder = ws.folder / "ledger" / ws.settings.model
    number = max(int(path.name[:7]) for path in folder.glob("*.json"))
    for path in folder.glob(f"{number:07d}.*"):
        path.unlink()


def some(ws: Workspace) -> str:
    return str(ws.gallery.item_ids(role="item")[3])


def killed(when: str) -> Callable[..., int]:
    """``tables.delete_rows`` of a process that dies at the first table with this name."""
    real = tables.delete_rows

    def delete_rows(root: Path, name: str, ids: np.ndarray) -> int:
        if name.startswith(when):
            raise KeyboardInterrupt
        return real(root, name, ids)

    return delete_rows


@pytest.mark.parametrize("when", ["spaces/", "the ledger's entry"])
def test_an_id_that_comes_again_after_a_deletion_was_killed_has_the_row_of_its_own_picture(copy_serving: Copies, when: str) -> None:
    project = copy_serving()
    place = picture(project, "more", "class-00/xx.png", "class-00/03.png")
    having(project, ("ingest", str(place)))
    ws, one = project.workspace(), "class-00/xx.png"
    before = served_row(ws, one)
    with (
        patch.object(tables, "delete_rows", killed(when)),
        patch("registry.items.deletion.enter", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        delete(ws, [one], by="ana")
    picture(project, "more", "class-00/xx.png", "class-05/03.png")
    having(project, ("ingest", str(place)))
    (batch,) = ws.gallery.features(1, ids=[one])
    assert np.allclose(served_row(ws, one), batch.phi, atol=1e-2) and not np.allclose(served_row(ws, one), before, atol=1e-2)
    having(project, ("status", "--verify"))


def test_features_of_a_later_release_that_a_killed_deletion_left_are_not_those_of_an_id_that_comes_again(copy_serving: Copies) -> None:
    ws, one = copy_serving().workspace(), "again"
    info, phi = ws.gallery.feature_info(1), np.ones((1, 3), dtype=np.float32)
    old = (batch.phi[:1] for batch in ws.gallery.features(1))
    own, psi = next(old), np.zeros((1, info.psi_dim), dtype=np.int8)
    ws.gallery.ingest(1, info.fingerprint, [one], own, psi, [""], [""], [""], psi_bits=info.psi_bits)
    ws.gallery.add_features(2, "later", [one], phi, None)
    with patch.object(tables, "delete_rows", killed("features/v2")), pytest.raises(KeyboardInterrupt):
        ws.gallery.delete([one])
    assert one in ws.gallery.feature_ids(2) and one not in ws.gallery.item_ids()
    ws.gallery.delete_leftovers(1, np.array([one]))
    assert one not in ws.gallery.feature_ids(2)


def test_a_rollback_to_a_release_that_was_damaged_at_a_deletion_shows_no_deleted_picture_under_an_id_that_came_again(
    copy_waiting: Copies,
) -> None:
    project, one = copy_waiting(), "class-00/xx.png"
    place = picture(project, "more", one, "class-00/03.png")
    having(project, ("ingest", str(place)), ("approve", "2", "--by", "ana", "--why", "fine"), ("promote", "2"))
    ws = project.workspace()
    first = latest(ws.ledger.entries())[1]
    path = next(ws.gallery.root / name for name in first.state.files if "/data/" in name)
    whole = path.read_bytes()
    path.write_bytes(flipped(whole))
    having(project, ("delete", one, "--by", "ana"))
    path.write_bytes(whole)  # restored from a backup
    picture(project, "more", one, "class-05/03.png")
    having(project, ("ingest", str(place)))
    assert project.fct("rollback", "--by", "ana", "--why", "w").code == 3, "version 1 has never seen the new picture"
    having(project, ("rollback", "--by", "ana", "--why", "w", "--without-missing"))
    assert (ws.ledger.serving() or {})["release"] == 1 and not len(served_row(ws, one))


def test_a_candidate_shows_no_deleted_picture_under_an_id_that_came_again_although_its_promotion_was_killed(copy_waiting: Copies) -> None:
    project, one = copy_waiting(), "class-00/xx.png"
    place = picture(project, "more", one, "class-00/03.png")
    having(project, ("ingest", str(place)), ("upgrade", "2"), ("delete", one, "--by", "ana"))
    picture(project, "more", one, "class-05/03.png")
    having(project, ("ingest", str(place)), ("approve", "2", "--by", "ana", "--why", "fine"))
    with patch("registry.decisions.promotion.enter", side_effect=KeyboardInterrupt):
        assert project.fct("promote", "2").code == 130
    live = Live(project.workspace(), candidate=True)
    assert live.look()
    live.compare()
    assert live.now is not None and live.now.candidate is not None and live.now.candidate.own is not None
    own = live.now.candidate.own
    assert own.shown.any() and not own.shown[own.columns["id"] == one].any()


def test_a_purge_with_a_candidate_that_waits_is_no_damage(copy_waiting: Copies) -> None:
    project = copy_waiting()
    having(project, ("delete", some(project.workspace()), "--purge", "--by", "ana"), ("status", "--verify"), ("reconcile", "--once"))


def refit(project: Project) -> None:
    path = project.folder / "params.yaml"
    params: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["fit"]["epochs"] += 1
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def test_an_upgrade_that_is_run_again_after_a_rollback_with_another_h_is_no_damage(
    promoted_folder: Path, copies: Callable[[Path], Project]
) -> None:
    project = copies(promoted_folder)
    having(project, ("rollback", "--by", "ana", "--why", "h is poor"))
    refit(project)
    having(project, ("upgrade", "2"), ("status", "--verify"), ("approve", "2", "--by", "ana", "--why", "fine"), ("promote", "2"))


def test_a_release_that_a_rollback_returns_to_is_not_measured_again(promoted_folder: Path, copies: Callable[[Path], Project]) -> None:
    """Its h's would be exchanged, and after the rollback nothing could be ingested any more."""
    project = copies(promoted_folder)
    ran = project.fct("upgrade", "1")
    assert ran.code == 2 and "rollback" in ran.err, ran.err


@pytest.mark.parametrize("later", [False, True])
def test_who_accepts_that_a_purges_entry_is_lost_can_go_on(
    later: bool, copy_serving: Copies, promoted_folder: Path, copies: Callable[[Path], Project]
) -> None:
    """The purge has removed the versions of tables that the entries before it name."""
    project = copies(promoted_folder) if later else copy_serving()
    ws = project.workspace()
    one, other = some(ws), str(ws.gallery.item_ids(role="item")[5])
    having(project, ("delete", one, "--purge", "--by", "ana"))
    lose_newest(ws)
    having(project, ("reconcile", "--accept-head", "--by", "ana", "--why", "gone"), ("status", "--verify"))
    assert not len(served_row(project.workspace(), one))
    having(project, ("delete", other, "--by", "ana"), ("ingest", str(picture(project, "more", "class-00/xx.png", "class-00/03.png"))))
    if later:
        having(project, ("rollback", "--by", "ana", "--why", "w", "--without-missing"))
        assert not len(served_row(project.workspace(), one)) and not len(served_row(project.workspace(), other))
    having(project, ("status", "--verify"))


def test_a_table_of_an_earlier_release_that_cannot_be_read_keeps_no_items_alive(
    promoted_folder: Path, copies: Callable[[Path], Project]
) -> None:
    """docs/gallery.md: damage in another release must keep neither a person's items nor the way back."""
    project = copies(promoted_folder)
    ws = project.workspace()
    one, first = some(ws), latest(ws.ledger.entries())[1]
    path = next(ws.gallery.root / name for name in first.state.files if "/data/" in name)
    path.write_bytes(path.read_bytes()[:-1])  # Lance finds no end of it
    ran = project.fct("delete", one, "--by", "ana")
    assert not len(served_row(project.workspace(), one)), ran.err


def test_a_damaged_release_that_a_deletion_left_behind_stops_nothing_for_ever(
    promoted_folder: Path, copies: Callable[[Path], Project]
) -> None:
    """There may be no backup of it; nobody can return to it, and what serves is whole."""
    project = copies(promoted_folder)
    ws = project.workspace()
    first = latest(ws.ledger.entries())[1]
    path = next(ws.gallery.root / name for name in first.state.files if "/data/" in name)
    path.write_bytes(flipped(path.read_bytes()))
    assert project.fct("status", "--verify").code == 3
    having(project, ("delete", some(ws), "--by", "ana"), ("status", "--verify"))
    having(project, ("ingest", str(picture(project, "more", "class-00/xx.png", "class-00/03.png"))), ("gc", "--yes"))
