"""The disk fills up while items arrive or are embedded again: one sentence, nothing lost, and the same command goes on when there is room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Project, copied
from tests.end_to_end.lives import answers, pictures, queries


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; :func:`resize` makes it as large as is wanted."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place], capture_output=True, check=False).returncode
    ):
        pytest.skip("only root can mount a small disk, where mounting is allowed at all")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def resize(place: Path, free: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={shutil.disk_usage(place).used + free}", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("ingest", "more"), ("backfill", "--fraction", "0.9")])
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    promoted: Project, small_disk: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    project = copied(promoted.folder, small_disk / "project")
    pictures(project.folder / "more", 120)
    serving = open_serving(project.workspace())
    asked = queries(serving)
    before, head = answers(serving, asked), project.workspace().ledger.head()
    resize(small_disk, 24 * 1024)
    ran = project.command(*words)
    assert ran.code == 1 and "disk is full" in ran.err and "Traceback" not in ran.err, ran.out + ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith("fct:")]) == 1
    now = project.workspace().ledger.head()
    assert now is not None and head is not None and now.serving["release"] == head.serving["release"]
    if now.number == head.number:
        assert answers(open_serving(project.workspace()), asked) == before
    resize(small_disk, 64 * 1024 * 1024)
    ran = project.command(*words, "--json")
    assert ran.code == 0, ran.err
    serving = open_serving(project.workspace())
    shown = set(serving.searcher.ids[serving.shown].tolist())
    assert shown == set(project.workspace().gallery.item_ids(role="item").tolist())
    if words[0] == "ingest":
        assert {f"new-{number:02}.png" for number in range(120)} <= shown and json.loads(ran.out)["broken"] == []
    else:
        assert json.loads(ran.out)["share"][1] == pytest.approx(0.9, abs=0.01)
