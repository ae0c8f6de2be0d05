"""What serves is verified, opened, rolled back and deleted from with MLflow gone: the tracking server of these workspaces is nowhere."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fct.arrays.files import write_json
from fct.errors import Altered, BadInput, NotPermitted, OperationFailed
from registry.decisions.rollback import rollback
from registry.entry import REPORTS, Entry, owed
from registry.items import debts
from registry.items.deletion import delete
from registry.live import Live
from registry.mlflow import places
from registry.revisions import history, kept
from registry.revisions.building import pin, verify
from registry.revisions.revision import Revision
from registry.revisions.serving import open_serving
from registry.workspace import Workspace
from tests import by_hand


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # nobody is there, also when asked again
    made = by_hand.two_releases(tmp_path)
    shutil.rmtree(tmp_path / "releases")  # where they were promoted from
    return made


def serving_of(workspace: Workspace) -> Revision:
    found = history.serving(workspace.ledger)
    assert found is not None
    return found


def ids_of(workspace: Workspace) -> set[str]:
    serving = open_serving(workspace)
    return {hit.id for hit in serving.search_vectors(by_hand.rows(1, 3), 100)[0]}


def test_without_mlflow_it_is_served_verified_deleted_from_and_rolled_back(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    following = Live(workspace)
    assert following.look() and following.now is not None, following.problem
    verify(workspace, serving_of(workspace))
    assert delete(workspace, ["i03"], by="ana")["deleted"] == 1
    assert "MLflow will follow" in capsys.readouterr().err
    assert following.look() and "i03" not in ids_of(workspace) and len(ids_of(workspace)) == by_hand.ITEMS - 1
    assert rollback(workspace, by="ana", why="")[0].release == 1
    assert following.look() and following.now.serving.revision.release == 1
    assert "i03" not in ids_of(workspace) and len(ids_of(workspace)) == by_hand.ITEMS - 1


def test_a_purge_without_mlflow_is_whole_here_and_what_it_owes_there_stands_in_the_ledger(workspace: Workspace) -> None:
    write_json(workspace.upgrade_folder(2) / "candidate.json", {"run_id": "r", "verdict": "a verdict"})
    with pytest.raises(OperationFailed, match=r"purged here. Reports in MLflow may still name") as caught:
        delete(workspace, ["i03"], by="ana", why="request 1", purge=True)
    assert caught.value.exit_code == 1
    head = workspace.ledger.head()
    assert head is not None and head.detail == {"items": 0, "owes": REPORTS} and head.why == "request 1"
    assert owed(workspace.ledger.entries()) == head.number and "i03" not in ids_of(workspace)
    with pytest.raises(OperationFailed, match="Reports in MLflow"):
        delete(workspace, ["i04"], by="ana", purge=True)
    assert owed(workspace.ledger.entries()) == head.number, "one debt"
    with pytest.raises(OperationFailed, match="may still name"):
        debts.pay(workspace)
    (workspace.upgrade_folder(2) / "candidate.json").unlink()  # nothing was ever published: MLflow has no report
    assert debts.pay(workspace) == [f"purged items left the reports in MLflow, which was owed since ledger entry {head.number}"]
    assert owed(workspace.ledger.entries()) is None and debts.pay(workspace) == []


def test_a_kept_release_that_was_altered_is_refused_and_had_anew_where_it_still_lies(workspace: Workspace, tmp_path: Path) -> None:
    revision = serving_of(workspace)
    place = kept.place(workspace, revision.release_digest)
    text = (place / "release.json").read_text()
    (place / "release.json").write_text(text.replace('"phi": 8', '"phi": 9'))
    with pytest.raises(NotPermitted, match="release"):
        open_serving(workspace)
    (place / "release.json").unlink()
    with pytest.raises(NotPermitted, match="release"):
        verify(workspace, revision)
    again = by_hand.release_of(tmp_path / "store", 2)
    places.remember(workspace.folder, "tiny", 2, again.folder)
    assert kept.release(workspace, revision).folder == place and (place / "release.json").read_text() == text
    shutil.rmtree(again.folder)
    verify(workspace, revision)


def test_a_release_that_earlier_code_promoted_is_kept_when_it_is_opened(workspace: Workspace, tmp_path: Path) -> None:
    revision = serving_of(workspace)
    place, note = kept.place(workspace, revision.release_digest), workspace.folder / "releases" / "tiny-v2.json"
    shutil.move(place, tmp_path / "store")
    places.remember(workspace.folder, "tiny", 2, tmp_path / "store")
    assert kept.release(workspace, revision).folder == place
    note.unlink()
    shutil.rmtree(tmp_path / "store")
    assert len(ids_of(workspace)) == by_hand.ITEMS


def test_a_release_that_never_served_is_not_kept(workspace: Workspace, tmp_path: Path) -> None:
    third = by_hand.release_of(tmp_path / "third", 3)
    places.remember(workspace.folder, "tiny", 3, third.folder)
    revision = by_hand.revision_of(3, release_digest=third.digest())
    assert kept.release(workspace, revision).folder == third.folder and not kept.place(workspace, third.digest()).exists()


def test_what_has_served_is_opened_as_the_ledger_names_it_and_no_other_takes_its_place(workspace: Workspace, tmp_path: Path) -> None:
    """Not as MLflow says, whatever its tags are; the ledger itself takes no revision of another release under the same number."""
    for version, revision in history.latest(workspace.ledger.entries()).items():
        assert kept.opened(workspace, version).digest() == revision.release_digest
    serving, other = serving_of(workspace), by_hand.release_of(tmp_path / "other", 3)
    with pytest.raises(Altered, match="not the one that has served"):
        pin(workspace, 2, serving.space, other, serving.forward)
    with pytest.raises(BadInput, match="another one than before"):
        by_hand.append(workspace, "ingest", replace(serving, release_digest=other.digest()))


def entry(number: int, **detail: object) -> Entry:
    return Entry(number, None, "delete", "2026-01-01T00:00:00.000000+00:00", "ana", "", "m", None, dict(detail))


def test_a_debt_is_owed_since_the_first_purge_that_could_not_and_until_it_is_paid() -> None:
    told = [entry(1), entry(2, owes=REPORTS), entry(3, owes=REPORTS), entry(4, paid=2), entry(5, owes=REPORTS)]
    assert [owed(told[:count]) for count in range(6)] == [None, None, 2, 2, None, 5]


@pytest.mark.parametrize("one", ["holiday/beach.jpg", "a&b <c>.png", "quo\"te\\n's.png", "日本語の写真.png", "x" * 300])
def test_a_report_loses_what_the_gallery_holds_no_more_and_nothing_else(one: str) -> None:
    from markupsafe import escape

    from registry.report.review import plain

    row = '<tr><td class="mono">{}</td><td class="n">0.5</td></tr>\n'
    living = {plain(other, debts.SHOWN) for other in ("other.png", f"y{one}", "a&b.png")}
    others = "".join(row.format(escape(other)) for other in sorted(living))
    shown = plain(one, debts.SHOWN)
    assert debts.without_dead(others + row.format(escape(shown)), living) == others + row.format("(deleted)")
    assert debts.without_dead(others + row.format(escape(shown)), {*living, shown}) == others + row.format(escape(shown))


def test_what_is_kept_is_what_was_promoted_to_the_byte(workspace: Workspace) -> None:
    for revision in filter(None, map(history.serving, workspace.ledger.entries())):
        opened = kept.release(workspace, revision)
        assert opened.folder == kept.place(workspace, opened.digest()) and opened.digest() == revision.release_digest
        assert opened.approved(opened.digest())
