"""Whoever is signalled alone takes what it started along: nothing of ours goes on, nothing is half-written, the same command continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import services
from registry import lock, running
from registry.workspace import open_workspace
from tests.end_to_end.conftest import make_project
from tests.end_to_end.team import set_services
from tests.ports import free_ports

pytestmark = pytest.mark.slow
BESIDE = Path(sys.executable).parent
SAFETY_S = 600.0  # a machine that needs longer for a condition is not slow but stuck


def until(what: Callable[[], bool], said: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < SAFETY_S, said()
        time.sleep(0.05)


class Command:
    """A real command in a process of its own; it and all that it begins carry a mark in their environment."""

    def __init__(self, folder: Path, *words: str, path: str | None = None) -> None:
        self.mark, self.stderr = f"FCT_TEST={uuid.uuid4()}", folder / "stderr.txt"
        apart = ("PREFECT_HOME", "PREFECT_API_URL", "DVC_STAGE")
        environment = {name: value for name, value in os.environ.items() if name not in apart}
        environment |= dict([self.mark.split("=")]) | {"OMP_NUM_THREADS": "1"}
        environment |= {"PATH": path or f"{BESIDE}{os.pathsep}{os.environ['PATH']}"}
        with open(self.stderr, "wb") as err:
            self.process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=err)

    def family(self) -> dict[int, list[bytes]]:
        """Number and environment of every living process with the mark."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                variables = (place / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if self.mark.encode() in variables and lock.process_started(int(place.name)) != "gone":
                found[int(place.name)] = variables
        return found

    def works_on(self, stage: str) -> bool:
        """Whether a stage of DVC runs now whose name begins so: our command, not the shell before it."""
        assert self.process.poll() is None, f"the command ended before {stage}: {self.said()}"
        begins = f"DVC_STAGE={stage}".encode()
        inside = [pid for pid, variables in self.family().items() if any(one.startswith(begins) for one in variables)]
        return any(b"fct\0" in _words(pid) for pid in inside)

    def said(self) -> str:
        return self.stderr.read_text(encoding="utf-8", errors="replace")[-3000:]

    def signalled(self, number: signal.Signals) -> int:
        """Signal this process alone and wait until nothing with the mark lives; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait()
        until(lambda: not self.family(), lambda: [_words(pid) for pid in self.family()])
        return code


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project in which DVC has done nothing yet."""
    folder = make_project(tmp_path_factory.mktemp("signals") / "a project")
    for package in ("fct", "registry"):  # files, as in the repository: DVC follows no links out of it
        target = (folder / package).resolve()
        (folder / package).unlink()
        shutil.copytree(target, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def test_the_demo_ends_with_all_its_stages_and_needs_no_path(project: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "bin"
    wrong.mkdir()
    for name in ("fct", "python"):
        (wrong / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/wrong'\nexit 1\n")
        (wrong / name).chmod(0o755)

    def demo() -> Command:
        return Command(project, str(BESIDE / "fct"), "demo", path=f"{wrong}:/usr/bin:/bin")

    first = demo()
    until(lambda: first.works_on("data"))
    assert first.signalled(signal.SIGTERM) == 130, first.said()
    assert "interrupted; run the same command again" in first.said() and "Traceback" not in first.said()
    assert half_written(project) == []

    second = demo()  # goes on where the first one ended
    until(lambda: second.works_on("train@"))
    assert second.signalled(signal.SIGKILL) == -signal.SIGKILL
    assert half_written(project) == []

    third = demo()
    until(lambda: third.works_on("train@"))
    assert third.signalled(signal.SIGINT) == 130, third.said()
    assert half_written(project) == []

    last = demo()
    until(lambda: "tiny v1: embed" in last.said() or last.process.poll() is not None)
    assert last.signalled(signal.SIGTERM) == 130, last.said()
    workspace = open_workspace(project / "params.yaml")
    assert half_written(project) == [] and lock.holder_of(workspace.locks, "tiny") is None
    assert not (tmp_path / "wrong").exists(), "another program of that name was used"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_with_the_dvc_that_somebody_typed(project: Path, number: signal.Signals) -> None:
    repro = [str(BESIDE / "dvc"), "repro", "-f", "data"]
    first = Command(project, *repro)
    until(lambda: first.works_on("data"))
    first.signalled(number)
    assert half_written(project) == []
    again = Command(project, *repro)
    assert again.process.wait() == 0, again.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_that_is_cut_short_leaves_none_of_its_parts(project: Path, number: signal.Signals) -> None:
    set_services(project, **dict(zip(("mlflow_port", "prefect_port", "receiver_port"), free_ports(3), strict=True)))
    workspace = open_workspace(project / "params.yaml")
    up = Command(project, str(BESIDE / "fct"), "up")
    until(lambda: len(running.parts(workspace.folder)) == 3 or up.process.poll() is not None)
    assert all(part.alive() for part in running.parts(workspace.folder).values()), up.said()
    code = up.signalled(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), up.said()
    assert running.parts(workspace.folder) == {} and lock.holder_of(workspace.locks, "services") is None
    for plan in services.plans(workspace):
        if plan.port:
            services._check_free(plan)
    assert half_written(workspace.folder) == []
