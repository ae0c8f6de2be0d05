"""Deletion and its traces: what leaves every answer at once, and of what a purge leaves no byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.items import traces
from registry.live import Live
from registry.revisions import history
from registry.revisions.serving import open_revision, open_serving
from tests.end_to_end.conftest import Copies, Project
from tests.end_to_end.lives import answers, chosen, queries, sound


def test_deleted_items_leave_every_answer_at_once_and_the_rest_is_unchanged(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    before = open_serving(ws)
    asked = queries(before)
    expected = [
        [hit for hit in hits if hit[0] not in gone]
        for hits in [[(hit.id, hit.score) for hit in hits] for hits in before.search_vectors(asked, 30)]
    ]
    following = Live(ws)
    assert following.look() and following.now is not None
    opened_first = following.now.serving
    ran = living.fct("delete", *gone, "not-there", "--by", "ana", "--why", "request 1")
    assert ran.code == 0 and "10 items deleted, 1 ids unknown" in ran.out, ran.err
    entry = ws.ledger.head()
    now = history.serving(entry)
    assert (entry.action, now.release, now.masked) == ("delete", 2, 10)
    assert now.index == before.revision.index, "nothing was built"
    after = open_serving(ws)
    assert [hits[:15] for hits in answers(after, asked)] == [hits[:15] for hits in expected]
    text = json.dumps(entry.to_json(), ensure_ascii=False)
    assert not [one for one in gone if one in text], "the ledger counts and never names"
    assert living.fct("delete", *gone).code == 0
    assert ws.ledger.head() == entry, "a second time changes nothing"
    assert following.look() and not following.problem and following.now is not None
    assert following.now.serving.searcher is opened_first.searcher, "a server masks; it loads nothing"
    assert answers(following.now.serving, asked) == answers(after, asked)


def test_a_rollback_returns_to_the_earlier_release_without_what_was_deleted_since(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    first = next(entry for entry in ws.ledger.entries() if entry.release == 1)
    old = open_revision(ws, history.serving(first))
    asked = queries(old)
    expected = [[(hit.id, hit.score) for hit in hits if hit.id not in gone][:10] for hits in old.search_vectors(asked, 20)]
    assert living.fct("delete", *gone).code == 0
    ran = living.fct("rollback", "--by", "ana", "--why", "complaints")
    assert ran.code == 0, ran.err
    now = open_serving(ws)
    assert now.revision.release == 1 and now.revision.number == first.revision + 1
    assert [hits[:10] for hits in answers(now, asked)] == expected


def test_purged_items_leave_no_byte_behind(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    # among them one that the report names
    page = (ws.upgrade_folder(2) / "report.html").read_text(encoding="utf-8")
    named = next((one for one in ws.gallery.item_ids(role="item").tolist() if f'<td class="mono">{one}</td>' in page), None)
    gone = sorted({*gone, *([named] if named else [])})
    wanted = traces.of(ws.gallery, np.array(gone))
    found = traces.search(ws.folder, wanted)
    places = {Path(one).parts[0] for one in found}
    assert {"gallery", "indexes", "upgrades"} <= places and ("artifacts" in places or named is None), found
    serving = open_serving(ws)
    asked = queries(serving)
    expected = [[(hit.id, hit.score) for hit in hits if hit.id not in gone][:10] for hits in serving.search_vectors(asked, 30)]
    assert living.fct("delete", *gone[:4]).code == 0, "some were deleted before, and are purged now"
    ran = living.command("delete", *gone, "--purge", "--json")  # a process of its own: MLflow remembers where a run of this id was
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["deleted"] == len(gone) - 4 and said["left"] == [] and said["checked"] >= 4 * len(gone)
    assert traces.search(ws.folder, wanted) == [], "searched for once more, with what was noted before"
    again = [[(hit[0], round(hit[1], 5)) for hit in hits[:10]] for hits in answers(open_serving(ws), asked)]
    assert again == [[(one, round(score, 5)) for one, score in hits] for hits in expected]
    ran = living.fct("rollback", "--by", "ana", "--why", "complaints")
    assert ran.code == 0, ran.err
    assert living.fct("reconcile", "--once").code == 0  # the alias in MLflow follows at the next look
    assert not {hit[0] for hits in answers(open_serving(ws), queries(open_serving(ws))) for hit in hits} & set(gone)
    sound(living)


@pytest.mark.slow
def test_a_candidate_whose_evaluated_rows_were_purged_is_measured_again(copy_waiting: Copies) -> None:
    project = copy_waiting()
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    gone = chosen(project, 5)
    ran = project.command("delete", *gone, "--purge")
    assert ran.code == 0 and "version 2: its verdict was about rows that are gone" in ran.err, ran.err
    ran = project.fct("promote", "2")
    assert ran.code == 3 and "no verdict yet" in ran.err
    assert project.fct("reconcile", "--once").code == 0
    ran = project.fct("promote", "2")
    assert ran.code == 3, "the approval was of another verdict"
    assert project.fct("approve", "2", "--by", "ana", "--why", "measured again").code == 0
    assert project.fct("promote", "2").code == 0
    ws = project.workspace()
    assert not set(ws.gallery.space_ids(ws.ledger.serving()["space"]).tolist()) & set(gone)


def test_an_id_that_is_only_among_fitting_pairs_can_be_purged(living: Project) -> None:
    ws = living.workspace()
    pairs = ws.upgrade_folder(2) / "pairs-v1"
    one = str(np.setdiff1d(np.load(pairs / "fitting/sources.npy"), ws.gallery.item_ids())[0])
    ran = living.fct("delete", one, "--purge")
    assert ran.code == 0 and "0 items deleted, 1 ids unknown" in ran.out, ran.err
    assert one not in np.load(pairs / "fitting/sources.npy") and traces.search(ws.folder, traces.of(ws.gallery, np.array([one]))) == []


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "no ids were given"),
        (("--from", "nowhere.txt"), 2, "cannot be read"),
        (("CANARY",), 2, "canary"),
    ],
)
def test_what_cannot_be_deleted_is_said_in_a_sentence(living: Project, args: tuple[str, ...], code: int, said: str) -> None:
    ws = living.workspace()
    head = ws.ledger.head()
    args = tuple(str(ws.gallery.item_ids(role="canary")[0]) if one == "CANARY" else one for one in args)
    ran = living.fct("delete", *args)
    assert ran.code == code and said in ran.err and "Traceback" not in ran.err
    assert ws.ledger.head() == head


def test_a_purge_waits_for_nobody(living: Project) -> None:
    from registry import lock

    ws = living.workspace()
    with lock.hold(ws.locks, "tiny", "bob: upgrade 3", lease_s=60):
        ran = living.fct("delete", *chosen(living, 1), "--purge")
    assert ran.code == 1 and "bob: upgrade 3" in ran.err
    assert ws.ledger.head().action == "promote"


def test_a_rollback_hides_what_a_deletion_that_was_cut_short_has_deleted(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import deletion

    ws, gone = living.workspace(), chosen(living, 6)

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_record", cut)
        with pytest.raises(OSError, match="power"):
            deletion.delete(ws, gone, by="ana")
    ran = living.fct("rollback", "--by", "ana")
    assert ran.code == 0, ran.err
    serving = open_serving(ws)
    assert serving.revision.release == 1 and not serving.shown[np.isin(serving.searcher.ids, gone)].any()


def test_a_deletion_cut_short_is_finished_by_the_next(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import deletion

    ws, gone = living.workspace(), chosen(living, 6)

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_record", cut)
        with pytest.raises(OSError, match="power"):
            deletion.delete(ws, gone, by="ana")
    half = open_serving(ws)
    assert ws.ledger.head().action == "promote" and half.shown[np.isin(half.searcher.ids, gone)].all(), "whole, as it was"
    assert deletion.delete(ws, gone, by="ana")["entry"] == ws.ledger.head().number
    assert ws.ledger.serving()["masked"] == 6
