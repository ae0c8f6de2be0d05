"""A person accepts that a ledger lost its newest entries: what they deleted stays deleted as far as the tables know it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.errors import BadInput, NotPermitted
from registry.decisions.accepting import accept
from registry.items.deletion import delete
from registry.revisions.serving import open_serving
from tests import by_hand


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
