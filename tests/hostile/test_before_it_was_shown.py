"""A verdict is approved before anybody was shown it, while the upgrade is between its verdict and its publication."""

from __future__ import annotations

import pytest

from fct.arrays.files import read_json
from fct.errors import NotPermitted
from registry.decisions import decisions, promotion
from registry.versions import approval, facts
from tests.end_to_end.conftest import Copies


def test_what_is_approved_before_it_was_published_is_not_promoted_with_other_files(
    copy_serving: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without candidate.json the ledger's entry *approve* holds no digest of it: the promotion then compares no file."""
    project = copy_serving()
    assert project.fct("register", "build/releases/v2").code == 0

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    import flows.upgrade

    with monkeypatch.context() as patch:
        patch.setitem(flows.upgrade.DOES, "publish", killed)
        project.fct("reconcile", "--once")
    folder = project.workspace().upgrade_folder(2)
    assert (folder / "verdict" / "verdict.json").exists() and not (folder / "candidate.json").exists()
    ran = project.fct("approve", "2", "--by", "ana", "--why", "unseen")
    print("approve:", ran.code, ran.out, ran.err)
    if ran.code != 0:
        return  # refused: nobody could have read it
    ran = project.fct("reconcile", "--once")
    print("reconcile:", ran.code, ran.out[-600:], ran.err[-300:])
    page = folder / "report.html"
    page.write_text(page.read_text(encoding="utf-8") + "<!-- another -->", encoding="utf-8")
    entry = [one for one in project.workspace().ledger.entries() if one.action == "approve"][-1]
    print(entry.detail)
    ran = project.fct("promote", "2")
    print("promote:", ran.code, ran.out, ran.err[-300:])
    assert ran.code == 3, "promoted with a file that is not the one that was approved"


def test_a_tag_that_is_set_before_anything_was_published_is_recorded_only_then_and_covers_the_files(copy_waiting: Copies) -> None:
    project = copy_waiting()
    workspace = project.workspace()
    path = workspace.upgrade_folder(2) / "candidate.json"
    published, digest = path.read_bytes(), read_json(workspace.upgrade_folder(2) / "verdict" / "verdict.json")["digest"]
    path.unlink()
    workspace.releases.tag(2, approval.APPROVE, approval.expected_value("ana", digest))
    assert decisions.record(workspace) == [] and "has no report" in facts.ignored(workspace)[2]
    path.write_bytes(published)
    assert decisions.record(workspace) == ["version 2 is approved by ana"]
    assert workspace.ledger.entries()[-1].detail["candidate"] and 2 not in facts.ignored(workspace)
    promotion.foresee(workspace, 2)


def test_an_entry_of_this_format_that_covers_no_file_allows_nothing(copy_waiting: Copies) -> None:
    """As earlier code wrote it where candidate.json was not there yet."""
    workspace = copy_waiting().workspace()
    digest = read_json(workspace.upgrade_folder(2) / "verdict" / "verdict.json")["digest"]
    workspace.releases.tag(2, approval.APPROVE, approval.expected_value("ana", digest))
    head, detail = workspace.ledger.head(), {"version": 2, "verdict": digest}
    workspace.ledger.append(head, action="approve", by="ana", why="", model="tiny", serving=head.serving, detail=detail)
    with pytest.raises(NotPermitted, match="since it was approved"):
        promotion.foresee(workspace, 2)
