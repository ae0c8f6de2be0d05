"""What ``fct up`` has started on this machine: one JSON file a part, below ``workspace/services``.

:mod:`flows.services` writes them; everything else only reads: with a living MLflow server the commands talk to it, because only a
server sends webhooks.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fct.errors import BadInput
from fct.files import read_json, write_json
from registry.lock import process_started, this_machine

PARTS = ("mlflow", "prefect", "receiver", "worker")


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
    found = {}
    for name in PARTS:
        path = folder_of(workspace) / f"{name}.json"
        if path.exists():
            try:
                said = read_json(path)
                found[name] = Part(**{item.name: said[item.name] for item in fields(Part)})
            except (BadInput, KeyError, TypeError):
                continue
    return found


def url(workspace: Path, name: str) -> str | None:
    """Where a living part answers, else None."""
    part = parts(workspace).get(name)
    return part.url if part is not None and part.alive() else None
