from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fct.errors import BadInput, LockHeld
from registry import lock
from registry.lock import Lease, hold, holder_of, now_here

ROOT = Path(__file__).parents[3]

HOLD = """
import time
from fct.errors import LockHeld
from registry.lock import hold
print("ready", flush=True)
sys.stdin.readline()
try:
    with hold(sys.argv[1], "embedder", "ana: upgrade 2", lease_s=float(sys.argv[2])) as held:
        print("held", held.token, flush=True)
        sys.stdin.readline()
except LockHeld:
    print("refused", flush=True)
    sys.stdin.readline()
"""


def script(*arguments: object) -> subprocess.Popen[str]:
    lines = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{HOLD}"
    process = subprocess.Popen(
        [sys.executable, "-c", lines, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert said(process) == "ready"
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def until(what: Callable[[], bool]) -> None:
    """Wait for it; that it never comes is found after minutes, on whatever machine."""
    end = time.monotonic() + 600
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.lock")
    return path


def leave(folder: Path, **changes: object) -> Lease:
    """A lease left behind in ``folder``, as if another process had been cut off."""
    with hold(folder, "embedder", "eve: promote 3", lease_s=60):
        lease = holder_of(folder, "embedder")
        assert lease
    left = replace(lease, **changes)  # type: ignore[arg-type]
    the_file(folder).write_text(json.dumps(asdict(left)))
    return left


def test_a_second_holder_is_told_who_what_for_and_since_when(tmp_path: Path) -> None:
    with hold(tmp_path, "embedder", "ana: promote 2"):
        lease = holder_of(tmp_path, "embedder")
        with pytest.raises(LockHeld) as caught, hold(tmp_path, "embedder", "bob: upgrade 3"):
            pytest.fail("two holders")
        assert lease and lease.pid == os.getpid()
        for part in ("ana: promote 2", f"process {os.getpid()} on {lease.host}", "since 20", "lease of 60 s", "wait for it"):
            assert part in str(caught.value)
    assert holder_of(tmp_path, "embedder") is None


def test_a_released_lock_is_free_at_once_and_its_number_grows(tmp_path: Path) -> None:
    tokens = []
    for _ in range(4):
        with hold(tmp_path, "embedder", "ana", lease_s=60) as held:
            tokens.append(held.token)
            held.check()
    assert tokens == [1, 2, 3, 4] and len(list(tmp_path.iterdir())) == 1


def test_an_error_inside_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path, "embedder", "ana"):
        _ = 1 / 0
    with hold(tmp_path, "embedder", "bob"):
        pass


def test_models_do_not_block_each_other_whatever_their_names(tmp_path: Path) -> None:
    names = ["a", "a.0000001", "a/b", "a b", "..", "ä"]
    holds = [hold(tmp_path, name, "ana") for name in names]
    for one in holds:
        assert one.__enter__().token == 1
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))
    for one in holds:
        one.__exit__(None, None, None)


def test_the_lease_is_renewed_while_the_lock_is_held(tmp_path: Path) -> None:
    with hold(tmp_path, "embedder", "ana", lease_s=2) as held:
        first = holder_of(tmp_path, "embedder")
        until(lambda: first is not None and now_here() > first.beat_at + first.lease_s)
        with pytest.raises(LockHeld), hold(tmp_path, "embedder", "bob"):
            pytest.fail("two holders")
        held.check()


@pytest.mark.parametrize("collected", [True, False])
def test_a_killed_holder_on_this_machine_is_taken_over_at_once(tmp_path: Path, collected: bool) -> None:
    process = script(tmp_path, 600)
    tell(process)
    assert said(process) == "held 1" and holder_of(tmp_path, "embedder")
    process.send_signal(signal.SIGKILL)
    if collected:
        process.wait(timeout=600)
    until(lambda: holder_of(tmp_path, "embedder") is None)
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == 2
    process.communicate(timeout=600)


def test_a_reused_process_number_is_not_taken_for_the_holder(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say when a process started")
    left = leave(tmp_path, started="1")
    assert left.pid == os.getpid()
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == left.token + 1


ELSEWHERE = {"host": "elsewhere", "machine": "another boot", "clock": "another clock", "pid": 2**22 + 1}


@pytest.mark.parametrize("clock", [0.0, 1e11])
def test_a_lease_of_another_host_is_over_when_its_count_stood_still_whatever_its_clock_says(tmp_path: Path, clock: float) -> None:
    left = leave(tmp_path, **ELSEWHERE, lease_s=0.2, since=clock, beat_at=clock)
    begun = time.monotonic()
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == 2 and time.monotonic() - begun >= left.lease_s


@pytest.mark.parametrize("clock", [0.0, 1e11])
def test_a_living_holder_on_another_host_is_seen_to_live(tmp_path: Path, clock: float, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leave(tmp_path, **ELSEWHERE, lease_s=600, since=clock, beat_at=clock)

    count = itertools.count(1)

    def beats(_: float) -> None:
        the_file(tmp_path).write_text(json.dumps(asdict(replace(left, beat=left.beat + next(count)))))

    monkeypatch.setattr(time, "sleep", beats)
    with pytest.raises(LockHeld, match="eve: promote 3"), hold(tmp_path, "embedder", "bob"):
        pytest.fail("two holders")
    lease = holder_of(tmp_path, "embedder")
    assert lease and lease.holder == "eve: promote 3"


def test_a_lease_of_another_container_under_one_kernel_is_compared_with_the_clock_they_share(tmp_path: Path) -> None:
    left = leave(tmp_path, pid=2**22 + 1, machine="another container", lease_s=600)
    with pytest.raises(LockHeld, match="eve: promote 3"), hold(tmp_path, "embedder", "bob"):
        pytest.fail("two holders")
    the_file(tmp_path).write_text(json.dumps(asdict(replace(left, beat_at=now_here() - 600))))
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == 2


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(tmp_path, "embedder", "ana", lease_s=600) as held:
        now = time.time()
        for set_to in (now + 1e9, now - 1e9):
            monkeypatch.setattr(time, "time", lambda set_to=set_to: set_to)
            with pytest.raises(LockHeld), hold(tmp_path, "embedder", "bob"):
                pytest.fail("two holders")
            held.check()


def test_a_lease_of_earlier_code_is_watched(tmp_path: Path) -> None:
    left = asdict(leave(tmp_path, **ELSEWHERE))
    for name in ("beat", "beat_at", "clock", "lease_s"):
        del left[name]
    the_file(tmp_path).write_text(json.dumps(left | {"until": 1.0, "released": True}))
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == 2
    the_file(tmp_path).write_text(json.dumps(left | {"token": 2, "until": 1.0}))
    assert (found := lock._read(tmp_path, "embedder", 2)) and (found.beat, found.lease_s, found.clock) == (1.0, 60.0, "")


def test_a_paused_holder_learns_that_it_was_taken_over_and_does_no_harm(tmp_path: Path) -> None:
    process = script(tmp_path, 0.3)
    tell(process)
    assert said(process) == "held 1"
    process.send_signal(signal.SIGSTOP)
    until(lambda: holder_of(tmp_path, "embedder") is None)
    with hold(tmp_path, "embedder", "bob: upgrade 3", lease_s=60) as held:
        process.send_signal(signal.SIGCONT)
        tell(process)  # the old holder leaves its block while the new one is inside
        process.communicate(timeout=600)
        assert the_file(tmp_path).name == "embedder.0000002.lock", "the old holder writes no more"
        held.check()
        lease = holder_of(tmp_path, "embedder")
        assert lease and lease.holder == "bob: upgrade 3"


def test_a_number_that_was_tidied_away_meanwhile_is_not_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(tmp_path, "embedder", "first"):
        pass
    others = [hold(tmp_path, "embedder", "second"), hold(tmp_path, "embedder", "third")]
    link = os.link

    def late(*arguments: str) -> None:
        monkeypatch.setattr(os, "link", link)
        assert others[0].__enter__().token == 2
        others[0].__exit__(None, None, None)
        assert others[1].__enter__().token == 3  # tidies the number 2 away, which is free again now
        link(*arguments)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(LockHeld, match="third"), hold(tmp_path, "embedder", "late"):
        pytest.fail("two holders")
    assert the_file(tmp_path).name == "embedder.0000003.lock"
    others[1].__exit__(None, None, None)


def test_check_says_who_took_over(tmp_path: Path) -> None:
    with hold(tmp_path, "embedder", "ana", lease_s=60) as held:
        lease = holder_of(tmp_path, "embedder")
        assert lease
        later = replace(lease, token=2, holder="bob: upgrade 3")
        (tmp_path / the_file(tmp_path).name.replace("0000001", "0000002")).write_text(json.dumps(asdict(later)))
        with pytest.raises(LockHeld, match="taken over .*bob: upgrade 3"):
            held.check()
    after = holder_of(tmp_path, "embedder")
    assert after and after.holder == "bob: upgrade 3", "leaving the block must not release another's lock"


def test_a_damaged_lock_file_does_not_block_for_ever(tmp_path: Path) -> None:
    leave(tmp_path)
    the_file(tmp_path).write_text("")
    with hold(tmp_path, "embedder", "bob") as held:
        assert held.token == 2


def test_a_lease_written_by_a_later_version_is_understood(tmp_path: Path) -> None:
    left = leave(tmp_path)
    the_file(tmp_path).write_text(json.dumps({**asdict(left), "colour": "blue"}))
    with pytest.raises(LockHeld), hold(tmp_path, "embedder", "bob"):
        pytest.fail("two holders")


def test_a_lease_without_length_is_bad_input(tmp_path: Path) -> None:
    for name, lease_s in (("embedder", 0.0), ("embedder", float("nan")), ("", 1.0)):
        with pytest.raises(BadInput), hold(tmp_path, name, "ana", lease_s=lease_s):
            pytest.fail("held")
    assert list(tmp_path.iterdir()) == []


def test_of_four_processes_exactly_one_holds(tmp_path: Path) -> None:
    leave(tmp_path, beat_at=now_here() - 60)  # all four see a lease that ran out
    racers = [script(tmp_path, 60) for _ in range(4)]
    for racer in racers:
        tell(racer)
    assert sorted(map(said, racers)) == ["held 2"] + ["refused"] * 3
    for racer in racers:
        racer.communicate("go\n", timeout=600)


def test_many_threads_are_never_two_inside(tmp_path: Path) -> None:
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        while entered < 40:
            try:
                with hold(tmp_path, "embedder", "thread"):
                    inside += 1
                    most = max(most, inside)
                    entered += 1
                    time.sleep(0.001)
                    inside -= 1
            except LockHeld:
                time.sleep(0.0005)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and entered >= 40
    assert not list(tmp_path.glob(".*")), "no leftovers"
