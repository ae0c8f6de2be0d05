"""What somebody else does while a promotion waits for the lock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fct.errors import NotPermitted
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.revisions import history
from tests import by_hand
from tests.waiting import waiting


def test_another_release_that_was_promoted_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = waiting(tmp_path)
    approve(workspace, 2, by="ana", why="")
    door = workspace.releases
    where = door.folder_of

    def meanwhile(number: int) -> Path:
        serving = history.serving(workspace.ledger)
        if serving is not None and serving.release == 1:
            by_hand.append(workspace, "promote", replace(serving, release=3))
        return where(number)

    monkeypatch.setattr(door, "folder_of", meanwhile)  # asked for after verdict and approval, before the lock
    with pytest.raises(NotPermitted, match="another release was promoted a moment ago"):
        promote(workspace, 2)
    assert workspace.ledger.release() == 3
