"""What is opened for searching: what was recorded, compared first, and nothing that was deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fct.errors import BadInput, NotPermitted
from registry.live import Live, without_deleted
from registry.revisions import history
from registry.revisions.serving import Serving, open_revision, open_serving
from registry.workspace import Workspace
from tests import by_hand


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return by_hand.two_releases(tmp_path)


def shown(serving: Serving) -> set[str]:
    return set(serving.columns["id"][serving.shown].tolist())


def test_every_byte_that_a_search_reads_is_compared_with_the_ledger_first(workspace: Workspace) -> None:
    revision = history.serving(workspace.ledger)
    assert revision is not None
    read = {name: revision.tables[name].files for name in ("items", revision.space)}
    files = [workspace.gallery.root / name for table in read.values() for name in table]
    files += sorted((workspace.folder / revision.index.folder).iterdir())
    assert len(files) >= 6
    before = open_serving(workspace).search_vectors(by_hand.rows(1, 9), 5)
    for path in files:
        data = path.read_bytes()
        for at in {0, len(data) // 2, len(data) - 2}:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(NotPermitted):
                open_serving(workspace)
        path.write_bytes(data)
    assert open_serving(workspace).search_vectors(by_hand.rows(1, 9), 5) == before


def test_a_candidate_shows_no_item_that_was_deleted_also_where_its_id_came_again(workspace: Workspace) -> None:
    """As a restarted server opens both: the candidate at the version that was measured, what serves as it is now."""
    candidate, one = (open_revision(workspace, revision) for revision in reversed(history.latest(workspace.ledger.entries()).values()))
    assert shown(without_deleted(workspace, candidate, one)) == shown(candidate) and "i07" in shown(candidate)
    workspace.gallery.delete(["i07", "i08"])
    by_hand.add_items(workspace, one.release, ["i07"], 7)  # another picture under the same id
    from registry.revisions.building import pin

    by_hand.append(workspace, "rollback", pin(workspace, 1, "spaces/v1-native", one.release, {}))
    now = open_serving(workspace)
    assert "i07" in shown(now) and "i08" not in shown(now)
    again = open_revision(workspace, candidate.revision)
    assert {"i07", "i08"} <= shown(again), "the tables of a candidate stay at the version that was measured"
    left = without_deleted(workspace, again, now)
    assert shown(left) == shown(candidate) - {"i07", "i08"}
    for one_id in ("i07", "i08"):
        with pytest.raises(BadInput, match="no such item"):
            left.row_of(one_id)
    everything = replace(now, shown=np.zeros_like(now.shown))
    assert not shown(without_deleted(workspace, again, everything))


def test_a_revision_that_later_code_wrote_is_not_served_and_what_served_goes_on_without_what_was_deleted(workspace: Workspace) -> None:
    live, head = Live(workspace), workspace.ledger.head()
    assert live.look() and live.now is not None and head is not None and head.serving is not None
    workspace.gallery.delete(["i07"])
    later = head.serving | {"format": 3, "revision": 2, "spaces": []}
    workspace.ledger.append(head, action="delete", by="ana", why="", model="tiny", serving=later)
    assert not live.look() and live.behind and "ledger entry 3" in live.problem and "later version" in live.problem
    assert live.now.entry == 2 and "i07" not in shown(live.now.serving) and "i08" in shown(live.now.serving)
