"""A backfill on a real gallery: how far it goes, in which steps, and where one that was killed goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct.errors import BadInput, LockHeld, NotPermitted
from fct.release.folder import Release
from fct.sample.folder import PairsFolder
from registry import lock
from registry.items.backfill import Backfilled, backfill
from registry.items.batches import Batches
from registry.revisions import alarm
from registry.revisions.serving import open_serving
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import by_hand, embedding
from tests.embedding import EMPTY, GONE
from tests.waiting import IDS, copied

BATCH = 8


@pytest.fixture(scope="module")
def made(untrained: Release, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return embedding.serving(embedding.made(tmp_path_factory.mktemp("made"), untrained))


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """Version 2 serves 40 items that were carried over; a batch takes eight."""
    settings = replace(made.settings, backfill=replace(made.settings.backfill, batch_rows=BATCH))
    found = replace(made, settings=settings)
    found.__dict__["_releases"] = made.releases
    return copied(found, tmp_path)


def backfilled(workspace: Workspace) -> set[str]:
    opened = open_serving(workspace)
    return set(opened.columns["id"][opened.columns["origin"] == "backfilled"].tolist())


def entries(workspace: Workspace) -> list[int]:
    """Items of each backfill's entry."""
    return [entry.detail["items"] for entry in workspace.ledger.entries() if entry.action == "backfill"]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({}, "the backfill needs a limit"),
        ({"fraction": 0.0}, "--fraction has an unusable value"),
        ({"fraction": 1.01}, "--fraction has an unusable value"),
        ({"until_map": float("nan")}, "--until-mAP has an unusable value"),
        ({"minutes": 0.0}, "--budget-minutes has an unusable value"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(made: Workspace, limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        backfill(made, by="ana", **limits)


def test_where_nothing_serves_there_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing serves"):
        backfill(by_hand.project(tmp_path), fraction=1.0, by="ana")


def test_a_dry_run_says_how_much_it_would_be_and_does_nothing(made: Workspace) -> None:
    said = list[dict[str, Any]]()
    found = backfill(made, fraction=0.5, by="ana", dry_run=True, said=said.append)
    assert (found.rows, found.embedded, found.share, found.stopped) == (20, 0, (0.0, 0.5), "nothing was done")
    assert [step["share"] for step in found.steps] == [0.0, 0.5] and [step["predicted_mAP"] for step in found.steps] == [0.2, 0.6]
    assert said == found.steps[:1] and entries(made) == [] and "features/v2" not in made.gallery.tables()


def test_each_batch_is_a_step_with_an_entry_until_the_share_is_reached(workspace: Workspace) -> None:
    order, said = Batches(workspace, _serving(workspace)).ranked().tolist(), list[dict[str, Any]]()
    found = backfill(workspace, fraction=0.5, by="ana", why="nights", said=said.append)
    assert (found.rows, found.embedded, found.share, found.stopped) == (20, 20, (0.0, 0.5), "the share is reached")
    assert [step["share"] for step in found.steps] == [0.0, 0.2, 0.4, 0.5] and [step["rows"] for step in found.steps] == [0, 8, 8, 4]
    assert [step["predicted_mAP"] for step in found.steps] == pytest.approx([0.2, 0.36, 0.52, 0.6]) and said == found.steps
    assert entries(workspace) == [8, 8, 4] and found.steps[-1]["entry"] == workspace.ledger.entries()[-1].number
    assert backfilled(workspace) == set([one for one in order if one not in (EMPTY, GONE)][:20]), "the least certain"
    assert workspace.releases.head_tag() is not None, "MLflow follows"
    again = backfill(workspace, fraction=0.5, by="ana")
    assert (again.rows, again.share, again.stopped) == (0, (0.5, 0.5), "the share is reached") and entries(workspace) == [8, 8, 4]


def test_images_that_cannot_be_read_leave_their_place_to_the_next(workspace: Workspace) -> None:
    found = backfill(workspace, fraction=1.0, by="ana")
    assert {one for one, _ in found.skipped} == {EMPTY, GONE} and found.stopped == "no more images can be read"
    assert (found.rows, found.embedded) == (38, 38) and found.share == pytest.approx((0.0, 0.95)) and sum(entries(workspace)) == 38
    assert backfilled(workspace) == {*IDS} - {EMPTY, GONE}
    most = backfill(workspace, fraction=1.0, by="ana")
    assert (most.rows, most.stopped) == (0, "no more images can be read") and len(most.skipped) == 2


def test_it_stops_at_the_first_batch_that_reaches_the_map(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = _measured(backfill(copied(workspace, tmp_path_factory.mktemp("whole")), fraction=1.0, by="ana"))
    target = (whole[0] + max(whole)) / 2
    assert max(whole) > whole[0]
    found = _measured(backfill(workspace, until_map=target, by="ana"))
    assert found == whole[: len(found)] and found[-1] >= target and all(value < target for value in found[:-1])
    again = backfill(workspace, until_map=target, by="ana")
    assert again.rows == 0 and again.stopped == f"mAP {found[-1]:.4f} is reached"


def test_a_map_that_cannot_be_measured_is_refused_and_a_share_is_not(workspace: Workspace) -> None:
    PairsFolder(Upgrade(workspace, 2).pairs_folder(1)).save("sample", labels=np.full(60, "another"))
    with pytest.raises(BadInput, match="mAP cannot be measured.*no item of the gallery has a label"):
        backfill(workspace, until_map=0.5, by="ana")
    found = backfill(workspace, fraction=0.1, by="ana")
    assert found.why_not_measured and _measured(found) == [None, None] and entries(workspace) == [4]


def test_when_the_time_is_over_the_batch_at_hand_is_finished(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import backfill as module

    clock = iter([0.0, 30.0, 70.0, 80.0])  # begun, before the first batch, after it
    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock))}))
    found = backfill(workspace, minutes=1.0, by="ana")
    assert found.stopped == "1 minutes are over" and entries(workspace) == [BATCH]


def test_what_was_killed_goes_on_where_it_stopped_and_embeds_nothing_twice(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, calls = Batches.commit, list[int]()

    def killed(self: Batches, ids: np.ndarray, **more: Any) -> Any:
        calls.append(len(ids))
        if len(calls) == 3:  # the first is of what an earlier run left
            raise KeyboardInterrupt
        return commit(self, ids, **more)

    monkeypatch.setattr(Batches, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        backfill(workspace, fraction=0.5, by="ana")
    monkeypatch.undo()
    there = len(workspace.gallery.feature_ids(2))
    assert entries(workspace) == [8] and there == 16
    found = backfill(workspace, fraction=0.5, by="ana")
    assert (found.rows, found.embedded) == (12, 4) and found.share == pytest.approx((0.2, 0.5)) and entries(workspace) == [8, 8, 4]


def test_one_at_a_time_and_none_from_damaged_files(workspace: Workspace) -> None:
    with lock.hold(workspace.locks, "tiny-backfill", "ben: backfill", lease_s=60), pytest.raises(LockHeld):
        backfill(workspace, fraction=0.5, by="ana")
    alarm.sound(workspace, ["a file"])
    with pytest.raises(NotPermitted, match="not what the ledger recorded"):
        backfill(workspace, fraction=0.5, by="ana")
    assert entries(workspace) == []


def test_damage_that_a_batch_meets_raises_the_alarm(workspace: Workspace) -> None:
    file = next((workspace.gallery.table_path(_serving(workspace).space) / "data").iterdir())
    data = bytearray(file.read_bytes())
    data[8] ^= 1
    file.write_bytes(data)
    with pytest.raises(NotPermitted):
        backfill(workspace, fraction=0.5, by="ana")
    assert alarm.raised(workspace) and entries(workspace) == []


def _serving(workspace: Workspace) -> Any:
    from registry.revisions import history

    return history.serving(workspace.ledger)


def _measured(found: Backfilled) -> list[Any]:
    return [step["measured_mAP"] for step in found.steps]
