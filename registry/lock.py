"""One operation per registered model at a time: a lock with a lease that outlives processes.

The lock of a model is a row of numbered files, ``<model>.0000004.lock``; the highest number holds it until its lease runs out, it is
released, or its process is found dead on this machine. Taking it means creating the next number, which only one process can (a hard
link to a file that is already whole). Numbers only grow, so a process that was paused and taken over finds a higher one and knows.
A holder counts up in its file while it lives. A lease is over for an onlooker when it has watched the count stand still for the lease's
length on its own clock; a time that another host wrote is never compared with ours. Processes under one kernel share a clock that no
one sets, so among them a look is enough. The lock saves two processes from doing the same work; what keeps a late one from doing harm is
the ledger's compare-and-swap, that nothing is removed but what an entry names, and that a commit to a table lands on what was there
while the lock was held, or not at all (:meth:`fct.gallery.Gallery.fenced`).
"""

from __future__ import annotations

import json
import os
import re
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

from fct.arrays.files import beside, disk_errors, write_json
from fct.children import process_started
from fct.errors import BadInput, FctError, LockHeld


@dataclass(frozen=True)
class Lease:
    """Who holds a lock: ``token`` is the fencing number, ``since`` is for people: seconds since 1970 (UTC).

    ``machine`` tells boots and containers apart (two containers may share a host name and not their process numbers); ``started`` tells
    apart two processes that had the same ``pid`` one after the other. Both are empty where the system does not say. ``beat`` grows while
    the holder lives, the last time at ``beat_at`` (seconds of :func:`now_here`) of the clock ``clock``.
    """

    token: int
    name: str
    holder: str
    pid: int
    started: str
    host: str
    machine: str
    since: float
    lease_s: float
    beat: float = 0
    beat_at: float = 0.0
    clock: str = ""
    released: bool = False

    def renewed(self) -> Lease:
        return replace(self, beat=self.beat + 1, beat_at=now_here())

    def free(self) -> bool:
        """Whether another process may take the lock without watching it."""
        return self.released or self._dead()

    def _dead(self) -> bool:
        if (self.host, self.machine) != (socket.gethostname(), this_machine()):
            return False
        now = process_started(self.pid)
        return now == "gone" or (bool(now and self.started) and now != self.started)

    def __str__(self) -> str:
        return f"{self.holder} (process {self.pid} on {self.host}, since {_clock(self.since)}, lease of {self.lease_s:g} s)"


class Held:
    """A lock in our hands, renewed by a background thread; ``token`` grows with every holder."""

    def __init__(self, folder: Path, lease: Lease):
        self._folder, self._lease = folder, lease
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
            self._write(self._lease.renewed())
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
        while not self._stop.wait(self._lease.lease_s / 3):
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
            killed on this machine is taken over at once. A holder on another machine is watched until it is seen to live, or for
            its lease.

    Raises:
        LockHeld: another process holds it; the sentence says who, what for and since when.
        BadInput: ``lease_s`` is not positive or ``name`` is empty.
    """
    if not name or not lease_s > 0:
        raise BadInput("a lock needs a name and a positive lease", got=f"name {name!r}, lease_s {lease_s}")
    folder = Path(folder)
    held = Held(folder, _take(folder, name, holder, lease_s))
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
    """The lease in force on ``name``, or None when the lock is free. Reading changes nothing; a holder on another machine is watched."""
    found = _look(Path(folder), name)
    return found if isinstance(found, Lease) else None


def _look(folder: Path, name: str) -> Lease | int:
    """The lease in force; where the lock is free the highest number, which is over for good."""
    while True:
        top = _highest(folder, name)
        lease = _read(folder, name, top)
        if lease is None or lease.free() or _over(folder, lease):
            return top
        now = _read(folder, name, _highest(folder, name))
        if now is not None and not now.free():
            return now


def _over(folder: Path, lease: Lease) -> bool:
    """Whether the lease has run out."""
    if lease.clock and lease.clock == this_clock():
        return now_here() >= lease.beat_at + lease.lease_s
    begun = time.monotonic()
    print(f"watching for up to {lease.lease_s:g} s whether {lease} still works on {lease.name!r}", file=sys.stderr)
    while time.monotonic() - begun < lease.lease_s:
        time.sleep(min(1.0, lease.lease_s / 20))
        if _read(folder, lease.name, _highest(folder, lease.name)) != lease:
            return False
    return True


def _take(folder: Path, name: str, holder: str, lease_s: float) -> Lease:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        top, pid = _look(folder, name), os.getpid()
        if isinstance(top, Lease):
            todo = "wait for it and run the same command again"
            raise LockHeld(f"another process works on {name!r}", got=top, where=folder, todo=todo)
        lease = Lease(top + 1, name, holder, pid, process_started(pid), socket.gethostname(), this_machine(), time.time(), lease_s)
        lease = replace(lease, beat_at=now_here(), clock=this_clock())
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
    part = beside(path, "part")
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
        if "beat" not in value:  # of earlier code, which wrote until when: it is watched
            value |= {"beat": value["until"], "beat_at": 0.0, "clock": "", "lease_s": 60.0}
        return Lease(**{item.name: value[item.name] for item in fields(Lease)})  # keys of a later version do no harm
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def this_machine() -> str:
    """Which running system, and which view of its processes, this is; empty where ``/proc`` does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def this_clock() -> str:
    """Which clock :func:`now_here` reads: processes that say the same may compare its times. Empty where ``/proc`` does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/time")
    except OSError:
        return ""


def now_here() -> float:
    """Seconds since the system was started, in sleep as well: nobody sets this clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
