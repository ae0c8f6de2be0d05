"""Beside ``fct up`` while it starts parts: when it is killed, what it had started is ended, so that it leaves all of its work or nothing.

    python -m flows.guard WORKSPACE UP STARTED PART…

UP and STARTED: number and start of the process of ``fct up``. The parts are those that it starts. Once all work, ``up`` ends its guard.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fct import children
from fct.errors import LockHeld
from registry import lock, running


def end(workspace: Path, names: list[str]) -> list[str]:
    """End the recorded parts of these names, last first, and forget them. Returns the names of what was ended."""
    ended = []
    for name, part in reversed(running.parts(workspace).items()):
        if name not in names:
            continue
        if part.remains():
            children.end(part.pid, part.started)
            ended.append(name)
        running.forget(workspace, name)
    return ended


def main(workspace: Path, up: int, started: str, names: list[str]) -> None:
    """Wait until ``up`` has ended by itself."""
    while children.process_started(up) == started:
        time.sleep(children.LOOK_S)
    try:
        with lock.hold(workspace / "locks", "services", "end what a killed `fct up` began", lease_s=60):
            end(workspace, names)
    except LockHeld:  # another `up` or `down` is at work already; what is recorded is its business now
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
