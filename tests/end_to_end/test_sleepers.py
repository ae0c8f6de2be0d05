"""A gc or a purge that is stopped at any point, wakes when the world has gone on, and must do no harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry import lock
from registry.revisions.building import verify
from registry.revisions.history import before, serving
from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import Copies, Project, copied, having, wait_for

pytestmark = pytest.mark.slow

# Stops itself before its entry (point 0), or right before its n-th act, after it has looked for the last time.
SLEEPER = """
import os, signal, sys
from registry import ledger
from registry.items import deletion, retention
from registry.workspace import open_workspace
kind, point, *ids = sys.argv[1:]
look, append, looked = retention._look, ledger.Ledger.append, 0

def looks(*arguments):
    global looked
    look(*arguments)
    looked += 1
    if looked == int(point):
        os.kill(os.getpid(), signal.SIGSTOP)

def appends(*arguments, **named):
    if point == "0":
        os.kill(os.getpid(), signal.SIGSTOP)
    return append(*arguments, **named)

retention._look, ledger.Ledger.append = looks, appends
ws = open_workspace()
retention.collect(ws, by="sleeper") if kind == "gc" else deletion.delete(ws, ids, by="sleeper", purge=True)
"""


def stopped(project: Project, kind: str, point: int, *ids: str) -> subprocess.Popen[str]:
    """The real thing in a process of its own, asleep, and its lease over."""
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, kind, str(point), *ids], cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), "it ended before that point"
    locks = project.workspace().locks
    wait_for(lambda: lock.holder_of(locks, "tiny-ledger") is None and lock.holder_of(locks, "tiny-ingest") is None)
    return process


def woken(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()
    return said


def whole(project: Project) -> None:
    """Champion and rollback target verify, and what serves answers."""
    ws = project.workspace()
    now = serving(ws.ledger)
    verify(ws, now)
    target = before(ws.ledger.entries(), now.release)
    if target is not None:
        verify(ws, target)
    opened = open_serving(ws)
    assert len(opened.search_vectors(opened.searcher.vector(0)[None], 5)[0]) == 5


def impatient(project: Project) -> None:
    path = project.folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("lock_lease_s: 60.0", "lock_lease_s: 1.5"), encoding="utf-8")


@pytest.mark.parametrize(("kind", "points"), [("gc", (0, 1, 3)), ("purge", (0, 1, 4))])
def test_the_world_goes_on_while_one_sleeps_and_nothing_that_serves_is_lost(
    promoted: Project, tmp_path: Path, kind: str, points: tuple[int, ...]
) -> None:
    project, rng = copied(promoted.folder, tmp_path / "project"), np.random.default_rng(3)
    impatient(project)
    ws = project.workspace()
    for round_, point in enumerate(points):
        having(project, ("backfill", "--fraction", str(0.1 + 0.2 * round_)))  # old versions and an index that may go
        gone = [str(one) for one in rng.choice(ws.gallery.item_ids(role="item"), 2, replace=False)]
        process = stopped(project, kind, point, *(gone if kind == "purge" else ()))
        (tmp_path / f"more-{round_}").mkdir()
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"more-{round_}" / f"new-{round_}.png")
        having(
            project,
            ("ingest", str(tmp_path / f"more-{round_}")),
            ("backfill", "--fraction", str(0.2 + 0.2 * round_)),
            ("rollback", "--without-missing"),
            ("promote", "2"),
            ("gc", "--yes"),
        )
        whole(project)
        answers = json.loads(project.fct("search", "--id", f"new-{round_}.png", "--json").out)
        said = woken(process)
        assert process.returncode != 0 and ("taken over" in said or "moved on" in said), said
        whole(project)
        assert json.loads(project.fct("search", "--id", f"new-{round_}.png", "--json").out) == answers
        # the same command again; in a process of its own, for MLflow remembers where a run of this id was
        ran = project.command(*(("delete", *gone, "--purge") if kind == "purge" else ("gc", "--yes")))
        assert ran.code == 0, ran.err
        whole(project)


def test_a_gc_that_sleeps_while_its_version_is_fitted_again_to_the_same_h(copy_waiting: Copies) -> None:
    project = copy_waiting()
    impatient(project)
    having(project, ("reject", "2", "--by", "ana", "--why", "not now"))
    ws = project.workspace()
    (space,) = (name for name in ws.gallery.tables() if name.startswith("spaces/v2"))
    process = stopped(project, "gc", 1)
    ws.releases.untag(2, "fct.reject")
    having(project, ("upgrade", "2"), ("approve", "2", "--by", "ana", "--why", "after all"), ("promote", "2"))
    assert ws.ledger.serving()["space"] == f"{space}-2"
    whole(project)
    assert "taken over" in woken(process) and process.returncode != 0
    assert space not in ws.gallery.tables(), "the act at hand was done: it named what nobody needs"
    whole(project)
    having(project, ("gc", "--yes"), ("rollback",), ("promote", "2"))
    whole(project)
