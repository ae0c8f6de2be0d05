"""What ``fct up`` has started on this machine: one JSON file a part, below ``workspace/services``.

:mod:`flows.services` writes them; everything else only reads: with a living MLflow server the commands talk to it, because only a
server sends webhooks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fct.arrays.files import read_json, write_json
from fct.children import members, process_started
from fct.errors import BadInput
from registry.lock import this_machine

PARTS = ("mlflow", "prefect", "receiver", "worker")
TOKEN = "FCT_SERVE_TOKEN"  # the environment variable with the token of `fct serve`, for it and for who asks it
SERVER = "serve"  # `fct serve`, which no `fct up` starts


@dataclass(frozen=True)
class Part:
    """One process that was started: ``url`` where it answers (empty for the worker), ``log`` where it writes.

    ``started``, ``machine`` and ``host`` tell it from a later process with the same number, and from one on another boot or machine.
    """

    name: str
    pid: int
    started: str
    machine: str
    host: str
    url: str
    log: str

    def alive(self) -> bool:
        """Whether that very process still runs here."""
        return self.machine == this_machine() and self.started not in ("", "gone") and process_started(self.pid) == self.started

    def remains(self) -> bool:
        """Whether anything that it began runs here, itself dead or alive."""
        return self.machine == this_machine() and bool(members(self.pid, self.started))


def part_of(name: str, pid: int, url: str, log: Path) -> Part:
    """The record of a process of this machine."""
    return Part(name, pid, process_started(pid), this_machine(), socket.gethostname(), url, str(log))


def elsewhere(workspace: Path) -> str | None:
    """The host where another machine's ``fct up`` has started parts of this workspace, if there is one."""
    return next((part.host for part in parts(workspace).values() if part.host != socket.gethostname()), None)


def folder_of(workspace: Path) -> Path:
    return workspace / "services"


def write(workspace: Path, part: Part) -> None:
    write_json(folder_of(workspace) / f"{part.name}.json", asdict(part))


def forget(workspace: Path, name: str) -> None:
    (folder_of(workspace) / f"{name}.json").unlink(missing_ok=True)


def parts(workspace: Path) -> dict[str, Part]:
    """Name → what was started, dead or alive, in the order of :data:`PARTS`; a damaged file counts as nothing started."""
    found = {name: _part(workspace, name) for name in PARTS}
    return {name: part for name, part in found.items() if part is not None}


def _part(workspace: Path, name: str) -> Part | None:
    try:
        said = read_json(folder_of(workspace) / f"{name}.json")
        return Part(**{item.name: said[item.name] for item in fields(Part)})
    except (BadInput, KeyError, TypeError):
        return None


def server(workspace: Path) -> str | None:
    """Where a living `fct serve` of this machine answers, else None; of several, the one that was started last."""
    part = _part(workspace, SERVER)
    return part.url if part is not None and part.alive() else None


def authorization() -> dict[str, str]:
    """The header that a server with a token wants; empty where the environment has none."""
    token = os.environ.get(TOKEN, "")
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def serving(workspace: Path, url: str) -> Iterator[None]:
    """Let commands find a server that runs in this process."""
    mine = part_of(SERVER, os.getpid(), url, Path())
    write(workspace, mine)
    try:
        yield
    finally:
        if _part(workspace, SERVER) == mine:
            forget(workspace, SERVER)


def url(workspace: Path, name: str) -> str | None:
    """Where a living part answers, else None."""
    part = parts(workspace).get(name)
    return part.url if part is not None and part.alive() else None
