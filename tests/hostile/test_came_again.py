"""An id is deleted and comes again with another picture while somebody computes, or sleeps with, the row of the picture that was deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fct.gallery.names import NATIVE
from registry import lock
from tests.end_to_end.conftest import Copies, Project, wait_for


def pictured(folder: Path, name: str, seed: int) -> Path:
    """A folder with one image, its id its name."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / name)
    return folder


def did(project: Project, *args: str) -> str:
    ran = project.fct(*args)
    assert ran.code == 0, f"{args}: {ran.out}{ran.err}"
    return ran.out


def again(project: Project, place: Path, name: str) -> None:
    """Delete an item and ingest another picture under its id."""
    did(project, "delete", name, "--by", "ana", "--why", "not this one")
    pictured(place, name, 2)
    did(project, "ingest", str(place))


def made(project: Project, version: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The row of an item in the newest space of a version, and what its features give."""
    from registry.upgrades.maker import Maker
    from registry.upgrades.upgrade import Upgrade

    workspace = project.workspace()
    upgrade = Upgrade(workspace, version)
    gallery = workspace.gallery
    row = gallery.space_rows(upgrade.space, np.array([name]))
    maker = Maker(workspace, version, upgrade.forwards())
    native = int(gallery.native_version_of(np.array([name]))[0])
    source = version if row.origin.tolist()[0] == NATIVE else native
    (batch,) = gallery.features(source, ids=np.array([name]))
    return row.vectors[0], maker.make(source, batch)[0][0]


@pytest.mark.parametrize("killed", [False, True])
def test_an_item_comes_again_while_an_upgrade_carries_its_batch(
    copy_serving: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """No lock is held by an upgrade that a deletion or an ingest waits for: both may happen while h works on a batch, and when the batch is
    written the upgrade may be killed, before it looks at anything again."""
    from fct.gallery.gallery import Gallery
    from registry.upgrades.maker import Maker
    from registry.upgrades.upgrade import Upgrade

    project, name = copy_serving(), "again.png"
    did(project, "ingest", str(pictured(tmp_path / "more", name, 1)))
    did(project, "register", "build/releases/v2")
    make, unlike, done = Maker.make, Gallery.unlike, list[str]()

    def slow(self, m, batch):  # type: ignore[no-untyped-def]
        found = make(self, m, batch)
        if self.version == 2 and name in batch.ids and not done:
            done.append("it comes")
            again(project, tmp_path / "more", name)
            done.append("it is there")
        return found

    def dies(self, *arguments):  # type: ignore[no-untyped-def]
        return unlike(self, *arguments) if len(done) < 2 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(Maker, "make", slow)
        if killed:
            patch.setattr(Gallery, "unlike", dies)
            with suppress(ZeroDivisionError):
                project.fct("reconcile", "--once")
            patch.undo()
            assert name in project.workspace().gallery.space_ids(Upgrade(project.workspace(), 2).space), (
                "killed before anything was written"
            )
        ran = project.fct("reconcile", "--once")
    assert done
    print(ran.code, ran.out[-1500:], ran.err[-1500:])
    row, wanted = made(project, 2, name)
    assert np.allclose(row, wanted, atol=1e-3), "the row under the id is that of the picture that was deleted"


# Stops itself right before it writes into a table what it made from what it read.
SLEEPER = """
import os, signal, sys

from fct.gallery import tables
from registry.items import backfill, deletion, ingest
from registry.workspace import open_workspace
kind, *ids = sys.argv[1:]
name = {"backfill": "replace_rows", "delete": "delete_rows", "ingest": "insert_new"}[kind]
write = getattr(tables, name)

def writes(*arguments):
    setattr(tables, name, write)
    os.kill(os.getpid(), signal.SIGSTOP)
    return write(*arguments)

setattr(tables, name, writes)
ws = open_workspace()
if kind == "ingest":
    ingest.ingest(ws, ids[0], by="sleeper")
elif kind == "backfill":
    backfill.backfill(ws, fraction=1.0, by="sleeper")
else:
    deletion.delete(ws, ids, by="sleeper")
"""


def asleep(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """The real thing in a process of its own, asleep, and its lease over."""
    path = project.folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("lock_lease_s: 60.0", "lock_lease_s: 1.5"), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *arguments], cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), "it ended before that point"
    locks = project.workspace().locks
    wait_for(lambda: all(lock.holder_of(locks, f"tiny{kind}") is None for kind in ("-ledger", "-backfill", "-ingest")))
    return process


def woken(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()
    return said


def table(place: Path, name: str, seed: int, label: str = "") -> Path:
    """A table of one item whose id is no file's name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pictured(place, f"{seed}.png", seed) / f"{seed}.png"
    pq.write_table(pa.table({"id": [name], "image_uri": [str(image)], "label": [label]}), place / f"{seed}.parquet")
    return place / f"{seed}.parquet"


def test_a_backfill_sleeps_with_a_row_and_its_id_comes_again(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    project = copies(promoted_folder)
    gallery = project.workspace().gallery
    name = str(gallery.item_ids(role="item")[5])
    process = asleep(project, "backfill")
    try:
        did(project, "delete", name, "--by", "ana", "--why", "not this one")
        did(project, "ingest", str(table(project.folder / "more", name, 7, "another label")), "--root", str(project.folder / "more"))
    finally:
        said = woken(process)
    assert process.returncode != 0 and "taken over" in said, said
    row, wanted = made(project, 2, name)
    (label,) = gallery.items()["label"][gallery.items()["id"] == name]
    assert np.allclose(row, wanted, atol=1e-3), "the row under the id is that of the picture that was deleted"
    assert label == "another label", "the description under the id is that of the item that was deleted"


def test_a_deletion_sleeps_and_its_id_comes_again(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """What another command has acknowledged since is not taken by one that was overtaken, and says that it has failed."""
    project = copies(promoted_folder)
    gallery = project.workspace().gallery
    name = str(gallery.item_ids(role="item")[5])
    process = asleep(project, "delete", name)
    try:
        did(project, "delete", name, "--by", "ana", "--why", "not this one")
        did(project, "ingest", str(table(project.folder / "more", name, 7)), "--root", str(project.folder / "more"))
    finally:
        said = woken(process)
    assert process.returncode != 0 and "taken over" in said, said
    did(project, "ingest", str(pictured(tmp_path / "other", "other.png", 9)))
    assert name in did(project, "search", "--id", name), "an acknowledged item is gone, and no entry says so"


def test_an_ingest_sleeps_while_its_item_is_purged(copy_serving: Copies, tmp_path: Path) -> None:
    """A purge is refused while an ingest is at work, but not for longer than a lease: who wakes then must write nothing."""
    project, name = copy_serving(), "purged.png"
    did(project, "ingest", str(pictured(tmp_path / "more", name, 1)))
    process = asleep(project, "ingest", str(tmp_path / "more"))  # once more, as a nightly job does
    try:
        did(project, "delete", name, "--by", "ana", "--why", "request 4711", "--purge")
        (tmp_path / "more" / name).unlink()
    finally:
        said = woken(process)
    print(process.returncode, said[-300:])
    assert name not in project.workspace().gallery.item_ids().tolist(), "what was purged is in the gallery again"
    assert project.fct("search", "--id", name).code != 0, "what was purged answers again"
