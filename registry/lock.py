"""One operation per registered model at a time: a lock with a lease that outlives processes.

The lock of a model is a row of numbered files, ``<model>.0000004.lock``; the highest number holds it until its lease runs out, it is
released, or its process is found dead on this machine. Taking it means creating the next number, which only one process can (a hard
link to a file that is already whole). Numbers only grow, so a process that was paused and taken over finds a higher one and knows.
Leases are wall-clock times: hosts that share the folder need clocks that agree to well within a lease. The lock saves two processes
from doing the same work; what keeps a late one from doing harm is the ledger's compare-and-swap.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from fct.children import process_started
from fct.errors import BadInput, FctError, LockHeld
from fct.files import disk_errors, write_json


@dataclass(frozen=True)
class Lease:
    """Who holds a lock: ``token`` is the fencing number, ``since`` and ``until`` are seconds since 1970 (UTC).

    ``machine`` tells boots and containers apart (two containers may share a host name and not their process numbers); ``started`` tells
    apart two processes that had the same ``pid`` one after the other. Both are empty where the system does not say.
    """

    token: int
    name: str
    holder: str
    pid: int
    started: str
    host: str
    machine: str
    since: float
    until: float
    released: bool = False

    def free(self, now: float) -> bool:
        """Whether another process may take the lock."""
        return self.released or now >= self.until or self._dead()

    def _dead(self) -> bool:
        if (self.host, self.machine) != (socket.gethostname(), this_machine()):
            return False
        now = process_started(self.pid)
        return now == "gone" or (bool(now and self.started) and now != self.started)

    def __str__(self) -> str:
        return f"{self.holder} (process {self.pid} on {self.host}, since {_clock(self.since)}, lease until {_clock(self.until)})"


class Held:
    """A lock in our hands, renewed by a background thread; ``token`` grows with every holder."""

    def __init__(self, folder: Path, lease: Lease, lease_s: float):
        self._folder, self._lease, self._lease_s = folder, lease, lease_s
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {lease.name}", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        return self._lease.token

    def check(self) -> None:
        """Renew the lease now. Raises :class:`~fct.errors.LockHeld` if another process took the lock over meanwhile."""
        with self._turn:
            self._write(replace(self._lease, until=time.time() + self._lease_s))
            top = _highest(self._folder, self._lease.name)  # after the write: whoever comes later sees the renewed lease
            if top != self.token:
                lease = _read(self._folder, self._lease.name, top)
                message = f"the lock on {self._lease.name!r} was taken over while this process was paused"
                raise LockHeld(message, got=lease, todo="run the same command again: finished work is kept")

    def release(self) -> None:
        """Stop renewing and let others in at once. The file stays: its number must not be given out twice."""
        self._stop.set()
        self._thread.join()
        with self._turn, suppress(FctError, OSError):  # when even this cannot be written the lease runs out by itself
            self._write(replace(self._lease, released=True))

    def _write(self, lease: Lease) -> None:
        if _highest(self._folder, lease.name) <= lease.token:
            write_json(_path(self._folder, lease.name, lease.token), asdict(lease))
            self._lease = lease

    def _keep(self) -> None:
        while not self._stop.wait(self._lease_s / 3):
            try:
                self.check()
            except LockHeld:
                return  # the ledger refuses the late commit; check() tells the owner earlier
            except (FctError, OSError):
                continue  # a full disk may be freed before the lease runs out


@contextmanager
def hold(folder: str | Path, name: str, holder: str, *, lease_s: float = 60.0) -> Iterator[Held]:
    """Hold the lock of the registered model ``name`` inside the block.

    Args:
        folder: where locks live, in the workspace; created.
        holder: who and what for, in words for the one who is refused (``ana: promote 2``).
        lease_s: seconds after which a holder that stopped renewing (killed on another host, or paused) may be taken over. A holder
            killed on this machine is taken over at once.

    Raises:
        LockHeld: another process holds it; the sentence says who, what for, since when and until when.
        BadInput: ``lease_s`` is not positive or ``name`` is empty.
    """
    if not name or not lease_s > 0:
        raise BadInput("a lock needs a name and a positive lease", got=f"name {name!r}, lease_s {lease_s}")
    folder = Path(folder)
    held = Held(folder, _take(folder, name, holder, lease_s), lease_s)
    try:
        yield held
    finally:
        held.release()


@contextmanager
def wait(folder: str | Path, name: str, holder: str, *, lease_s: float = 60.0, patience_s: float = 600.0) -> Iterator[Held]:
    """:func:`hold`, tried again for ``patience_s`` seconds: for locks that are held for moments, where giving up would lose work.

    Raises:
        LockHeld: it is still held by somebody else then.
    """
    end, said = time.monotonic() + patience_s, False
    with ExitStack() as stack:
        while True:
            try:
                held = stack.enter_context(hold(folder, name, holder, lease_s=lease_s))
                break
            except LockHeld as error:
                if time.monotonic() >= end:
                    raise
                if not said:
                    print(f"{error}; waiting up to {patience_s:g} s", file=sys.stderr)
                    said = True
                time.sleep(0.2)
        yield held


def holder_of(folder: str | Path, name: str) -> Lease | None:
    """The lease in force on ``name``, or None when the lock is free. Reading changes nothing."""
    folder = Path(folder)
    lease = _read(folder, name, _highest(folder, name))
    return None if lease is None or lease.free(time.time()) else lease


def _take(folder: Path, name: str, holder: str, lease_s: float) -> Lease:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        top = _highest(folder, name)
        current = _read(folder, name, top)
        now = time.time()
        if current is not None and not current.free(now):
            todo = "wait for it and run the same command again"
            raise LockHeld(f"another process works on {name!r}", got=current, where=folder, todo=todo)
        pid = os.getpid()
        lease = Lease(
            top + 1, name, holder, pid, process_started(pid), socket.gethostname(), this_machine(), since=now, until=now + lease_s
        )
        if not _create(_path(folder, name, lease.token), lease):
            continue  # somebody took this number first: see who
        if _highest(folder, name) != lease.token:
            # Between our look and our link others took, released and tidied away numbers up to ours.
            _path(folder, name, lease.token).unlink(missing_ok=True)
            continue
        for number in _numbers(folder, name):
            if number < lease.token:
                _path(folder, name, number).unlink(missing_ok=True)
        return lease


def _create(path: Path, lease: Lease) -> bool:
    """Give ``path`` its whole content if the name is free; say whether it was."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    with disk_errors(path):
        try:
            part.write_text(json.dumps(asdict(lease), indent=2, sort_keys=True) + "\n", encoding="utf-8")
            os.link(part, path)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
    return True


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{quote(name, safe='')}.{number:07d}.lock"


def _numbers(folder: Path, name: str) -> list[int]:
    pattern = re.compile(re.escape(quote(name, safe="")) + r"\.(\d{7,})\.lock")
    found = map(pattern.fullmatch, os.listdir(folder) if folder.is_dir() else [])
    return sorted(int(match[1]) for match in found if match)


def _highest(folder: Path, name: str) -> int:
    return max(_numbers(folder, name), default=0)


def _read(folder: Path, name: str, number: int) -> Lease | None:
    """The lease in a file; None when it is gone, or damaged by a power cut (then whoever wrote it is gone too)."""
    try:
        value = json.loads(_path(folder, name, number).read_text(encoding="utf-8"))
        return Lease(**{item.name: value[item.name] for item in fields(Lease)})  # keys of a later version do no harm
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def this_machine() -> str:
    """Which running system, and which view of its processes, this is; empty where ``/proc`` does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
