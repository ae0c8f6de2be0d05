"""What a gc or a purge removes when it slept at any point and the world went on: what its entry names, and nothing that serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct.errors import FctError, LockHeld
from fct.gallery import tables
from registry import lock, params
from registry.entry import Entry
from registry.items import retention
from registry.revisions import names
from registry.revisions.history import before, serving
from registry.revisions.revision import Revision
from registry.workspace import Workspace
from tests.by_hand import revision_of

REPOSITORY = Path(__file__).parents[3]
H = "0123456789ab" + "0" * 52


class World:
    """A workspace with two releases that have served, without programs and MLflow: real tables, a real ledger, real locks."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "params.yaml", params.read(REPOSITORY / "params.yaml"))
        self.gallery, self.ledger, self.count = self.workspace.gallery, self.workspace.ledger, 0
        self.arrive()
        self.serve("promote", 1, "spaces/v1-native")
        self.arrive()
        self.serve("promote", 2, f"spaces/v2-{H[:12]}")
        for _ in range(3):
            self.arrive()
        self.serve("backfill", 2, f"spaces/v2-{H[:12]}")
        self.arrive()

    def arrive(self) -> None:
        """One item more."""
        self.count += 1
        one, row = [f"item-{self.count:03}"], np.full((1, 4), self.count, dtype=np.float32)
        self.gallery.ingest(1, "f" * 64, one, row, None, ["a"], ["b"], ["c"])

    def serve(self, action: str, release: int, space: str) -> Entry:
        """A space, an index and an entry of a release, as a promotion or a backfill leaves them."""
        forward = {} if release == 1 else {1: H}
        self.gallery.create_space(space, 4, "f" * 64, forward)
        todo = np.setdiff1d(self.gallery.item_ids(), self.gallery.space_ids(space))
        if len(todo):
            rows = next(self.gallery.features(1, ids=todo, batch_rows=len(todo))).phi
            self.gallery.append_space(space, todo, rows, "native" if release == 1 else "forward 1→2", np.zeros(len(todo)))
        entries = self.ledger.entries()
        index = names.unused(f"indexes/{self.workspace.settings.model}/v{release}-{len(todo)}", names.gone(entries))
        (self.workspace.folder / index).mkdir(parents=True, exist_ok=True)
        (self.workspace.folder / index / "index.faiss").write_text(index)
        pinned = {name: self.gallery.snapshot(name) for name in ("items", "features/v1", space)}
        serving = revision_of(release, len(entries) + 1, space, index, tables=pinned).to_json()
        head = entries[-1] if entries else None
        return self.ledger.append(head, action=action, by="ana", why="", model=self.workspace.settings.model, serving=serving)

    def name(self, detail: dict[str, Any]) -> Entry:
        head = self.ledger.head()
        assert head is not None
        return self.ledger.append(head, action="gc", by="gc", why="", model=head.model, serving=head.serving, detail=detail)

    def serving(self) -> Revision:
        found = serving(self.ledger)
        assert found is not None
        return found

    def verify(self) -> None:
        """Champion and rollback target are whole, byte by byte and row by row."""
        now = self.serving()
        for revision in (now, before(self.ledger.entries(), now.release)):
            if revision is None:
                continue
            assert (self.workspace.folder / revision.index.folder / "index.faiss").read_text() == revision.index.folder
            for state in revision.tables.values():
                self.gallery.verify(state)
                self.gallery.verify_content(state)


def asleep(act: Callable[[], None], at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Thread, Callable[[], list[Exception]]]:
    """Run ``act`` in a thread until it has looked for the ``at``-th time, right before it removes something. Waking it gives its errors."""
    look, looked, sleeping, awake, errors = retention._look, 0, threading.Event(), threading.Event(), list[Exception]()

    def looks(*arguments: Any) -> None:
        nonlocal looked
        look(*arguments)
        looked += 1
        if looked == at:
            sleeping.set()
            awake.wait()

    def run() -> None:
        try:
            act()
        except Exception as error:
            errors.append(error)
        sleeping.set()

    monkeypatch.setattr(retention, "_look", looks)
    thread = threading.Thread(target=run, daemon=True)  # of a test that failed
    thread.start()
    sleeping.wait()
    monkeypatch.setattr(retention, "_look", look)

    def wake() -> list[Exception]:
        awake.set()
        thread.join()
        return errors

    return thread, wake


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("lost", [False, True])
def test_one_that_wakes_late_removes_only_what_its_entry_names(
    tmp_path: Path, at: int, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    ws, gallery = world.workspace, world.gallery
    dropped = f"spaces/v2-{'c' * 12}"
    gallery.create_space(dropped, 4, "f" * 64, {1: "c" * 64})
    folder = f"indexes/{ws.settings.model}/v2-0"
    (ws.folder / folder).mkdir()
    now = world.serving()
    kept = [now, before(world.ledger.entries(), 2)]
    wanted = {name: {one.tables[name].version for one in kept if one and name in one.tables} for name in gallery.tables()}
    old = {name: found for name in gallery.tables() if name != dropped and (found := tables.old_versions(gallery.root, name, wanted[name]))}
    assert set(old) >= {"items", "features/v1", now.space}
    entry = world.name({"spaces": [dropped], "folders": [folder], "versions": old})

    def act() -> None:
        with lock.hold(ws.locks, "m-ledger", "gc", lease_s=60) as held:
            retention.drop(ws, held, entry)

    thread, wake = asleep(act, at, monkeypatch)
    if lost and thread.is_alive():  # its lease ran out, and somebody else has the lock
        monkeypatch.setattr(lock.Lease, "free", lambda self: True)
        stack = lock.hold(ws.locks, "m-ledger", "bob", lease_s=60)
        stack.__enter__()
        monkeypatch.undo()
    world.arrive()
    world.serve("backfill", 2, now.space)
    world.arrive()
    world.serve("promote", 2, names.unused(dropped, names.gone(world.ledger.entries())))  # fitted again to the same h
    world.arrive()
    errors = wake()
    world.verify()
    assert [type(error) for error in errors] == ([LockHeld] if lost and at <= 1 + 1 + len(old) - 1 else []), errors
    if not errors:
        assert dropped not in gallery.tables() and not (ws.folder / folder).exists()
        assert all(not set(tables.versions(gallery.root, name)) & set(found) for name, found in old.items())


def test_a_name_that_an_entry_has_dropped_is_not_used_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert names.unused("spaces/v2-x", names.gone(world.ledger.entries())) == "spaces/v2-x"
    world.name({"spaces": ["spaces/v2-x"], "folders": ["upgrades/m-v2/pairs-v1"]})
    world.name({"spaces": ["spaces/v2-x-2"], "folders": []})
    past = names.gone(world.ledger.entries())
    assert names.unused("spaces/v2-x", past) == "spaces/v2-x-3" and names.unused("spaces/v2-y", past) == "spaces/v2-y"
    now = world.serving()
    with pytest.raises(FctError, match="was dropped meanwhile"):
        names.still_there(replace(now, spaces=("spaces/v2-x-2",)), world.ledger.entries())
    names.still_there(now, world.ledger.entries())


def test_an_entry_of_earlier_code_counts_folders_and_may_have_used_its_names_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.name({"spaces": ["spaces/v2-x"], "folders": 3, "tables": 2})
    assert names.gone(world.ledger.entries()) == frozenset()


def test_what_is_in_use_is_not_dropped_whatever_an_entry_says(tmp_path: Path) -> None:
    world = World(tmp_path)
    now = world.serving()
    for detail in (
        {"spaces": [now.space]},
        {"folders": [now.index.folder]},
        {"versions": {"items": [1, now.tables["items"].version]}},
    ):
        entry = world.name(detail)
        with lock.hold(tmp_path, "m", "gc") as held, pytest.raises(FctError, match="in use again"):
            retention.drop(world.workspace, held, entry)
        world.verify()


def test_a_version_that_a_reader_has_tagged_and_a_file_that_a_writer_has_not_committed_stay(tmp_path: Path) -> None:
    import lance
    from lance.fragment import write_fragments

    world = World(tmp_path)
    root, dataset = world.gallery.root, tables.open_table(world.gallery.root, "items")
    dataset.tags.create("reader", 2)
    old = tables.old_versions(root, "items", ())
    assert 2 not in old and len(old) > 3
    rows = dataset.to_table().slice(0, 1)
    fragments = write_fragments(rows, dataset, schema=rows.schema)  # a writer that sleeps right before its commit
    tables.forget_versions(root, "items", [*old, 2, 999])
    assert tables.versions(root, "items") == [2, dataset.version]
    committed = lance.LanceDataset.commit(dataset.uri, lance.LanceOperation.Append(fragments), read_version=dataset.version)
    assert committed.to_table().num_rows == world.count + 1
