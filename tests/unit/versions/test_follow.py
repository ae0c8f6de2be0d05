"""MLflow shows what the ledger says, whatever somebody wrote there, and decides nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.errors import NotPermitted, Unreachable
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.decisions.rollback import rollback
from registry.mark import Mark, to_tag
from registry.mlflow.store import NOTE_TAG, STATUS_TAG
from registry.versions.approval import APPROVE
from registry.versions.follow import follow, follow_later
from registry.workspace import Workspace
from tests.no_mlflow import NoMlflow
from tests.waiting import waiting


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return waiting(tmp_path)


def shown(workspace: Workspace) -> tuple[int | None, list[str | None]]:
    """The alias, and the status tag of each version."""
    door = workspace.releases
    return door.champion(), [version.tags.get(STATUS_TAG) for version in door.versions()]


def test_alias_and_tags_follow_the_ledger_and_once_they_do_nothing_is_said(workspace: Workspace) -> None:
    said = follow(workspace)
    assert said[0] == "the alias champion pointed at None, the ledger serves 1" and "version 1 is now serving" in said
    assert shown(workspace) == (1, ["serving", "passed"]) and follow(workspace) == []
    workspace.releases.follow(2)
    workspace.releases.tag(2, STATUS_TAG, "serving")
    workspace.releases.untag(1, STATUS_TAG)
    assert len(follow(workspace)) == 3 and shown(workspace) == (1, ["serving", "passed"])
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    assert shown(workspace) == (2, ["retired", "serving"]) and follow(workspace) == []
    rollback(workspace, by="ana", why="")
    assert shown(workspace) == (2, ["retired", "serving"]), "a rollback waits for no MLflow"
    follow(workspace)
    assert shown(workspace) == (1, ["serving", "retired"])


def test_a_note_says_why_a_tag_does_not_count_and_goes_with_it(workspace: Workspace) -> None:
    follow(workspace)
    workspace.releases.tag(2, APPROVE, "ana yes")
    (said,) = follow(workspace)
    note = workspace.releases.version(2).tags[NOTE_TAG]
    assert said == f"version 2: {note}" and "does not end with the digits" in note and follow(workspace) == []
    workspace.releases.untag(2, APPROVE)
    assert follow(workspace) == [] and NOTE_TAG not in workspace.releases.version(2).tags


def test_why_an_approval_could_not_be_carried_out_is_a_note_until_it_is_no_more(workspace: Workspace) -> None:
    follow(workspace)
    assert follow(workspace, {2: "x" * 2000}) == [f"version 2: {'x' * 1000}"]
    assert workspace.releases.version(2).tags[NOTE_TAG] == "x" * 1000
    follow(workspace)
    assert NOTE_TAG not in workspace.releases.version(2).tags


def test_the_head_is_told_and_a_head_that_was_lost_is_missed(workspace: Workspace) -> None:
    follow(workspace)
    first = workspace.ledger.entries()[0]
    assert workspace.releases.head_tag() == to_tag(Mark(1, first.digest), first.token)
    workspace.releases.set_head_tag("words of somebody")
    follow(workspace)
    assert workspace.releases.head_tag() == to_tag(Mark(1, first.digest), first.token)
    workspace.releases.set_head_tag(to_tag(Mark(2, "a" * 64), first.token))
    with pytest.raises(NotPermitted, match="lost entry 2"):
        follow(workspace)


def test_a_version_that_was_deleted_in_mlflow_gets_no_alias(workspace: Workspace) -> None:
    door = workspace.releases
    assert isinstance(door, NoMlflow)
    del door.known[1]
    follow(workspace)
    assert door.champion() is None


def test_a_registry_that_is_away_or_gone_is_said_and_stops_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(self: NoMlflow) -> None:
        raise Unreachable("the MLflow tracking server cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(NoMlflow, "champion", away)
        follow_later(workspace)
    assert "done; MLflow will follow" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(NoMlflow, "nothing_there", True)
        follow_later(workspace)
    assert "its store is gone" in capsys.readouterr().err and workspace.releases.champion() is None
    follow_later(workspace)
    assert capsys.readouterr().err == "" and workspace.releases.champion() == 1
