"""Approvals that name no digest of candidate.json: those of earlier code count as they did, others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.errors import Altered
from registry import formats
from registry.decisions.approved import check_files
from registry.decisions.decisions import read_verdict
from registry.upgrade_files import REPORT
from registry.workspace import Workspace
from tests.waiting import waiting


def approved(workspace: Workspace, **more: str) -> None:
    """An entry *approve* of version 2, with ``more`` in its detail."""
    ledger, verdict = workspace.ledger, read_verdict(workspace, 2)
    head = ledger.head()
    assert verdict is not None and head is not None
    detail = {"version": 2, "verdict": verdict["digest"]} | more
    ledger.append(head, action="approve", by="ana", why="", model="tiny", serving=head.serving, detail=detail)


@pytest.mark.parametrize("earlier", [True, False])
def test_an_approval_that_covers_no_files_counts_only_where_earlier_code_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    if earlier:
        monkeypatch.setattr(formats, "ENTRY", formats.COVERING - 1)
    workspace = waiting(tmp_path)
    verdict = read_verdict(workspace, 2)
    assert verdict is not None
    check_files(workspace, 2, verdict)  # nobody approved anything: nothing is compared
    approved(workspace)
    (workspace.upgrade_folder(2) / REPORT).write_text("another", encoding="utf-8")
    if earlier:
        check_files(workspace, 2, verdict)
    else:
        with pytest.raises(Altered, match="the candidate was published again, or altered"):
            check_files(workspace, 2, verdict)


def test_an_approval_by_earlier_code_that_names_a_candidate_is_held_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ENTRY", formats.COVERING - 1)
    workspace = waiting(tmp_path)
    verdict = read_verdict(workspace, 2)
    assert verdict is not None
    approved(workspace, candidate="0" * 64)
    with pytest.raises(Altered, match="the candidate was published again, or altered"):
        check_files(workspace, 2, verdict)
