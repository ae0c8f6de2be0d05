"""A person accepts that a ledger lost its newest entries: what they deleted stays deleted as far as the tables know it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fct.errors import BadInput, NotPermitted
from registry.decisions.accepting import accept
from registry.items.deletion import delete
from registry.mark import Mark, to_tag
from registry.revisions import history
from registry.revisions.serving import open_serving
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door


def test_deleted_items_answer_neither_before_nor_after_the_loss_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    workspace = by_hand.two_releases(tmp_path)
    with pytest.raises(BadInput, match="no lost entry"):
        accept(workspace, by="ana", why="")
    delete(workspace, ["i03", "i04"], by="ana")
    for path in Path(workspace.ledger.place).glob("0000003.*"):
        path.unlink()
    again = by_hand.open_workspace(workspace.params)
    with pytest.raises(NotPermitted, match="lost entry 3"):
        open_serving(again)
    assert accept(again, by="ana", why="", dry_run=True)["entry"] == 3 and again.ledger.lost()
    found = accept(again, by="ana", why="the backup is all there is")
    head = again.ledger.head()
    assert head is not None and (head.number, head.action, head.by, head.detail) == (3, "accept", "ana", {"lost": found["lost"]})
    shown = open_serving(again)
    assert set(shown.columns["id"][shown.shown].tolist()) == {f"i{number:02}" for number in range(by_hand.ITEMS)} - {"i03", "i04"}
    assert not workspace.ledger.lost(), "who knew of the lost entry sees that it was accepted"


def _lost(folder: Path) -> Workspace:
    """Two releases have served; the third entry, a deletion, is lost."""
    workspace = by_hand.two_releases(folder)
    at_door(workspace)
    delete(workspace, ["i03"], by="ana")
    for path in Path(workspace.ledger.place).glob("0000003.*"):
        path.unlink()
    return workspace


def test_an_entry_of_which_only_mlflow_knows_is_accepted_with_the_others(tmp_path: Path) -> None:
    workspace = _lost(tmp_path)
    two = workspace.ledger.all_there()[1]
    workspace.releases.set_head_tag(to_tag(Mark(4, "d" * 64), workspace.ledger.all_there()[0].token))
    foreseen = accept(workspace, by="ana", why="", dry_run=True)
    assert [one["number"] for one in foreseen["lost"]] == [3, 4] and foreseen["serving"] == {"release": 2, "revision": 1}
    workspace.releases.set_head_tag(to_tag(Mark(2, two.digest), workspace.ledger.all_there()[0].token))
    found = accept(workspace, by="ana", why="")
    assert [one["number"] for one in found["lost"]] == [3], "what MLflow names is there"
    assert (found["entry"], found["serving"]) == (3, {"release": 2, "revision": 2})


def test_what_a_lost_entry_took_from_an_earlier_release_is_made_anew(tmp_path: Path) -> None:
    """A lost gc or purge has removed an index that release 1 names."""
    workspace = _lost(tmp_path)
    one = history.latest(workspace.ledger.all_there())[1]
    shutil.rmtree(workspace.folder / one.index.folder)
    accept(workspace, by="ana", why="")
    head = workspace.ledger.head()
    assert head is not None and head.detail.keys() == {"lost", "earlier"} and head.release == 2
    assert [(found["release"], found["revision"]) for found in head.detail["earlier"]] == [(1, 2)]
    now = history.latest(workspace.ledger.entries())[1]
    assert (workspace.folder / now.index.folder).is_dir() and now.verdict == one.verdict


def test_an_earlier_release_that_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = _lost(tmp_path)
    one = history.latest(workspace.ledger.all_there())[1]
    shutil.rmtree(workspace.folder / one.index.folder)
    file = next((workspace.gallery.table_path("spaces/v1-native") / "data").iterdir())
    file.write_bytes(file.read_bytes()[::-1])
    accept(workspace, by="ana", why="")
    head = workspace.ledger.head()
    assert head is not None and head.detail.keys() == {"lost", "damaged"} and head.detail["damaged"] == [1]
    assert "release 1 is not whole" in capsys.readouterr().err


def test_a_release_that_was_dropped_is_no_damage(tmp_path: Path) -> None:
    workspace = _lost(tmp_path)
    workspace.gallery.drop_space("spaces/v1-native")
    accept(workspace, by="ana", why="")
    head = workspace.ledger.head()
    assert head is not None and head.detail.keys() == {"lost"} and head.release == 2
