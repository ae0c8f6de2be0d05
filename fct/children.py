"""Processes that we start use our interpreter and our ``fct``, and end when we end.

Three things hold the second promise, because each alone has a hole: an interruption is handed on (:func:`run`; not where we are
killed), the kernel tells a process that its parent has died (Linux, and only what we start ourselves), and a process of ours that
works for another one looks whether that one lives (:func:`watch`; a stage that DVC started, a run that the worker started).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from concurrent.futures import Executor

OWNER = "FCT_OWNER"  # in the environment of what we start: our number and when we started
LOOK_S = 0.5
END_S = 30.0  # for clean-ups, before the kernel ends what is left
PARENT_DEATH = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def environment() -> dict[str, str]:
    """The environment of a process that works for this one: it finds this interpreter and this ``fct``, wherever PATH points."""
    import sysconfig

    beside = Path(sys.executable).parent  # of a virtual environment, with or without its activation
    places = [beside, Path(sysconfig.get_path("scripts")), Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))]
    ours = next((place for place in places if (place / "fct").exists()), beside)
    folders = [str(ours), *([str(beside)] if beside != ours else []), os.environ.get("PATH", os.defpath)]
    me = os.getpid()
    # SHELL: DVC starts stages with the user's own, whose start files may put another folder first
    return {**os.environ, "PATH": os.pathsep.join(folders), "SHELL": "/bin/sh", OWNER: f"{me}:{process_started(me)}"}


def run(
    command: Sequence[str], *, cwd: Path | None = None, more: Mapping[str, str] | None = None, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a session of its own; whatever ends this process ends it, too.

    Args:
        more: variables besides :func:`environment`. capture: keep what it writes, in ``stdout`` and ``stderr`` of the result.

    Raises:
        OSError: it cannot be started.
    """
    import subprocess

    with _begun(command, cwd, more, subprocess.PIPE if capture else None) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextmanager
def beside(
    command: Sequence[str], log: Path, *, cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """As :func:`run`, but beside the block, at whose end it is over: what still runs then is ended. What it writes goes to ``log``.

    Raises:
        OSError: it cannot be started.
    """
    with open(log, "w", encoding="utf-8") as file, _begun(command, cwd, more, file) as process:
        started = process_started(process.pid)
        try:
            yield process
        finally:
            if process.poll() is None:
                end(process.pid, started, signal.SIGINT)
                process.wait()


@contextmanager
def _begun(
    command: Sequence[str], cwd: Path | None, more: Mapping[str, str] | None, out: int | IO[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    import subprocess

    process = subprocess.Popen(
        command, cwd=cwd, env=environment() | dict(more or {}), stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True,
        start_new_session=True, preexec_fn=_tie(),
    )  # fmt: skip
    started = process_started(process.pid)
    try:
        yield process
    except BaseException:
        end(process.pid, started, signal.SIGINT)  # as Ctrl-C in a terminal: what every program is prepared for
        process.wait()
        raise


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """Processes for work that lets no other thread of its process go on; they end with this one, and pieces nobody waits for are not begun.

    What they are given and return is pickled. A program that uses them begins below ``if __name__ == "__main__"``.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(count, get_context("spawn"), _work_for, (os.getpid(), process_started(os.getpid())))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _work_for(owner: int, started: str) -> None:
    """How a worker begins: an interruption is its owner's matter, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_look, args=([(owner, started)],), name="look at the owner", daemon=True).start()


def _tie() -> Any:
    """What a new process does before its program begins: ask the kernel for Ctrl-C when its parent, the thread that starts it, dies."""
    parent, prctl = os.getpid(), None
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.PyDLL(None).prctl  # found here: between fork and exec nothing may be loaded

    def tie() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        if prctl is not None:
            prctl(PARENT_DEATH, signal.SIGINT)
            if os.getppid() != parent:
                os._exit(130)

    return tie


def interruptible() -> None:
    """From now on SIGTERM and SIGHUP end this process as Ctrl-C does, with its clean-ups; a second one does not disturb these."""

    def interrupt(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores SIGHUP
                signal.signal(number, interrupt)


def watch() -> None:
    """Let this process end, with its clean-ups, soon after one that it works for has died. Where it works for nobody: nothing."""
    owners = _owners()
    if owners:
        threading.Thread(target=_look, args=(owners,), name="look at the owners", daemon=True).start()


def _look(owners: list[tuple[int, str]]) -> None:
    while all(process_started(pid) == started for pid, started in owners):
        time.sleep(LOOK_S)
    with suppress(OSError, ValueError):
        print("the process that this one works for has ended", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_S)
    os._exit(130)


def _owners() -> list[tuple[int, str]]:
    """Number and start of the processes that this one works for: who set :data:`OWNER`, and the DVC whose stage this is."""
    found = []
    pid, _, started = os.environ.get(OWNER, "").partition(":")
    if pid.isdigit() and int(pid) != os.getpid():
        found.append((int(pid), started))
    if stage := os.environ.get("DVC_STAGE"):
        dvc = _begun_without(f"DVC_STAGE={stage}")
        found.append((dvc, process_started(dvc)))
    return found


def _begun_without(variable: str) -> int:
    """The nearest ancestor that had not got this variable: who set it. Shells may stand between; where /proc is missing, the parent."""
    pid = os.getppid()
    while pid > 1:
        try:
            if variable.encode() not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return pid
    return pid


def members(pid: int, started: str) -> list[int]:
    """Living processes of the session that process ``pid`` began, itself included; -pid, its group, where the system does not say.

    Args:
        started: of that very process (:func:`process_started`): a later one with the same number has another, and no members here.
    """
    if process_started(pid) not in ("gone", started):
        return []
    if not Path("/proc/self/stat").exists():
        with suppress(OSError):
            os.killpg(pid, 0)
            return [-pid]
        return []
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            rest = path.read_text().rpartition(")")[2].split()
            if int(rest[3]) == pid and rest[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


def end(pid: int, started: str, first: signal.Signals = signal.SIGTERM) -> None:
    """``first`` to every process of the session that ``pid`` began, SIGKILL to what is left after :data:`END_S`."""
    begun = time.monotonic()
    send(pid, started, first)
    while members(pid, started) and time.monotonic() - begun < END_S:
        time.sleep(0.1)
    send(pid, started, signal.SIGKILL)


def send(pid: int, started: str, number: signal.Signals) -> None:
    """A signal to every member of a session."""
    for one in members(pid, started):
        with suppress(ProcessLookupError):
            os.kill(one, number)


def process_started(pid: int) -> str:
    """When a process of this machine started, in its own clock's ticks; empty where unknown, ``gone`` for a dead one."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "gone" if rest[0] in "ZX" else rest[19]  # Z: killed, and not yet collected by its parent
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:
        pass
    return ""
