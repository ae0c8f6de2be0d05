"""A deletion on a real gallery: what leaves, what its entry says, and what finishes one that was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fct.errors import BadInput, Damaged, LockHeld, NotPermitted
from registry import lock
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.items.deletion import delete, finish
from registry.revisions import alarm, history
from registry.revisions.revision import Revision
from registry.revisions.serving import open_serving
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door
from tests.waiting import CANARIES, IDS, waiting


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Version 2 serves, version 1 served before."""
    workspace = by_hand.two_releases(tmp_path)
    at_door(workspace)
    return workspace


def serving(workspace: Workspace) -> Revision:
    found = history.serving(workspace.ledger)
    assert found is not None
    return found


def shown(workspace: Workspace) -> list[str]:
    opened = open_serving(workspace)
    return sorted(opened.columns["id"][opened.shown].tolist())


def nothing() -> None:
    """We hold the lock."""


def test_items_are_masked_at_once_and_unknown_ids_are_counted(workspace: Workspace) -> None:
    before = serving(workspace)
    wanted = ["i03", "i04", "i03", "", "nobody"]
    foreseen = delete(workspace, wanted, by="ana", dry_run=True)
    assert foreseen == {"deleted": 2, "unknown": 1, "entry": None, "damaged": {}} and len(workspace.ledger.entries()) == 2
    found = delete(workspace, wanted, by="ana", why="asked for it")
    assert found == {"deleted": 2, "unknown": 1, "entry": 3, "damaged": {}}
    entry, now = workspace.ledger.entries()[-1], serving(workspace)
    assert (entry.action, entry.by, entry.why) == ("delete", "ana", "asked for it")
    assert (now.release, now.number, now.masked) == (2, 2, 2) and now.index == before.index, "no index is built"
    assert shown(workspace) == sorted({*IDS} - {"i03", "i04"})
    (earlier,) = history.earlier(entry.detail)
    assert (earlier.release, earlier.number, earlier.masked) == (1, 2, 2), "what a rollback returns to, too"
    assert {key: entry.detail[key] for key in ("items", "purged")} == {"items": 2, "purged": False}
    assert delete(workspace, wanted, by="ana") == {"deleted": 0, "unknown": 3, "entry": None, "damaged": {}}
    assert len(workspace.ledger.entries()) == 3


def test_a_canary_is_refused_and_then_nothing_is_deleted(workspace: Workspace) -> None:
    with pytest.raises(BadInput, match=f"canary belongs to the release.*{CANARIES[0]}"):
        delete(workspace, ["i03", CANARIES[0]], by="ana")
    for none in ([], [""]):
        with pytest.raises(BadInput, match="no ids were given"):
            delete(workspace, none, by="ana")
    assert shown(workspace) == IDS and len(workspace.ledger.entries()) == 2


@pytest.mark.parametrize("again", [True, False])
def test_a_deletion_that_was_killed_is_finished_by_itself_or_by_finish(workspace: Workspace, again: bool) -> None:
    workspace.gallery.delete(["i03"])
    if again:
        assert delete(workspace, ["i03"], by="ana")["entry"] == 3
    else:
        finish(workspace, by="ben", check=nothing)
        entry = workspace.ledger.entries()[-1]
        assert (entry.action, entry.by, entry.why) == ("delete", "ben", "finishes a deletion that was killed")
        assert entry.detail["items"] == 1 and [one.release for one in history.earlier(entry.detail)] == [1]
    assert serving(workspace).masked == 1 and "i03" not in shown(workspace)
    finish(workspace, by="ben", check=nothing)
    assert len(workspace.ledger.entries()) == 3


def test_who_lost_the_lock_writes_no_entry(workspace: Workspace) -> None:
    def taken() -> None:
        raise LockHeld("somebody else works on it")

    workspace.gallery.delete(["i03"])
    with pytest.raises(LockHeld):
        finish(workspace, by="ben", check=taken)
    assert len(workspace.ledger.entries()) == 2


def test_a_promotion_finishes_the_deletion_before_its_own_entry(tmp_path: Path) -> None:
    workspace = waiting(tmp_path)
    approve(workspace, 2, by="ana", why="")
    workspace.gallery.delete(["i03"])
    promote(workspace, 2)
    assert [entry.action for entry in workspace.ledger.entries()] == ["promote", "approve", "delete", "promote"]
    assert shown(workspace) == sorted({*IDS} - {"i03"})


def test_an_id_that_came_again_is_another_item(workspace: Workspace) -> None:
    delete(workspace, ["i03"], by="ana")
    assert serving(workspace).masked == 1
    row, text = by_hand.rows(1, 9), ["label"]
    fingerprint = workspace.gallery.feature_info(1).fingerprint
    workspace.gallery.ingest(1, fingerprint, ["i03"], row, np.ones((1, 4), np.int8), text, text, text)
    assert "i03" not in shown(workspace), "not by the picture that was deleted"


def spoil(workspace: Workspace, table: str) -> None:
    file = next((workspace.gallery.table_path(table) / "data").iterdir())
    file.write_bytes(file.read_bytes()[::-1])


def test_an_earlier_release_that_is_damaged_is_named_and_keeps_no_item_alive(workspace: Workspace) -> None:
    spoil(workspace, "spaces/v1-native")
    found = delete(workspace, ["i03"], by="ana")
    assert found["deleted"] == 1 and list(found["damaged"]) == [1] and "i03" not in shown(workspace)
    detail = workspace.ledger.entries()[-1].detail
    assert detail["damaged"] == [1] and detail["earlier"] == []


def test_nothing_is_deleted_from_what_serves_damaged(workspace: Workspace) -> None:
    spoil(workspace, serving(workspace).space)
    with pytest.raises(Damaged):
        delete(workspace, ["i03"], by="ana")
    assert alarm.raised(workspace) and len(workspace.ledger.entries()) == 2 and "i03" in workspace.gallery.item_ids()


def test_a_purge_waits_for_nobody_and_removes_versions_and_indexes(tmp_path: Path) -> None:
    workspace = waiting(tmp_path)
    with lock.hold(workspace.locks, workspace.settings.model, "an upgrade", lease_s=60), pytest.raises(LockHeld):
        delete(workspace, ["i03"], by="ana", purge=True)
    assert "i03" in workspace.gallery.item_ids()
    index = serving(workspace).index.folder
    found = delete(workspace, ["i03"], by="ana", purge=True)
    assert {key: found[key] for key in ("deleted", "unknown", "entry", "left", "void")} == {
        "deleted": 1, "unknown": 0, "entry": 2, "left": [], "void": [2],
    }  # fmt: skip
    entry, now = workspace.ledger.entries()[-1], serving(workspace)
    assert entry.detail["purged"] and now.masked is None and now.index.folder != index
    assert index in entry.detail["folders"] and not (workspace.folder / index).exists()
    assert shown(workspace) == sorted({*IDS} - {"i03"})
    for table in workspace.gallery.tables():
        assert len(set(entry.detail["versions"].get(table, [])) & {now.tables[table].version if table in now.tables else 0}) == 0
    with pytest.raises(NotPermitted, match="no verdict yet"):
        approve(workspace, 2, by="ana", why="what it was measured with is gone")
