"""Processes that are started end with the one that started them: real ones, small."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fct import children

SAFETY_S = 600.0
PARENT = """
import sys
from pathlib import Path
from fct import children

children.interruptible()
children.watch()
Path("parent").touch()
try:
    children.run([sys.executable, "-c", sys.argv[1]])
except KeyboardInterrupt:
    Path("cleaned").touch()
    sys.exit(130)
"""
CHILD = """
import os, subprocess, sys, time
from pathlib import Path

grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
Path("part").write_text(f"{os.getpid()} {grandchild.pid}")
os.rename("part", "child")
time.sleep(3600)
"""
OWNED = """
import time
from pathlib import Path
from fct import children

children.interruptible()
children.watch()
try:
    Path("owned").touch()
    time.sleep(3600)
except KeyboardInterrupt:
    Path("cleaned").touch()
    raise SystemExit(130)
"""


def until(what: Callable[[], object]) -> None:
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < SAFETY_S
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return children.process_started(pid) == "gone"


def begun(folder: Path, code: str, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = {name: value for name, value in os.environ.items() if name not in (children.OWNER, "DVC_STAGE")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(root)} | variables,
        preexec_fn=as_a_shell_starts,
    )


def as_a_shell_starts() -> None:
    """Where these tests run below `nohup`, or in a script's background, signals are ignored, and that is inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_our_interpreter_and_our_command_come_first_wherever_path_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fct").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = children.environment()["PATH"]
    assert shutil.which("fct", path=found) == str(Path(sys.executable).parent / "fct")
    assert shutil.which(Path(sys.executable).name, path=found) == sys.executable
    monkeypatch.delenv("PATH")
    assert shutil.which("fct", path=children.environment()["PATH"]) is not None


def test_a_command_is_run_to_its_end_and_its_words_are_kept() -> None:
    code = "import os, sys; print(os.environ['FCT_OWNER'].split(':')[0], os.environ['WORD']); sys.exit('no')"
    done = children.run([sys.executable, "-c", code], more={"WORD": "yes"}, capture=True)
    assert (done.returncode, done.stdout.split(), done.stderr.strip()) == (1, [str(os.getpid()), "yes"], "no")
    with pytest.raises(OSError):
        children.run(["/nowhere/at/all"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_signalled_alone_ends_its_child_and_the_childs_child(tmp_path: Path, number: signal.Signals) -> None:
    parent = begun(tmp_path, PARENT, CHILD)
    until((tmp_path / "child").exists)
    pids = [int(word) for word in (tmp_path / "child").read_text().split()]
    parent.send_signal(number)
    if number != signal.SIGINT:
        parent.send_signal(number)  # a second one does not disturb the clean-up; a person may press Ctrl-C twice
    assert parent.wait(SAFETY_S) == 130
    assert all(gone(pid) for pid in pids), "they ended before their parent"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    parent = begun(tmp_path, PARENT, OWNED.replace("children.watch()", ""))
    until((tmp_path / "owned").exists)
    parent.kill()
    parent.wait()
    until((tmp_path / "cleaned").exists)


@pytest.mark.parametrize("known_by", ["its owner's number", "DVC's mark, past a shell"])
def test_who_works_for_another_process_ends_after_it_with_its_clean_ups(tmp_path: Path, known_by: str) -> None:
    (tmp_path / "owned.py").write_text(OWNED)
    if known_by == "its owner's number":
        start = f"subprocess.Popen([{sys.executable!r}, 'owned.py'], env=children.environment()).wait()"
    else:
        words = ["/bin/sh", "-c", f"'{sys.executable}' owned.py; true"]  # the shell stays, as some do anyway
        start = f"subprocess.Popen({words!r}, env={{**os.environ, 'DVC_STAGE': 'train@v1'}}).wait()"
    owner = begun(tmp_path, f"import os, subprocess\nfrom fct import children\n{start}")
    until((tmp_path / "owned").exists)
    owner.kill()
    owner.wait()
    until((tmp_path / "cleaned").exists)


def test_a_later_process_with_the_same_number_has_no_members() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True) as other:
        started = children.process_started(other.pid)
        assert children.members(other.pid, "1") == []
        children.end(other.pid, "1")
        assert children.members(other.pid, started) == [other.pid] and other.poll() is None
        children.end(other.pid, started)
        assert other.wait() == -signal.SIGTERM


def test_what_runs_beside_a_block_ends_with_it_and_is_kept_in_its_log(tmp_path: Path) -> None:
    code = "import os, sys, time; print('out', flush=True); print(os.environ['MORE'], file=sys.stderr, flush=True); time.sleep(3600)"
    log = tmp_path / "log"
    with children.beside([sys.executable, "-c", code], log, more={"MORE": "error"}) as process:
        until(lambda: log.read_text().split() == ["out", "error"])
        assert process.poll() is None
    assert gone(process.pid)
    with children.beside([sys.executable, "-c", "raise SystemExit(7)"], log) as process:
        assert process.wait() == 7


def test_workers_give_results_in_order_and_one_that_fails_says_so() -> None:
    with children.workers(2) as pool:
        assert list(pool.map(divmod, range(5), [2] * 5, chunksize=2)) == [divmod(n, 2) for n in range(5)]
        with pytest.raises(ZeroDivisionError):
            list(pool.map(divmod, [1], [0]))


WORKED = """
import os, time
from multiprocessing import active_children
from pathlib import Path
from fct import children

if __name__ == "__main__":
    with children.workers(2) as pool:
        slow = pool.map(time.sleep, [3600, 3600])
        Path("part").write_text(" ".join(str(one.pid) for one in active_children()))
        os.rename("part", "workers")
        list(slow)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_owner_whatever_ends_it(tmp_path: Path) -> None:
    (tmp_path / "owner.py").write_text(WORKED)
    owner = begun(tmp_path, "import runpy; runpy.run_path('owner.py', run_name='__main__')")
    until((tmp_path / "workers").exists)
    pids = [int(pid) for pid in (tmp_path / "workers").read_text().split()]
    assert len(pids) == 2 and not any(gone(pid) for pid in pids)
    owner.kill()
    owner.wait()
    until(lambda: all(gone(pid) for pid in pids))
