"""What a gc lists and removes of a real gallery: nothing that serves, waits or is returned to, and only what its entry names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fct.errors import BadInput, LockHeld, NotPermitted, OperationFailed
from fct.gallery import tables
from registry import lock
from registry.decisions.decisions import approve, reject
from registry.decisions.promotion import promote
from registry.decisions.rollback import rollback
from registry.items import retention
from registry.items.deletion import delete
from registry.items.retention import collect, plan
from registry.revisions import alarm, history
from registry.revisions.building import verify
from registry.revisions.revision import Revision
from registry.revisions.serving import open_serving
from registry.upgrade_files import CANDIDATE, REPORT, REVISION, VERDICT
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests.no_mlflow import NoMlflow
from tests.waiting import IDS, copied, waiting


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return waiting(tmp_path_factory.mktemp("made"))


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """Version 1 serves, version 2 waits."""
    return copied(made, tmp_path)


@pytest.fixture(scope="module")
def made_promoted(made: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = copied(made, tmp_path_factory.mktemp("promoted"))
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    return workspace


@pytest.fixture
def promoted(made_promoted: Workspace, tmp_path: Path) -> Workspace:
    """Version 2 serves, version 1 before."""
    return copied(made_promoted, tmp_path)


def keeping(workspace: Workspace, releases: int) -> Workspace:
    found = replace(workspace, settings=replace(workspace.settings, gc=replace(workspace.settings.gc, keep_releases=releases)))
    found.__dict__["_releases"] = workspace.releases
    return found


def space(workspace: Workspace) -> str:
    return Upgrade(workspace, 2).space


def newest(workspace: Workspace) -> dict[int, Revision]:
    return history.latest(workspace.ledger.entries())


def actions(workspace: Workspace) -> list[str]:
    return [entry.action for entry in workspace.ledger.entries()]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_where_only_a_candidate_waits_its_work_and_what_serves_stay(workspace: Workspace) -> None:
    going = plan(workspace)
    assert going.kept == [1, 2] and (going.spaces, going.folders) == ([], [])
    before = files(Upgrade(workspace, 2).folder)
    collect(workspace, by="ana")
    assert files(Upgrade(workspace, 2).folder) == before
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    assert len(open_serving(workspace).columns["id"]) == len(IDS) + 8


def test_the_space_of_an_upgrade_that_is_still_at_work_stays(workspace: Workspace) -> None:
    for name in (REVISION, VERDICT, CANDIDATE):
        (Upgrade(workspace, 2).folder / name).unlink()
    assert plan(workspace).kept == [1, 2] and plan(workspace).spaces == []
    collect(workspace, by="ana")
    assert space(workspace) in workspace.gallery.tables()


def test_what_is_listed_is_written_into_the_ledger_and_then_gone(workspace: Workspace) -> None:
    name, upgrade = space(workspace), Upgrade(workspace, 2)
    index = sorted((workspace.folder / "indexes" / "tiny").iterdir())
    reject(workspace, 2, by="ana", why="too slow")
    going = plan(workspace)
    assert going.kept == [1] and going.spaces == [name] and going.bytes > 0
    assert "upgrades/tiny-v2/pairs-v1" in going.folders and f"indexes/tiny/{_own_index(workspace)}" in going.folders
    assert actions(workspace) == ["promote", "reject"] and name in workspace.gallery.tables(), "a plan removes nothing"
    assert collect(workspace, by="ana", why="room") == going
    entry = workspace.ledger.entries()[-1]
    assert (entry.action, entry.by, entry.why, entry.detail) == ("gc", "ana", "room", asdict(going))
    assert entry.serving == workspace.ledger.entries()[0].serving
    assert name not in workspace.gallery.tables() and not any((workspace.folder / one).exists() for one in going.folders)
    assert len(sorted((workspace.folder / "indexes" / "tiny").iterdir())) == len(index) - 1
    for kept in (VERDICT, REPORT, CANDIDATE, "h-v1/manifest.json"):
        assert (upgrade.folder / kept).exists(), "what people decided about stays"
    verify(workspace, newest(workspace)[1])
    assert not collect(workspace, by="ana") and actions(workspace) == ["promote", "reject", "gc"]


def _own_index(workspace: Workspace) -> str:
    serving = history.serving(workspace.ledger)
    assert serving is not None
    (other,) = [path.name for path in (workspace.folder / "indexes" / "tiny").iterdir() if path.name not in serving.index.folder]
    return other


def test_old_versions_of_tables_go_and_those_that_a_kept_release_names_stay(promoted: Workspace) -> None:
    for number in range(3):
        delete(promoted, [f"i0{number}"], by="ana")
    wanted = {
        name: {one.tables[name].version for one in newest(promoted).values() if name in one.tables} for name in promoted.gallery.tables()
    }
    there = {name: set(tables.versions(promoted.gallery.root, name)) for name in wanted}
    going = collect(promoted, by="ana")
    for name, versions in there.items():
        left = set(tables.versions(promoted.gallery.root, name))
        assert left == versions - set(going.versions.get(name, [])) and wanted[name] <= left <= wanted[name] | {max(versions)}
    for revision in newest(promoted).values():
        verify(promoted, revision)
    assert len(rollback(promoted, by="ana", why="")[0].detail) and open_serving(promoted).shown.sum() == len(IDS) - 3


def test_as_many_releases_stay_as_the_settings_say(promoted: Workspace) -> None:
    assert plan(keeping(promoted, 2)).kept == [1, 2] and plan(keeping(promoted, 2)).spaces == []
    one = keeping(promoted, 1)
    assert plan(one).kept == [2] and plan(one).spaces == ["spaces/v1-native"]
    with pytest.raises(BadInput, match="wanted at least 1; got 0"):
        plan(keeping(promoted, 0))
    collect(one, by="ana")
    with pytest.raises(NotPermitted, match="release 1 was dropped by `fct gc`"):
        rollback(one, by="ana", why="")
    assert open_serving(one).shown.sum() == len(IDS) and set(one.gallery.tables()) == {"items", "features/v1", space(one)}


def test_a_release_that_was_rolled_back_may_be_promoted_again_and_stays(promoted: Workspace) -> None:
    rollback(promoted, by="ana", why="")
    one = keeping(promoted, 1)
    assert plan(one).kept == [1, 2] and plan(one).spaces == []
    reject(one, 2, by="ana", why="never again")
    assert plan(one).kept == [1] and plan(one).spaces == [space(promoted)]


def test_while_mlflow_does_not_know_what_serves_nothing_goes(workspace: Workspace) -> None:
    door = workspace.releases
    assert isinstance(door, NoMlflow)
    reject(workspace, 2, by="ana", why="too slow")
    del door.known[1]
    for act in (plan, lambda workspace: collect(workspace, by="ana")):
        with pytest.raises(OperationFailed, match="MLflow does not know release 1, which serves"):
            act(workspace)
    del door.known[2]
    assert space(workspace) in workspace.gallery.tables() and actions(workspace) == ["promote", "reject"]


def test_a_later_version_that_mlflow_does_not_know_is_not_over(workspace: Workspace) -> None:
    door = workspace.releases
    assert isinstance(door, NoMlflow)
    del door.known[2]
    assert plan(workspace).kept == [1, 2] and plan(workspace).spaces == []


@pytest.mark.parametrize("name", ["tiny", "tiny-ingest", "tiny-backfill", "tiny-ledger"])
def test_while_somebody_works_on_the_gallery_nothing_goes(workspace: Workspace, name: str) -> None:
    reject(workspace, 2, by="ana", why="too slow")
    with lock.hold(workspace.locks, name, "ben", lease_s=60), pytest.raises(LockHeld):
        collect(workspace, by="ana")
    assert space(workspace) in workspace.gallery.tables() and actions(workspace) == ["promote", "reject"]
    assert collect(workspace, by="ana"), "every lock was given back"


def test_while_files_are_damaged_nothing_goes(workspace: Workspace) -> None:
    reject(workspace, 2, by="ana", why="too slow")
    alarm.sound(workspace, ["a file"])
    with pytest.raises(NotPermitted, match="not what the ledger recorded"):
        collect(workspace, by="ana")
    assert actions(workspace) == ["promote", "reject"]


@pytest.mark.parametrize("at", range(1, 5))
def test_a_run_that_was_killed_at_any_step_is_finished_by_the_next(workspace: Workspace, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reject(workspace, 2, by="ana", why="too slow")
    wanted, look, looked = plan(workspace), retention._look, list[int]()

    def killed(*arguments: object) -> None:
        looked.append(1)
        if len(looked) == at:
            raise KeyboardInterrupt
        look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "_look", killed)
    with pytest.raises(KeyboardInterrupt):
        collect(workspace, by="ana")
    monkeypatch.undo()
    collect(workspace, by="ben")
    assert not set(wanted.spaces) & set(workspace.gallery.tables())
    assert not [one for one in wanted.folders if (workspace.folder / one).exists()]
    for name, versions in wanted.versions.items():
        assert not set(versions) & set(tables.versions(workspace.gallery.root, name))
    assert not collect(workspace, by="ana")
    verify(workspace, newest(workspace)[1])


def test_who_wrote_meanwhile_is_overtaken_by_nobody(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    reject(workspace, 2, by="ana", why="too slow")
    real: Callable[..., retention.Going] = retention.plan

    def slow(*arguments: object) -> retention.Going:
        found = real(*arguments)
        head = workspace.ledger.head()
        assert head is not None
        workspace.ledger.append(head, action="approve", by="ben", why="", model="tiny", serving=head.serving, detail={})
        return found

    monkeypatch.setattr(retention, "plan", slow)
    with pytest.raises(OperationFailed) as error:
        collect(workspace, by="ana")
    assert error.value.code == "overtaken" and space(workspace) in workspace.gallery.tables()
