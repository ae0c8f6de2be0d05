"""Damage never becomes official: recorded digests are carried over, and rows are compared before they are read to make others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from fct import audit
from fct.arrays.files import write_json
from fct.errors import Damaged, NotPermitted, OperationFailed
from fct.gallery.names import NATIVE
from fct.release.folder import Release
from fct.release.writing import write_adopted
from registry.damage import repairing, verifying
from registry.items import retention
from registry.mlflow import places
from registry.revisions import alarm, building, entering, history, kept
from registry.revisions.revision import Revision
from registry.upgrades.carrying import carry
from registry.workspace import Workspace, open_workspace

PRINT = "a" * 64
SPACE = "spaces/v1-native"
DIM = 8


def rows(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    phi = np.random.default_rng(first).normal(size=(count, DIM)).astype(np.float32)
    return np.array([f"item-{first + one:04}" for one in range(count)]), phi


def add(workspace: Workspace, release: Release, first: int, count: int, *, carried: bool = True) -> None:
    ids, phi = rows(first, count)
    empty = [""] * count
    workspace.gallery.ingest(1, release.fingerprint, ids, phi, None, empty, empty, empty)
    if carried:
        workspace.gallery.append_space(SPACE, ids, phi, NATIVE, np.zeros(count, dtype=np.float32))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which an adopted release serves 64 rows, without MLflow."""
    folder = tmp_path_factory.mktemp("served")
    params = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8")) | {"model": "tiny"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ws = open_workspace(folder / "params.yaml")
    release = write_adopted(ws.folder / "kept", dim=DIM, side_bits=[], metric="cosine", normalised=False, content="c", canary_ids=[])
    places.remember(ws.folder, "tiny", 1, release.folder)
    ws.gallery.create_space(SPACE, DIM, release.fingerprint, {})
    add(ws, release, 0, 64)
    write_json(ws.upgrade_folder(1) / "verdict" / "verdict.json", {"digest": "v"})
    now = replace(building.pin(ws, 1, SPACE, release, {}), number=1, verdict="v")
    entering.enter(ws, None, action="promote", by="ana", why="first", serving=now, detail={})
    return folder


@pytest.fixture
def workspace(served: Path, tmp_path: Path) -> Workspace:
    return open_workspace(shutil.copytree(served, tmp_path / "project") / "params.yaml")


@pytest.fixture
def release(workspace: Workspace) -> Release:
    return kept.release(workspace, serving(workspace))


def serving(workspace: Workspace) -> Revision:
    found = history.serving(workspace.ledger)
    assert found is not None
    return found


def data_file(workspace: Workspace, table: str) -> Path:
    return next(workspace.gallery.root / name for name in serving(workspace).tables[table].files if "/data/" in name)


def flip(path: Path) -> None:
    """Two bits of a value in the middle of a data file: Lance reads it as before, and gives another number."""
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0b11
    path.write_bytes(data)


def pin(workspace: Workspace, release: Release) -> Revision:
    return building.pin(workspace, 1, SPACE, release, {})


@pytest.mark.parametrize("table", ["items", "features/v1", SPACE])
def test_a_recorded_digest_is_carried_over_and_never_taken_anew(workspace: Workspace, release: Release, table: str) -> None:
    before = serving(workspace).tables
    add(workspace, release, 64, 8)
    flip(data_file(workspace, table))
    if table == "features/v1":  # nobody reads its old rows for this
        after = pin(workspace, release).tables
        shared = before[table].files.keys() & after[table].files.keys()
        assert len(shared) >= 1 and all(after[table].files[name] == before[table].files[name] for name in shared)
        with pytest.raises(Damaged, match="altered"):
            workspace.gallery.verify(after[table])
    else:
        with pytest.raises(Damaged, match="altered"):
            pin(workspace, release)


def test_rows_that_are_deleted_from_a_damaged_space_are_not_recorded_anew(workspace: Workspace) -> None:
    workspace.gallery.delete(["item-0003"])
    assert building.masked(workspace, serving(workspace)) is not None
    flip(data_file(workspace, SPACE))
    with pytest.raises(Damaged):
        building.masked(workspace, serving(workspace))


def test_an_ingest_digests_what_is_new_and_compares_the_space_once(workspace: Workspace, release: Release) -> None:
    """The cost of a record is the change; of what it is built from, one reading of its files."""
    add(workspace, release, 64, 8)
    old, root = serving(workspace).tables, workspace.gallery.root
    with audit.opened_below([root]) as opened:
        now = pin(workspace, release).tables
    read = [Path(one).relative_to(root).as_posix() for one in opened if Path(one).name != "head.json"]
    new = {name for state in now.values() for name in state.files} - {name for state in old.values() for name in state.files}
    compared = {name for table in ("items", SPACE) for name in now[table].files}
    assert sorted(read) == sorted(new | compared), "each once, and no file of features that was there"
    assert not [name for name in read if name in old["features/v1"].files]


def test_features_are_compared_before_rows_are_made_from_them(
    workspace: Workspace, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "spaces/v1-000000000000"
    monkeypatch.setitem(workspace.__dict__, "_releases", OneRelease(workspace, release))
    workspace.gallery.create_space(other, DIM, release.fingerprint, {})
    for table in ("features/v1", "items"):
        path = data_file(workspace, table)
        whole = path.read_bytes()
        flip(path)
        with pytest.raises(Damaged, match=table):
            carry(workspace, other, 1, {})
        assert not len(workspace.gallery.space_ids(other))
        path.write_bytes(whole)


def test_only_the_files_that_hold_the_rows_are_compared(workspace: Workspace, release: Release) -> None:
    add(workspace, release, 64, 8)
    flip(data_file(workspace, "features/v1"))
    known = alarm.recorded(workspace)
    alarm.compare(workspace, known, "features/v1", rows(64, 8)[0])
    with pytest.raises(Damaged):
        alarm.compare(workspace, known, "features/v1", np.array(["item-0070", "item-0001"]))


class OneRelease:
    """In the place of the door to MLflow."""

    def __init__(self, workspace: Workspace, release: Release) -> None:
        self.uri, self._release = workspace.tracking_uri, release

    def release(self, number: int, *, check: bool = True) -> Release:
        return self._release

    def folder_of(self, number: int) -> Path:
        raise OperationFailed("the registry is away")


def test_an_index_whose_description_was_altered_is_not_taken_for_whole(workspace: Workspace, release: Release) -> None:
    folder = workspace.folder / serving(workspace).index.folder
    write_json(folder / "index.json", dict(serving(workspace).index.about) | {"kind": "ivf"})
    assert pin(workspace, release).index.about["kind"] == "flat", "it is built anew, from rows that were compared"


def test_a_table_that_was_dropped_and_made_again_is_another_one(workspace: Workspace, release: Release) -> None:
    workspace.gallery.drop_space(SPACE)
    workspace.gallery.create_space(SPACE, DIM, release.fingerprint, {})
    ids, phi = rows(0, 64)
    workspace.gallery.append_space(SPACE, ids, phi, NATIVE, np.zeros(64, dtype=np.float32))
    assert SPACE not in alarm.recorded(workspace)
    assert pin(workspace, release).tables[SPACE].rows == 64


# ---- the alarm ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["items", "features/v1", SPACE])
@pytest.mark.parametrize("kind", ["/data/", "/_versions/"])
def test_verify_reads_everything_raises_the_alarm_and_ends_it(workspace: Workspace, table: str, kind: str) -> None:
    assert verifying.verify_all(workspace).damaged == [] and not alarm.raised(workspace)
    path = next(workspace.gallery.root / name for name in serving(workspace).tables[table].files if kind in name)
    whole = path.read_bytes()
    flip(path)
    found = verifying.verify_all(workspace)
    assert any(path.name in one for one in found.damaged) and alarm.raised(workspace) == found.damaged
    with pytest.raises(NotPermitted, match="status --verify"):
        alarm.refuse(workspace)
    path.unlink()
    assert any("is missing" in one for one in verifying.verify_all(workspace).damaged)
    path.write_bytes(whole)
    assert alarm.raised(workspace), "a restored file is not believed before it is read"
    assert verifying.verify_all(workspace).damaged == []
    alarm.refuse(workspace)


@pytest.mark.parametrize(
    ("table", "kind", "made"),
    [
        (SPACE, "/data/", True),
        (SPACE, "/_versions/", False),
        ("features/v1", "/data/", False),
        ("items", "/data/", False),
        ("index", "", True),
    ],
)
def test_verify_says_of_each_file_what_helps(
    workspace: Workspace, release: Release, monkeypatch: pytest.MonkeyPatch, table: str, kind: str, made: bool
) -> None:
    """Nothing gives the features of an adopted release again, nor the items."""
    monkeypatch.setitem(workspace.__dict__, "_releases", OneRelease(workspace, release))
    folder = workspace.folder / serving(workspace).index.folder
    files = [folder / "ids.npy"] if table == "index" else [workspace.gallery.root / one for one in serving(workspace).tables[table].files]
    flip(next(path for path in files if kind in str(path)))
    (said,) = verifying.verify_all(workspace).damaged
    assert ("`fct repair`" in said) == made and "from a backup" in said
    found = repairing.repair(workspace, by="ana", dry_run=True)
    assert found.damaged == [said] and bool(found.blocked) != made


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy", "index.json", "release.json"])
def test_verify_reads_the_index_and_the_release(workspace: Workspace, release: Release, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workspace.__dict__, "_releases", OneRelease(workspace, release))
    index = workspace.folder / serving(workspace).index.folder / name
    for path in (
        [*workspace.folder.glob("kept/release.json"), *workspace.folder.glob("releases/*/release.json")]
        if name == "release.json"
        else [index]
    ):
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))  # all copies: of two, the whole one stands for the other
    assert verifying.verify_all(workspace).damaged and alarm.raised(workspace)


def test_verify_counts_what_it_reads(workspace: Workspace) -> None:
    files = {name for state in serving(workspace).tables.values() for name in state.files}
    found = verifying.verify_all(workspace)
    assert (found.files, found.releases) == (len(files), [1])
    assert found.bytes == sum((workspace.gallery.root / name).stat().st_size for name in files)


@pytest.mark.parametrize("action", entering.MADE)
def test_no_entry_is_made_from_a_damaged_gallery(workspace: Workspace, action: str) -> None:
    head = workspace.ledger.head()
    alarm.sound(workspace, ["features/v1/data/x.lance was altered"])
    with pytest.raises(NotPermitted, match="x.lance was altered"):
        entering.enter(workspace, head, action=action, by="ana", why="", serving=serving(workspace), detail={"version": 1})
    assert workspace.ledger.head() == head


def test_a_gc_drops_nothing_that_a_damaged_gallery_may_be_restored_from(workspace: Workspace) -> None:
    alarm.sound(workspace, ["features/v1/data/x.lance was altered"])
    with pytest.raises(NotPermitted, match="x.lance was altered"):
        retention.collect(workspace, by="ana")


def test_a_command_is_stopped_and_damage_that_it_finds_raises_the_alarm(workspace: Workspace) -> None:
    found: list[Workspace] = []

    @alarm.stops
    def command(ws: Workspace, *, wrong: bool) -> None:
        found.append(ws)
        if wrong:
            raise Damaged("a file was altered")

    command(workspace, wrong=False)
    with pytest.raises(Damaged):
        command(workspace, wrong=True)
    assert alarm.raised(workspace) == ["a file was altered"] and len(found) == 2
    with pytest.raises(NotPermitted, match="a file was altered"):
        command(workspace, wrong=False)
    assert len(found) == 2
    (workspace.folder / "alarm" / "tiny.json").write_text("{")
    with pytest.raises(NotPermitted):
        command(workspace, wrong=False)
    alarm.clear(workspace)
    command(workspace, wrong=False)


# ---- data before the record --------------------------------------------------------------------------------------


def test_everything_that_an_entry_names_is_flushed_before_the_entry_appears(
    workspace: Workspace, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = watched(monkeypatch, workspace)
    add(workspace, release, 64, 8)
    before, now = serving(workspace), replace(pin(workspace, release), number=2, verdict="w")
    entering.enter(workspace, workspace.ledger.head(), action="ingest", by="ana", why="", serving=now, detail={})
    wanted = {workspace.gallery.root / name for state in now.tables.values() for name in state.files}
    wanted -= {workspace.gallery.root / name for state in before.tables.values() for name in state.files}
    wanted |= {workspace.folder / now.index.folder / name for name in ("index.faiss", "ids.npy", "index.json")}
    wanted.add(workspace.upgrade_folder(1) / "verdict" / "verdict.json")  # another verdict than before
    folders = {folder for path in wanted for folder in path.parents if folder.is_relative_to(workspace.folder)}
    early = {path for path, entries in flushed if entries == 1}
    assert wanted | folders <= early, sorted(wanted | folders - early)
    assert {workspace.folder / "ledger/tiny/0000002.json", workspace.folder / "ledger/tiny"} <= {path for path, _ in flushed}
    order = [path for path, _ in flushed]
    assert all(order.index(path) < order.index(path.parent) for path in wanted), "a name after what it names"


def watched(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> list[tuple[Path, int]]:
    """Every flush from here on: the real path, and how many entries the ledger had. They are flushed all the same."""
    import os

    flushed, really = list[tuple[Path, int]](), os.fsync
    ledger = workspace.folder / "ledger" / workspace.settings.model

    def flush(handle: int) -> None:
        flushed.append((Path(os.readlink(f"/proc/self/fd/{handle}")), len(list(ledger.glob("*.json")))))
        really(handle)

    monkeypatch.setattr(os, "fsync", flush)
    return flushed


def test_what_is_gone_before_it_is_recorded_is_not_recorded(workspace: Workspace, release: Release) -> None:
    head = workspace.ledger.head()
    index = replace(serving(workspace).index, folder="indexes/tiny/none")
    now = replace(serving(workspace), number=2, indexes=(index,))
    with pytest.raises(OperationFailed, match="gone"):
        entering.enter(workspace, head, action="ingest", by="ana", why="", serving=now, detail={})
    assert workspace.ledger.head() == head


def test_where_nothing_else_serves_the_entry_says_what_the_one_before_said(workspace: Workspace) -> None:
    """In the order of its keys, too: what older code wrote is copied, not written again."""
    before = workspace.ledger.head()
    assert before is not None and before.serving is not None
    turned = {key: before.serving[key] for key in reversed(before.serving)} | {"revision": 2}
    head = workspace.ledger.append(before, action="ingest", by="ana", why="", model="tiny", serving=turned)
    now = entering.enter(workspace, head, action="reject", by="ana", why="", detail={"version": 1})
    assert now.serving is not None and list(now.serving.items()) == list(turned.items())
