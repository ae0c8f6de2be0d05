"""Bits that flip on a disk: nothing is made from them, and a record never takes them for what was there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fct import audit
from fct.program import sandbox
from registry.revisions import history, kept
from registry.revisions.revision import Revision, read
from registry.workspace import Workspace
from tests.end_to_end.conftest import PATIENCE_S, Copies, Project, having, tiny_images
from tests.end_to_end.test_life import altered


def data_file(ws: Workspace, revision: Revision, table: str = "its space") -> Path:
    state = revision.state if table == "its space" else revision.tables[table]
    return next(ws.gallery.root / name for name in state.files if "/data/" in name)


def flipped(path: Path) -> bytes:
    """Two bits of a number: Lance reads the file as before."""
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0b11
    return bytes(data)


def arrivals(folder: Path) -> Path:
    """Six images whose ids begin with the folder's name."""
    tiny_images(folder / folder.name, classes=2, each=3, seed=5)
    return folder


def stopped(project: Project, *args: str) -> None:
    ws = project.workspace()
    before = ws.ledger.head()
    ran = project.fct(*args)
    assert ran.code == 3 and "Traceback" not in ran.err, f"{args}: {ran.code} {ran.out}{ran.err}"
    assert ws.ledger.head() == before, args


@pytest.fixture(scope="module")
def served(copy_serving: Copies) -> Project:
    return having(copy_serving(), ("register", "build/releases/v2"))


@pytest.mark.parametrize("table", ["items", pytest.param("features/v1", marks=pytest.mark.slow), "spaces/v1-native"])
def test_nothing_is_made_from_a_damaged_gallery(served: Project, tmp_path: Path, table: str) -> None:
    ws, more = served.workspace(), arrivals(tmp_path / "more" / table.replace("/", "-"))
    before = history.serving(ws.ledger)
    path = data_file(ws, before, table)
    with altered(path, flipped(path)):
        if table == "features/v1":  # whose old rows an ingest does not read
            assert served.fct("ingest", str(more)).code == 0
            now = history.serving(ws.ledger).tables[table].files
            assert now.items() >= {name: digest for name, digest in before.tables[table].files.items() if "/data/" in name}.items()
        else:
            stopped(served, "ingest", str(more))
        stopped(served, "upgrade", "2")
        assert json.loads(served.fct("status", "--json").out)["alarm"]
        for args in (
            ("ingest", str(more)),
            ("upgrade", "2"),
            ("backfill", "--fraction", "1"),
            ("gc", "--yes"),
            ("promote", "2"),
        ):
            stopped(served, *args)
        ran = served.fct("status", "--verify", "--json")
        assert ran.code == 3 and path.name in json.loads(ran.out)["damaged"][0]
    stopped(served, "ingest", str(more))
    assert served.fct("status", "--verify").code == 0
    assert served.fct("ingest", str(more)).code == 0 and not json.loads(served.fct("status", "--json").out)["alarm"]
    assert served.fct("status", "--verify").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("table", ["items", "features/v1", "its space"])
def test_a_candidate_whose_rows_were_damaged_is_not_promoted(candidate: Project, table: str) -> None:
    ws = candidate.workspace()
    path = data_file(ws, read(ws.upgrade_folder(2) / "revision.json"), table)
    with altered(path, flipped(path)):
        candidate.fct("approve", "2", "--by", "ana", "--why", "fine")
        stopped(candidate, "promote", "2")
        stopped(candidate, "upgrade", "2")
        assert path.name in candidate.fct("status", "--verify").err
    assert candidate.fct("status", "--verify").code == 0


def test_what_serves_goes_on_and_leads_back_while_another_release_is_damaged(promoted: Project) -> None:
    ws = promoted.workspace()
    path = data_file(ws, next(filter(None, map(history.serving, ws.ledger.entries()))))
    one = str(ws.gallery.item_ids(role="item")[0])
    with altered(path, flipped(path)):
        assert promoted.fct("status", "--verify").code == 3
        stopped(promoted, "backfill", "--fraction", "0.1")
        stopped(promoted, "rollback", "--by", "ana", "--why", "w")
        ran = promoted.fct("delete", one)
        assert ran.code == 0 and "version 1 is not whole" in ran.err, "a person's items are not kept by damage elsewhere"


# ---- images read ------------------------------------------------------------------------------------------------


def test_the_counter_of_images_counts(copy_of: Copies, tmp_path: Path) -> None:
    """An ingest reads each image in this process; its program, which nobody has approved yet, opens none in its own."""
    project = copy_of()
    having(project, ("register", "build/releases/v1"))
    more = arrivals(tmp_path / "more")
    sealed = len(sandbox.opened())
    with audit.opened_below([more]) as opened:
        having(project, ("ingest", str(more)))
    images = sorted(map(str, more.rglob("*.png")))
    assert sorted(set(opened)) == images and len(images) == 6, "some more than once: how a file begins says what it is"
    assert not [one for one in sandbox.opened()[sealed:] if one.startswith(str(more))]


@pytest.mark.slow
def test_an_upgrade_and_a_promotion_read_no_image_of_the_gallery_and_an_ingest_beside_them_is_counted(
    copy_waiting: Copies, tmp_path: Path
) -> None:
    project = copy_waiting()
    ws, more = project.workspace(), arrivals(tmp_path / "more")
    folders = {str(Path(uri).parent) for uri in ws.gallery.items()["image_uri"] if uri}
    with audit.opened_below([*folders, more]) as opened:
        having(project, ("upgrade", "2"), ("approve", "2", "--by", "ana", "--why", "fine"), ("promote", "2"))
        assert not opened
        having(project, ("ingest", str(more)))
        assert len(set(opened)) == 6
        before = len(opened)
        having(project, ("status", "--verify", "--images", "20"))
        assert len(opened) == before + 20


def test_images_are_read_again_and_compared_with_their_features(served: Project, tmp_path: Path) -> None:
    more = arrivals(tmp_path / "seen" / "again")
    assert served.fct("ingest", str(more)).code == 0
    ran = served.fct("status", "--verify", "--images", "100000", "--json")
    said = json.loads(ran.out)["images"]
    rows = len(served.workspace().gallery.item_ids(role="item"))
    assert ran.code == 0 and said["read"] + len(said["unreadable"]) == rows and not said["other"], ran.err
    one, other = sorted(more.rglob("*.png"))[0], sorted(more.rglob("*.png"))[-1]
    with altered(one, other.read_bytes()):
        ran = served.fct("status", "--verify", "--images", "100000", "--json")
        assert ran.code == 3 and [found[0] for found in json.loads(ran.out)["images"]["other"]] == [one.relative_to(more).as_posix()]
        assert "1 of" in ran.err and not json.loads(served.fct("status", "--json").out)["alarm"], "the files are as recorded"
    assert served.fct("status", "--images", "3").code == 2


# ---- data before the record -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_by_system_calls_the_data_is_on_the_disk_before_the_record(copy_waiting: Copies, tmp_path: Path) -> None:
    project = having(copy_waiting(), ("approve", "2", "--by", "ana", "--why", "fine"))
    ws = project.workspace()
    known = {name for entry in ws.ledger.entries() for state in history.states(entry) for name in state.files}
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2"]
    ran = subprocess.run(
        [*command, sys.executable, "-m", "flows.cli", "promote", "2"],
        cwd=project.folder, env=os.environ | {"TQDM_DISABLE": "1"}, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    if "ptrace" in ran.stderr and ran.returncode:
        pytest.skip("strace may not trace here")
    assert ran.returncode == 0, ran.stderr
    head, flushed = ws.ledger.head(), set[str]()
    for line in log.read_text().splitlines():
        if f"{head.number:07d}.json" in line and "fsync" not in line:
            break  # the entry appears
        if "sync(" in line and "<" in line:
            flushed.add(line[line.index("<") + 1 : line.index(">")])
    else:
        raise AssertionError("the entry never appeared")
    folder, revision = ws.folder, history.serving(head)
    release = kept.release(ws, revision, check=False)
    wanted = {ws.gallery.root / name for state in revision.tables.values() for name in state.files if name not in known}
    wanted |= {folder / revision.index.folder / name for name in ("index.faiss", "ids.npy", "index.json")}
    wanted |= {path for path in release.folder.rglob("*") if path.is_file()}
    upgrade = ws.upgrade_folder(2)
    wanted.update([*upgrade.glob("h-v*/*"), *upgrade.glob("verdict/*.json"), upgrade / "revision.json"])
    wanted |= {one for path in wanted for one in path.parents if one.is_relative_to(folder)}
    assert {str(path) for path in wanted} <= flushed, sorted({str(path) for path in wanted} - flushed)
