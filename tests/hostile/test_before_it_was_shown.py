"""A verdict is approved before anybody was shown it, while the upgrade is between its verdict and its publication."""

from __future__ import annotations

import pytest

from registry import publish
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
        patch.setattr(publish, "publish", killed)
        patch.setattr(flows.upgrade, "publish", killed, raising=False)
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
