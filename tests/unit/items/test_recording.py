"""New rows become part of what serves by one entry, and what a run cut short has left is taken along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct import forward
from fct.errors import NotPermitted
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.entry import Entry
from registry.items.recording import record
from registry.revisions import history
from registry.revisions.serving import open_serving
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door
from tests.waiting import IDS, waiting


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return waiting(tmp_path)


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


def test_the_release_before_gets_its_own_revision(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    arrive(workspace, "a")
    entry = recorded(workspace, 1, twin=1)
    assert entry is not None and (entry.release, entry.revision) == (2, 2)
    (twin,) = history.earlier(entry.detail)
    assert (twin.release, twin.number, twin.state.rows) == (1, 2, len(IDS) + 9)


def test_an_h_that_is_not_the_one_that_serves_carries_nothing(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    arrive(workspace, "a")
    rows = by_hand.rows(60, 3)
    forward.fit(rows, rows[:, ::-1].copy(), method="procrustes", device="cpu").save(Upgrade(workspace, 2).forward_folder(1))
    with pytest.raises(NotPermitted, match="an h is not the one that serves"):
        recorded(workspace, 1)
    assert workspace.ledger.entries()[-1].action == "promote"
