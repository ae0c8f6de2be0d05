"""New rows become part of what serves by one entry, and what a run cut short has left is taken along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct import forward
from fct.errors import LockHeld, NotPermitted, OperationFailed, Unreachable
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.entry import Entry
from registry.items import recording
from registry.items.recording import record
from registry.revisions import alarm, history
from registry.revisions.revision import Revision
from registry.revisions.serving import open_serving
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door
from tests.waiting import IDS, copied, waiting


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return waiting(tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    return copied(made, tmp_path)


def nothing() -> None:
    """We hold the lock."""


def recorded(workspace: Workspace, added: int, twin: int | None = None) -> Entry | None:
    about: dict[str, Any] = {"by": "ana", "why": "new", "check": nothing, "roots": []}
    return record(workspace, added, 1, twin, **about)


def arrive(workspace: Workspace, *ids: str) -> None:
    """Features and items of version 1, and no row in any space."""
    fingerprint, text = workspace.gallery.feature_info(1).fingerprint, ["label"] * len(ids)
    rows = by_hand.rows(len(ids), 7)
    workspace.gallery.ingest(1, fingerprint, list(ids), rows, np.ones((len(ids), 4), np.int8), text, text, text)


def shown(workspace: Workspace) -> list[str]:
    opened = open_serving(workspace)
    return sorted(opened.columns["id"][opened.shown].tolist())


@pytest.fixture(scope="module")
def made_promoted(made: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = copied(made, tmp_path_factory.mktemp("promoted"))
    approve(found, 2, by="ana", why="")
    promote(found, 2)
    arrive(found, "a")
    return found


@pytest.fixture
def promoted(made_promoted: Workspace, tmp_path: Path) -> Workspace:
    """Version 2 serves, a rollback returns to version 1, and an item arrived that neither has."""
    return copied(made_promoted, tmp_path)


def test_where_nothing_is_new_nothing_is_written(workspace: Workspace) -> None:
    assert recorded(workspace, 0) is None and recorded(workspace, 3) is None and len(workspace.ledger.entries()) == 1


def test_new_items_serve_by_the_next_revision_whatever_this_run_added(workspace: Workspace) -> None:
    arrive(workspace, "a", "b")
    entry = recorded(workspace, 0)  # they are of a run that was killed
    assert entry is not None and (entry.action, entry.release, entry.revision) == ("ingest", 1, 2)
    assert shown(workspace) == sorted([*IDS, "a", "b"]) and recorded(workspace, 0) is None


def test_a_killed_deletion_has_its_entry_first(workspace: Workspace) -> None:
    arrive(workspace, "a")
    workspace.gallery.delete(["i03"])
    recorded(workspace, 1)
    assert [entry.action for entry in workspace.ledger.entries()] == ["promote", "delete", "ingest"]
    assert shown(workspace) == sorted({*IDS, "a"} - {"i03"})


def test_what_waits_for_a_first_release_is_recorded_with_its_tables(tmp_path: Path) -> None:
    workspace = by_hand.project(tmp_path)
    at_door(workspace)
    by_hand.add_items(workspace, by_hand.release_of(tmp_path / "v1", 1), ["a", "b"], 1)
    assert recorded(workspace, 0) is None
    entry = recorded(workspace, 2)
    assert entry is not None and entry.serving is None and entry.detail["added"] == 2
    states = history.recorded(entry.detail)
    assert set(states) == {"items", "features/v1"} and states["items"].rows == 2


def test_the_release_before_gets_its_own_revision(promoted: Workspace) -> None:
    entry = recorded(promoted, 1, twin=1)
    assert entry is not None and (entry.release, entry.revision) == (2, 2)
    (twin,) = history.earlier(entry.detail)
    assert (twin.release, twin.number, twin.state.rows) == (1, 2, len(IDS) + 9)


def test_an_h_that_is_not_the_one_that_serves_carries_nothing(promoted: Workspace) -> None:
    rows = by_hand.rows(60, 3)
    forward.fit(rows, rows[:, ::-1].copy(), method="procrustes", device="cpu").save(Upgrade(promoted, 2).forward_folder(1))
    with pytest.raises(NotPermitted, match="an h is not the one that serves"):
        recorded(promoted, 1)
    assert promoted.ledger.entries()[-1].action == "promote"


TWIN = "spaces/v1-native"


def newest(workspace: Workspace, table: str) -> Path:
    """The data file that was written last."""
    return max((workspace.gallery.table_path(table) / "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def altered(path: Path) -> None:
    """One bit, which Lance does not notice."""
    data = bytearray(path.read_bytes())
    data[8] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def unreadable(path: Path) -> None:
    """Reading it fails, also for root."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [altered, cut, Path.unlink, unreadable])
@pytest.mark.parametrize("killed", [False, True])
def test_what_serves_gets_the_items_also_where_the_release_before_is_damaged(
    promoted: Workspace, spoil: Callable[[Path], None], killed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if killed:  # the file is of a run that ended before its entry
        promoted.gallery.append_space(TWIN, ["a"], by_hand.rows(1, 7), "native", np.zeros(1))
        arrive(promoted, "b")
    spoil(newest(promoted, TWIN))
    entry = recorded(promoted, 1, twin=1)
    assert entry is not None and (entry.release, entry.revision) == (2, 2) and history.earlier(entry.detail) == []
    assert shown(promoted) == sorted([*IDS, "a", *(["b"] if killed else [])])
    said = capsys.readouterr().err
    assert "the items were not added to release 1, which a rollback would return to: " in said and TWIN in said
    assert not alarm.raised(promoted), "nothing was made from it"


def test_what_serves_is_recorded_from_whole_files_alone(promoted: Workspace) -> None:
    revision = history.serving(promoted.ledger)
    assert revision is not None
    cut(newest(promoted, revision.space))
    with pytest.raises(OperationFailed, match="could not be read"):
        recorded(promoted, 1, twin=1)
    assert promoted.ledger.entries()[-1].action == "promote"


FULL, AWAY = OperationFailed("the disk is full", code="disk-full"), Unreachable("a server does not answer")
LOST, CROWDED = LockHeld("somebody else works on it"), OperationFailed("other writers keep changing the table")


@pytest.mark.parametrize(("error", "damaged"), [(FULL, False), (FULL, True), (AWAY, True), (LOST, True), (CROWDED, False)])
def test_what_passes_by_itself_stops_the_ingest_and_the_next_run_finishes_it(
    promoted: Workspace, error: OperationFailed, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend = recording.extend

    def fails(workspace: Workspace, revision: Revision, entries: list[Entry]) -> Revision | None:
        if revision.release == 1:
            raise error
        return extend(workspace, revision, entries)

    monkeypatch.setattr(recording, "extend", fails)
    if damaged:
        altered(newest(promoted, TWIN))
    with pytest.raises(OperationFailed, match=error.message):
        recorded(promoted, 1, twin=1)
    assert promoted.ledger.entries()[-1].action == "promote"
    monkeypatch.undo()
    entry = recorded(promoted, 0, twin=1)
    assert entry is not None and shown(promoted) == sorted([*IDS, "a"])
