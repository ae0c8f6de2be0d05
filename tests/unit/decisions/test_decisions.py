"""Approve, reject, withdraw: typed or by tag, each stands in the ledger once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.arrays import digests
from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, NotPermitted
from registry import lock
from registry.decisions.decisions import approve, record, reject
from registry.revisions import alarm
from registry.upgrade_files import CANDIDATE, VERDICT
from registry.versions.approval import APPROVE, REJECT
from registry.workspace import Workspace
from tests.waiting import reached, waiting, with_promote


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return waiting(tmp_path)


def decided(workspace: Workspace) -> list[tuple[str, str]]:
    """Action and author of each entry after the first promotion, none of which changes what serves."""
    entries = workspace.ledger.entries()
    assert all(entry.serving == entries[0].serving for entry in entries)
    return [(entry.action, entry.by) for entry in entries[1:]]


def digest_of(workspace: Workspace) -> str:
    return str(read_json(workspace.upgrade_folder(2) / VERDICT)["digest"])


def tags(workspace: Workspace) -> dict[str, str]:
    return workspace.releases.version(2).tags


def test_an_approval_names_the_verdict_and_the_candidate_and_stands_once(workspace: Workspace) -> None:
    assert approve(workspace, 2, by=" ana ", why="better", dry_run=True)["digest"] == digest_of(workspace)
    assert decided(workspace) == [] and APPROVE not in tags(workspace)
    approve(workspace, 2, by=" ana ", why="better")
    entry = workspace.ledger.entries()[-1]
    candidate = digests.of_file(workspace.upgrade_folder(2) / CANDIDATE)
    assert entry.detail == {"version": 2, "verdict": digest_of(workspace), "candidate": candidate}
    assert (entry.action, entry.by, entry.why) == ("approve", "ana", "better")
    assert tags(workspace)[APPROVE] == f"ana {digest_of(workspace)}" and tags(workspace)["fct.status"] == "approved"
    assert record(workspace) == [] and decided(workspace) == [("approve", "ana")]


def test_a_rejection_takes_the_approval_away_and_stands_once(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    reject(workspace, 2, by="ben", why="too slow", dry_run=True)
    assert decided(workspace) == [("approve", "ana")] and REJECT not in tags(workspace)
    reject(workspace, 2, by="ben", why="too slow")
    assert APPROVE not in tags(workspace) and tags(workspace)[REJECT] == "ben too slow" and tags(workspace)["fct.status"] == "rejected"
    assert record(workspace) == [] and decided(workspace) == [("approve", "ana"), ("reject", "ben")]
    approve(workspace, 2, by="ana", why="all the same")
    assert REJECT not in tags(workspace) and record(workspace) == [] and decided(workspace)[-1] == ("approve", "ana")


def test_what_serves_is_not_rejected_and_who_decides_about_nothing_is_told(workspace: Workspace) -> None:
    with pytest.raises(NotPermitted, match="version 1 serves"):
        reject(workspace, 1, by="ana", why="old")
    for decide in (approve, reject):
        with pytest.raises(BadInput, match="no version 7"):
            decide(workspace, 7, by="ana", why="x")
    with pytest.raises(BadInput, match="needs a reason"):
        reject(workspace, 2, by="ana", why=" ")
    assert decided(workspace) == [] and REJECT not in tags(workspace)


def test_an_approval_by_tag_is_recorded_once_and_withdrawn_once(workspace: Workspace) -> None:
    assert record(workspace) == []
    workspace.releases.tag(2, APPROVE, f"Ana Diaz {digest_of(workspace)}")
    assert record(workspace) == ["version 2 is approved by Ana Diaz"] and record(workspace) == []
    entry = workspace.ledger.entries()[-1]
    candidate = digests.of_file(workspace.upgrade_folder(2) / CANDIDATE)
    assert entry.detail == {"version": 2, "verdict": digest_of(workspace), "candidate": candidate, "via": APPROVE}
    workspace.releases.untag(2, APPROVE)
    assert record(workspace) == ["version 2: the tag of the decision 'approve' by Ana Diaz is gone or counts no more"]
    assert record(workspace) == [] and decided(workspace) == [("approve", "Ana Diaz"), ("withdraw", "registry")]


def test_another_name_or_another_verdict_is_another_decision(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    workspace.releases.tag(2, APPROVE, f"ben {digest_of(workspace)}")
    assert record(workspace) == ["version 2 is approved by ben"]
    reached(workspace, 2, metrics={"measured": "again"}, covers=read_json(workspace.upgrade_folder(2) / VERDICT)["covers"])
    assert "counts no more" in record(workspace)[0]
    workspace.releases.tag(2, APPROVE, f"ben {digest_of(workspace)}")
    record(workspace)
    assert decided(workspace) == [("approve", "ana"), ("approve", "ben"), ("withdraw", "registry"), ("approve", "ben")]


def test_a_rejection_by_tag_outranks_an_approval_by_tag(workspace: Workspace) -> None:
    workspace.releases.tag(2, APPROVE, f"ana {digest_of(workspace)}")
    workspace.releases.tag(2, REJECT, "ben too slow")
    assert record(workspace) == ["version 2 is rejected by ben"] and record(workspace) == []
    assert decided(workspace) == [("reject", "ben")] and workspace.ledger.entries()[-1].why == "too slow"
    workspace.releases.tag(2, REJECT, "cem slower still")
    assert record(workspace) == ["version 2 is rejected by cem"] and record(workspace) == []


def test_tags_that_do_not_count_are_no_decisions(workspace: Workspace) -> None:
    digest = digest_of(workspace)
    for value in ("ana", f"ana {'0' * 64}", f"ana {digest[:12]}"):
        workspace.releases.tag(2, APPROVE, value)
        assert record(workspace) == []
    workspace.releases.tag(2, APPROVE, f"ana {digest}")
    assert record(with_promote(workspace, approvers=("ben",))) == []
    (workspace.upgrade_folder(2) / CANDIDATE).unlink()  # no report that it could be about
    assert record(workspace) == []
    with pytest.raises(NotPermitted, match="not published yet"):
        approve(workspace, 2, by="ana", why="")
    reached(workspace, 2, outcome="refused", problems=["worse"], covers=read_json(workspace.upgrade_folder(2) / VERDICT)["covers"])
    workspace.releases.tag(2, APPROVE, f"ana {digest_of(workspace)}")
    assert record(workspace) == [] and decided(workspace) == []


def test_while_another_writes_or_files_are_damaged_nothing_is_recorded(workspace: Workspace) -> None:
    workspace.releases.tag(2, APPROVE, f"ana {digest_of(workspace)}")
    with lock.hold(workspace.locks, workspace.ledger_lock, "another", lease_s=60):
        assert record(workspace) == []
    alarm.sound(workspace, ["a file"])
    assert record(workspace) == []
    with pytest.raises(NotPermitted, match="not what the ledger recorded"):
        approve(workspace, 2, by="ana", why="")
    alarm.clear(workspace)
    assert record(workspace) == ["version 2 is approved by ana"]


def test_a_verdict_by_somebody_else_is_not_approved(workspace: Workspace) -> None:
    path = workspace.upgrade_folder(2) / VERDICT
    write_json(path, read_json(path) | {"gates": ["another"]})
    with pytest.raises(NotPermitted, match="altered after it was reached"):
        approve(workspace, 2, by="ana", why="")
    assert decided(workspace) == []
