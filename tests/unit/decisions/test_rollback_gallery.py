"""A rollback on a real gallery: what it returns to, and what it refuses to return to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fct.errors import BadInput, Damaged, NotPermitted
from registry.decisions.rollback import foresee_rollback, rollback
from registry.entry import Entry
from registry.items.deletion import delete
from registry.revisions import alarm, history, kept
from registry.revisions.building import pin
from registry.revisions.serving import open_serving
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door
from tests.waiting import IDS


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = by_hand.two_releases(tmp_path)
    at_door(workspace)
    return workspace


def shown(workspace: Workspace) -> list[str]:
    opened = open_serving(workspace)
    return sorted(opened.columns["id"][opened.shown].tolist())


def refused(workspace: Workspace, match: str, kind: type[Exception] = NotPermitted) -> None:
    before = workspace.ledger.entries()
    for ask in (lambda: foresee_rollback(workspace), lambda: rollback(workspace, by="ana", why="")):
        with pytest.raises(kind, match=match):
            ask()
    assert workspace.ledger.entries() == before


def test_what_served_before_serves_again_to_the_byte_and_once(workspace: Workspace) -> None:
    first = workspace.ledger.entries()[0]
    foreseen = foresee_rollback(workspace)
    assert foreseen == {"from": 2, "to": 1, "revision": 1, "rows": len(IDS) + 8, "missing": 0} and len(workspace.ledger.entries()) == 2
    entry, now = rollback(workspace, by="ana", why="worse in the field")
    assert now and entry == workspace.ledger.head() and entry.serving == first.serving
    assert (entry.number, entry.action, entry.by, entry.why) == (3, "rollback", "ana", "worse in the field")
    assert entry.detail == {"from": 2, "to": 1, "missing": 0} and shown(workspace) == IDS
    assert rollback(workspace, by="ana", why="again") == (entry, False) and foresee_rollback(workspace) == entry
    assert len(workspace.ledger.entries()) == 3


def test_there_is_nothing_to_return_to_before_a_second_release(tmp_path: Path) -> None:
    workspace = by_hand.project(tmp_path)
    refused(workspace, "nothing serves", BadInput)
    release = by_hand.release_of(tmp_path / "v1", 1)
    by_hand.add_items(workspace, release, ["a"], 1)
    kept.keep(workspace, release)
    by_hand.append(workspace, "promote", pin(workspace, 1, "spaces/v1-native", release, {}))
    refused(workspace, "version 1 is the first release that served", BadInput)


def late(workspace: Workspace) -> Entry:
    """One item that only release 2 has embedded."""
    serving = history.serving(workspace.ledger)
    assert serving is not None
    release, row, text = kept.release(workspace, serving), by_hand.rows(1, 7), ["label"]
    workspace.gallery.ingest(2, release.fingerprint, ["late"], row, np.ones((1, 4), np.int8), text, text, text)
    workspace.gallery.append_space(serving.space, ["late"], row, "native", np.zeros(1))
    by_hand.append(workspace, "ingest", pin(workspace, 2, serving.space, release, serving.forward))
    head = workspace.ledger.head()
    assert head is not None
    return head


def test_items_that_the_release_before_never_saw_are_missed_only_where_somebody_says_so(workspace: Workspace) -> None:
    late(workspace)
    refused(workspace, r"release 1 has no vectors of 1 items that serve now \(late …\)")
    foreseen = foresee_rollback(workspace, without_missing=True)
    assert isinstance(foreseen, dict) and foreseen["missing"] == 1
    entry, now = rollback(workspace, by="ana", why="", without_missing=True)
    assert now and entry.detail["missing"] == 1 and shown(workspace) == IDS


def test_items_that_are_deleted_are_no_missing_ones(workspace: Workspace) -> None:
    late(workspace)
    delete(workspace, ["late"], by="ana")
    assert rollback(workspace, by="ana", why="")[0].detail["missing"] == 0


@pytest.mark.parametrize("whole", [True, False])
def test_deleted_items_stay_deleted(workspace: Workspace, whole: bool) -> None:
    """Also where the deletion was killed before it had an entry."""
    if whole:
        delete(workspace, ["i03", "i04"], by="ana")
    else:
        workspace.gallery.delete(["i03", "i04"])
    entry, _ = rollback(workspace, by="ana", why="")
    serving = history.serving(entry)
    assert serving is not None and (serving.release, serving.number, serving.masked, serving.verdict) == (1, 2, 2, "a verdict")
    assert shown(workspace) == sorted({*IDS} - {"i03", "i04"})


def test_a_release_whose_space_was_dropped_cannot_be_returned_to(workspace: Workspace) -> None:
    workspace.gallery.drop_space("spaces/v1-native")
    refused(workspace, "release 1 was dropped by `fct gc`")


def test_damage_of_what_served_before_keeps_what_serves(workspace: Workspace) -> None:
    file = next((workspace.gallery.table_path("spaces/v1-native") / "data").iterdir())
    file.write_bytes(file.read_bytes()[::-1])
    refused(workspace, "spaces/v1-native", Damaged)
    assert alarm.raised(workspace) and workspace.ledger.release() == 2
