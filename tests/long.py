"""``make test-long`` as a plugin of pytest: what passed at this commit is not run again, and ``tests/long.json`` keeps what was found.

A run that was cut short goes on with the same command. A changed file or another commit starts over.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "tests/long.json"
WORST_FIRST = ("error", "failed", "skipped", "passed")  # of set-up, test and tear-down of one test


def commit() -> str:
    """The commit, with a digest of what was changed since."""

    def git(*args: str) -> bytes:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True).stdout

    changed = git("diff", "HEAD", "--", ".", f":!{RESULT.relative_to(ROOT)}")
    head = git("rev-parse", "HEAD").decode().strip()
    return f"{head}+{hashlib.sha256(changed).hexdigest()[:12]}" if changed else head


def read() -> dict[str, Any]:
    """What was kept at this commit; nothing of another one."""
    now = commit()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if kept.get("commit") == now:
        return dict(kept)
    machine = {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"commit": now, "began": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "tests": {}}


KEPT = read()
DONE = {name for name, test in KEPT["tests"].items() if test["outcome"] in ("passed", "skipped")}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    again = [item for item in items if item.nodeid in DONE]
    items[:] = [item for item in items if item.nodeid not in DONE]
    config.hook.pytest_deselected(items=again)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that started the workers writes
    outcome = "error" if report.failed and report.when != "call" else report.outcome
    found = KEPT["tests"].get(report.nodeid) if report.when != "setup" else None
    before = found or {"outcome": "passed", "seconds": 0.0}
    worst = min(outcome, before["outcome"], key=WORST_FIRST.index)
    KEPT["tests"][report.nodeid] = {"outcome": worst, "seconds": round(before["seconds"] + report.duration, 1)}
    KEPT["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps(KEPT, indent=1, sort_keys=True) + "\n"
    RESULT.with_suffix(".part").write_text(text, encoding="utf-8")
    RESULT.with_suffix(".part").replace(RESULT)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and DONE:
        session.exitstatus = pytest.ExitCode.OK
