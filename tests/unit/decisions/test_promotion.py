"""What a promotion refuses, on a real gallery and a real ledger: nothing is written but the one entry of one that succeeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct.arrays.files import read_json, write_json
from fct.errors import Altered, BadInput, FctError, NotPermitted
from fct.gallery.names import forward_origin
from registry.decisions import promotion
from registry.decisions.decisions import approve, reject
from registry.decisions.promotion import carry_out, foresee, promote
from registry.decisions.rollback import rollback
from registry.items.deletion import delete
from registry.revisions import alarm, history
from registry.revisions.revision import read
from registry.revisions.serving import open_serving
from registry.upgrade_files import CANDIDATE, PROMISE, REPORT, REVISION, VERDICT
from registry.versions.approval import APPROVE, REJECT
from registry.workspace import Workspace
from tests import by_hand
from tests.waiting import IDS, ROWS, reached, waiting, with_promote


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return waiting(tmp_path)


def refused(workspace: Workspace, match: str, kind: type[FctError] = NotPermitted) -> None:
    """Neither a promotion nor its preview goes on, and what serves stays."""
    with pytest.raises(kind, match=match):
        promote(workspace, 2)
    if not alarm.raised(workspace):
        with pytest.raises(kind, match=match):
            foresee(workspace, 2)
    assert workspace.ledger.release() == 1 and "promote" not in [entry.action for entry in workspace.ledger.entries()[1:]]


def arrive(workspace: Workspace, *ids: str) -> None:
    """Items native to version 1, which serves them."""
    by_hand.add_items(workspace, workspace.releases.release(1), list(ids), 7)


# ---- one that succeeds -------------------------------------------------------------------------------------------


def test_an_approved_version_serves_by_exactly_one_entry(workspace: Workspace) -> None:
    verdict = approve(workspace, 2, by="ana", why="better")
    evaluated = read(workspace.upgrade_folder(2) / REVISION)
    before = workspace.ledger.entries()
    seen = foresee(workspace, 2)
    assert seen == {"version": 2, "from": 1, "approved_by": "ana", "rows": ROWS, "delta_rows": 0}
    assert workspace.ledger.entries() == before, "a preview writes nothing"
    entry = promote(workspace, 2, by="ben", why="go")
    assert workspace.ledger.entries() == [*before, entry]
    assert (entry.action, entry.by, entry.why, entry.model) == ("promote", "ben", "go", "tiny")
    said = {key: entry.detail[key] for key in ("from", "verdict", "approved_by", "delta_rows")}
    assert said == {"from": 1, "verdict": verdict["digest"], "approved_by": "ana", "delta_rows": 0}
    assert history.serving(entry) == replace(evaluated, number=1, verdict=verdict["digest"])
    shown = open_serving(workspace)
    assert shown.columns["id"][shown.shown].tolist() == IDS and set(shown.columns["origin"]) == {forward_origin(1, 2)}
    door = workspace.releases
    assert door.champion() == 2
    assert [door.version(number).tags["fct.status"] for number in (1, 2)] == ["retired", "serving"]
    with pytest.raises(BadInput, match="version 2 serves already"):
        promote(workspace, 2)


def test_late_comers_and_deletions_are_caught_up_with(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    arrive(workspace, "late")
    delete(workspace, ["i07"], by="ana")
    assert foresee(workspace, 2)["delta_rows"] == 2
    entry = promote(workspace, 2)
    assert entry.detail["delta_rows"] == 2
    shown = open_serving(workspace)
    assert set(shown.columns["id"][shown.shown].tolist()) == {*IDS, "late"} - {"i07"}


# ---- verdict and approval ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["refused", "inconclusive"])
def test_a_verdict_that_is_not_passed_is_neither_approved_nor_promoted(workspace: Workspace, outcome: str) -> None:
    covers = read_json(workspace.upgrade_folder(2) / VERDICT)["covers"]
    verdict = reached(workspace, 2, outcome=outcome, problems=["worse"], covers=covers)
    with pytest.raises(NotPermitted, match=f"{outcome}: worse") as error:
        approve(workspace, 2, by="ana", why="")
    assert error.value.code == "not-passed" and APPROVE not in workspace.releases.version(2).tags
    workspace.releases.tag(2, APPROVE, f"ana {verdict['digest']}")
    refused(workspace, f"{outcome}: worse")


def test_without_a_verdict_nothing_is_approved_or_promoted(workspace: Workspace) -> None:
    (workspace.upgrade_folder(2) / VERDICT).unlink()
    with pytest.raises(NotPermitted, match="no verdict yet"):
        approve(workspace, 2, by="ana", why="")
    refused(workspace, "no verdict yet")
    with pytest.raises(BadInput, match="no version 3"):
        promote(workspace, 3)


def test_what_nobody_approved_is_not_promoted(workspace: Workspace) -> None:
    refused(workspace, "version 2 is not approved")


@pytest.mark.parametrize("tag", [True, False])
def test_an_approval_by_somebody_else_than_the_approvers_counts_for_nothing(workspace: Workspace, tag: bool) -> None:
    strict, digest = with_promote(workspace, approvers=("ben",)), read_json(workspace.upgrade_folder(2) / VERDICT)["digest"]
    if tag:
        workspace.releases.tag(2, APPROVE, f"ana {digest}")
    else:  # typed while anybody could approve
        approve(workspace, 2, by="ana", why="")
    with pytest.raises(NotPermitted, match="not among promote.approvers"):
        approve(strict, 2, by="ana", why="")
    refused(strict, "not among promote.approvers")
    approve(strict, 2, by="ben", why="")
    assert promote(strict, 2).detail["approved_by"] == "ben"


def test_an_approval_is_of_one_digest(workspace: Workspace) -> None:
    covers = read_json(workspace.upgrade_folder(2) / VERDICT)["covers"]
    first = approve(workspace, 2, by="ana", why="")
    second = reached(workspace, 2, metrics={"measured": "again"}, covers=covers)
    assert first["digest"] != second["digest"]
    refused(workspace, "approves another verdict")


def test_a_rejection_outranks_an_approval_by_tag(workspace: Workspace) -> None:
    digest = approve(workspace, 2, by="ana", why="")["digest"]
    reject(workspace, 2, by="ben", why="too slow")
    refused(workspace, "was rejected: ben too slow")
    workspace.releases.tag(2, APPROVE, f"ana {digest}")
    refused(workspace, "was rejected: ben too slow")
    workspace.releases.untag(2, REJECT)
    assert promote(workspace, 2).release == 2, "its tag alone stands then"


def test_an_approval_that_is_withdrawn_at_the_last_moment_counts_no_more(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(workspace, 2, by="ana", why="")
    ask = promotion.ask_canaries

    def withdrawn(*arguments: Any) -> str:
        workspace.releases.untag(2, APPROVE)
        return ask(*arguments)

    monkeypatch.setattr(promotion, "ask_canaries", withdrawn)
    with pytest.raises(NotPermitted, match="is not approved"):
        promote(workspace, 2)
    assert workspace.ledger.release() == 1


# ---- the champion ------------------------------------------------------------------------------------------------


def test_a_verdict_is_against_the_champion_that_serves(workspace: Workspace) -> None:
    covers = read_json(workspace.upgrade_folder(2) / VERDICT)["covers"]
    reached(workspace, 2, covers=covers, **{"from": None})
    approve(workspace, 2, by="ana", why="")
    refused(workspace, "compares with version None, but version 1 serves")


def test_a_champion_that_was_backfilled_since_is_another_one(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    path = workspace.upgrade_folder(2) / VERDICT
    covers = read_json(path)["covers"]
    assert covers["champion"] == {"rows": ROWS, "backfilled": 0}
    covers["champion"]["backfilled"] = 3  # 3 of 48 are more than 5 %
    reached(workspace, 2, covers=covers)
    approve(workspace, 2, by="ana", why="")
    refused(workspace, "3 of 48 rows that serve were backfilled")
    covers["champion"]["backfilled"] = 2
    reached(workspace, 2, covers=covers)
    approve(workspace, 2, by="ana", why="")
    assert promote(workspace, 2).release == 2


# ---- rows --------------------------------------------------------------------------------------------------------


def test_more_rows_than_max_delta_need_a_new_verdict(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    arrive(workspace, "late", "later")
    delete(workspace, ["i07"], by="ana")
    refused(workspace, f"3 of {ROWS} rows changed since the verdict")
    assert promote(with_promote(workspace, max_delta=3 / ROWS), 2).detail["delta_rows"] == 3


def test_rows_that_an_earlier_promotion_under_the_verdict_carried_count_again(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    arrive(workspace, "late", "later")
    promote(workspace, 2)
    rollback(workspace, by="ana", why="", without_missing=True)
    arrive(workspace, "last")
    with pytest.raises(NotPermitted, match="3 of 50 rows changed since the verdict"):
        promote(workspace, 2)
    assert workspace.ledger.release() == 1


def test_items_of_a_version_without_a_judged_h_need_a_new_verdict(tmp_path: Path) -> None:
    workspace = waiting(tmp_path, 3)
    approve(workspace, 3, by="ana", why="")
    by_hand.add_items(workspace, workspace.releases.release(2), ["of another"], 9, native=2)
    with pytest.raises(NotPermitted, match="1 items native to version 2 arrived since the verdict"):
        promote(workspace, 3)
    assert workspace.ledger.release() == 1
    delete(workspace, ["of another"], by="ana")
    assert promote(workspace, 3).release == 3


# ---- what was approved -------------------------------------------------------------------------------------------


def write(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


FILES: dict[str, Callable[[Workspace], Path]] = {
    "report": lambda ws: ws.upgrade_folder(2) / REPORT,
    "contract": lambda ws: ws.upgrade_folder(2) / "contract.json",
    "revision": lambda ws: ws.upgrade_folder(2) / REVISION,
    "promise": lambda ws: ws.upgrade_folder(2) / PROMISE,
    "h": lambda ws: ws.upgrade_folder(2) / "h-v1" / "manifest.json",
    "canaries": lambda ws: ws.upgrade_folder(2) / "pairs-v1" / "canaries" / "new.npy",
}


@pytest.mark.parametrize("which", FILES)
def test_a_file_that_was_altered_since_the_approval_is_refused(workspace: Workspace, which: str) -> None:
    approve(workspace, 2, by="ana", why="")
    path = FILES[which](workspace)
    write(path)
    refused(
        workspace, f"{path.relative_to(workspace.upgrade_folder(2)).as_posix()} of version 2 is not the file that was approved", Altered
    )
    path.unlink()
    refused(workspace, "is not the file that was approved", Altered)


def run_of(workspace: Workspace) -> str:
    return str(read_json(workspace.upgrade_folder(2) / CANDIDATE)["run_id"])


def test_the_report_in_mlflow_is_the_one_that_was_approved(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    write(workspace.releases.candidate_file(run_of(workspace), REPORT))
    refused(workspace, "report.html of version 2 is not the file that was approved", Altered)


def test_the_verdict_in_mlflow_is_the_one_that_was_reached(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    published = workspace.releases.candidate_file(run_of(workspace), "verdict.json")
    write_json(published, read_json(published) | {"problems": ["none worth a word"]})
    refused(workspace, "verdict of version 2 in MLflow is not the one that was reached", Altered)
    published.unlink()
    refused(workspace, "in MLflow was altered or deleted", Altered)


def test_a_verdict_whose_digest_is_not_its_own_is_refused(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    path = workspace.upgrade_folder(2) / VERDICT
    write_json(path, read_json(path) | {"gates": ["another"]})
    refused(workspace, "verdict of version 2 was altered after it was reached", Altered)


def test_a_candidate_that_was_published_again_needs_a_new_approval(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    path = workspace.upgrade_folder(2) / CANDIDATE
    write_json(path, read_json(path) | {"forwards": {"v1": 7}})
    refused(workspace, "published again, or altered", Altered)
    path.unlink()
    refused(workspace, "not published for review")


@pytest.mark.parametrize("name", ["release", "fingerprint", "forward", "space", "rows", "index", "canaries"])
def test_what_the_verdict_covers_is_what_is_promoted(workspace: Workspace, name: str) -> None:
    covers = read_json(workspace.upgrade_folder(2) / VERDICT)["covers"]
    space = read(workspace.upgrade_folder(2) / REVISION).space
    verdict = reached(workspace, 2, covers=covers | {name: "another"})
    if name == "space":  # which approve() takes for a candidate made anew
        with pytest.raises(NotPermitted, match="not published yet"):
            approve(workspace, 2, by="ana", why="")
        assert verdict["covers"]["space"] != space
        return
    approve(workspace, 2, by="ana", why="")
    refused(workspace, f"its {name} differs", Altered)


def test_a_row_that_was_exchanged_since_the_verdict_is_found(workspace: Workspace) -> None:
    """By somebody who writes to the table as we do, so that every file and digest of ours is whole."""
    approve(workspace, 2, by="ana", why="")
    revision = read(workspace.upgrade_folder(2) / REVISION)
    gallery = workspace.gallery
    wrong = gallery.space_rows(revision.space, np.array(["i05"])).vectors[:, ::-1].copy()
    gallery.drop_rows(revision.space, np.array(["i05"]))
    gallery.append_space(revision.space, np.array(["i05"]), wrong, forward_origin(1, 2), np.zeros(1))
    entry = promote(workspace, 2)
    assert entry.detail["delta_rows"] == 1, "made anew from its features"
    then, now = gallery.read_space(revision.space, at=revision.state.version), gallery.read_space(revision.space)
    assert np.allclose(now.vectors, then.vectors, atol=1e-6)


@pytest.mark.parametrize("of", ["space", "index", "release"])
def test_a_damaged_file_of_the_candidate_is_never_promoted(workspace: Workspace, of: str) -> None:
    approve(workspace, 2, by="ana", why="")
    revision = read(workspace.upgrade_folder(2) / REVISION)
    root = {
        "space": workspace.gallery.table_path(revision.space) / "data",
        "index": workspace.folder / revision.index.folder,
        "release": workspace.releases.folder_of(2),
    }[of]
    spoil(sorted(path for path in root.iterdir() if path.suffix in (".lance", ".faiss", ".json", ".bin", ".npy"))[0])
    with pytest.raises(FctError):
        promote(workspace, 2)
    assert workspace.ledger.release() == 1


# ---- what carries out ---------------------------------------------------------------------------------------------


def test_what_is_approved_is_carried_out_where_promote_auto_says_so(workspace: Workspace) -> None:
    assert carry_out(workspace) == {}, "nobody approved it"
    approve(workspace, 2, by="ana", why="")
    assert carry_out(with_promote(workspace, auto=False)) == {} and workspace.ledger.release() == 1
    done = carry_out(with_promote(workspace, auto=True))
    assert list(done) == [2] and done[2] == workspace.ledger.head() and workspace.ledger.release() == 2
    assert carry_out(workspace) == {}


def test_why_an_approval_could_not_be_carried_out_is_returned(workspace: Workspace) -> None:
    approve(workspace, 2, by="ana", why="")
    write(workspace.upgrade_folder(2) / REPORT)
    done = carry_out(workspace)
    assert isinstance(done[2], Altered) and workspace.ledger.release() == 1
