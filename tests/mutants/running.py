"""Runs tests on mutants: this process has the libraries imported, and for each mutant it forks a child that imports the project anew.

The project is a copy of the tree. The mutated file stands there while its tests run, so processes that a test starts see it too.
"""

from __future__ import annotations

import compileall
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest

from tests.mutants.making import Mutant

MEMORY = 8 << 30  # bytes that a child may have: a mutant may ask for any amount
TOO_LONG = -signal.SIGALRM  # in the place of an exit status
LATER = count(2_000_000_000)  # a time of change for each mutated file, so that no bytecode of another one is taken for its


class Watch:
    """A plugin of pytest. It keeps what each test took and which lines of ``files`` it ran; of ``chosen`` tests, only those run."""

    def __init__(self, root: Path, files: Iterable[str] = (), chosen: list[str] | None = None):
        self.root, self.names = root, {str(root / name): name for name in files}
        self.order = None if chosen is None else {name: place for place, name in enumerate(chosen)}
        self.took: dict[str, float] = defaultdict(float)
        self.lines: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.failed: list[str] = []
        self.now: set[tuple[str, int]] = set()
        self.environment: dict[str, str] = {}

    def found(self) -> dict[str, Any]:
        """``lines``: test, or its file for what prepared it → lines. ``modules``: libraries that were imported."""
        own = {name for name, module in sys.modules.items() if (getattr(module, "__file__", None) or "").startswith(str(self.root))}
        lines = {name: sorted(found) for name, found in self.lines.items() if found}
        modules = [name for name in sys.modules if name.split(".")[0] not in {one.split(".")[0] for one in own}]
        return {"took": self.took, "lines": lines, "failed": self.failed, "modules": modules, "environment": self.environment}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.environment = dict(os.environ)
        if (order := self.order) is not None:
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._trace(item.nodeid.split("::")[0])  # what prepares one test may prepare all of its file

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._trace(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] += report.duration
        self.pytest_collectreport(report)

    def pytest_collectreport(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def _trace(self, name: str) -> None:
        self.now = self.lines[name]
        if self.names:
            sys.settrace(self._enter)
            threading.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, _: object) -> Any:
        name = self.names.get(frame.f_code.co_filename)
        if name is not None:
            self.now.add((name, frame.f_lineno))
            return self._enter
        return None


@dataclass(frozen=True)
class Copy:
    """A copy of the tree. ``once``: what tests make once for all, which all copies share; it was made without a mutant."""

    root: Path
    temporary: Path
    once: Path
    mark: str

    @classmethod
    def of(cls, tree: Path, folder: Path, number: int, mark: str) -> Copy:
        """Copy what git knows of, or what lies there where there is no git; compile it."""
        copy = cls(folder / f"copy{number}", folder / "temporary" / f"gw{number}", folder / "temporary/once", mark)
        shutil.rmtree(copy.root, ignore_errors=True)
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=tree, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(None, names):
            if (tree / name).is_file():
                (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, copy.root / name)
        compileall.compile_dir(copy.root, quiet=2)
        return copy

    def fork(self, files: list[str], watch: Watch, *more: str, bytecode: bool = False) -> int:
        """Run the tests of these files in a child of this process; what it found lies in :meth:`answer` when it has ended."""
        self.answer.unlink(missing_ok=True)
        self.temporary.parent.mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.setsid()
            output = os.open(self.answer.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            os.chdir(self.root)
            tops = {path.stem for path in self.root.iterdir()}
            for name in [name for name in sys.modules if name.split(".")[0] in tops]:
                del sys.modules[name]
            sys.path[:] = [str(self.root), *(path for path in sys.path[1:] if path)]
            sys.dont_write_bytecode = not bytecode
            os.environ |= {
                "PYTHONPATH": str(self.root),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_XDIST_WORKER": "gw0",
            }  # the latter: to share ``once``
            hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
            hypothesis.settings.load_profile("mutants")
            config = ["-p", "no:cacheprovider", "--tb=short", f"--rootdir={self.root}", f"--basetemp={self.temporary}", "-m", self.mark]
            for part in filter(None, (files[:1], files[1:])):  # most mutants are killed by the first file: the others need not be imported
                code = int(pytest.main([*config, *more, *part], plugins=[watch]))
                if code:
                    break
            self.answer.write_text(json.dumps(watch.found()), encoding="utf-8")
            sys.stdout.flush()
        finally:
            os._exit(code)

    @property
    def answer(self) -> Path:
        return self.root.with_suffix(".json")

    def ended(self, pid: int, deadline: float) -> int | None:
        """The exit status of a child, None while it runs; past the deadline, or at its end, its processes are killed."""
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done and time.monotonic() < deadline:
            return None
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if not done:
            os.waitpid(pid, 0)
            return TOO_LONG
        return os.waitstatus_to_exitcode(status)

    def run(self, files: list[str], watch: Watch, *more: str, bytecode: bool = False) -> dict[str, Any]:
        """Run tests without a mutant, for as long as they need."""
        pid = self.fork(files, watch, *more, bytecode=bytecode)
        while self.ended(pid, float("inf")) is None:
            time.sleep(0.05)
        return dict(json.loads(self.answer.read_text(encoding="utf-8")))

    def put(self, mutant: Mutant) -> Callable[[], None]:
        """Put the mutant into its file; what is returned takes it out again."""
        path = self.root / mutant.file
        source, times = path.read_bytes(), path.stat()
        path.write_bytes(mutant.apply(source))
        later = next(LATER)
        os.utime(path, (later, later))

        def undo() -> None:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

        return undo


def warm(found: dict[str, Any]) -> None:
    """Import here the libraries that tests imported, in the environment that they had set."""
    os.environ |= {name: value for name, value in found["environment"].items() if name not in os.environ and not name.startswith("PYTEST")}
    for name in found["modules"]:
        if name not in sys.modules:
            with suppress(BaseException):
                importlib.import_module(name)
