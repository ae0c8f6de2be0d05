"""Programs that nobody has approved: a process of their own, what it cannot do, and what is believed of what it says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fct import release
from fct.children import process_started
from fct.errors import BadInput, NotPermitted
from fct.program import programs, sandbox
from fct.program.sandbox import wire
from fct.release.folder import Release
from tests.end_to_end.conftest import wait_for

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no such kernel")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 6))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(images.float() / 255), (images.flatten(1)[:, :5] // 2).to(torch.int8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 16, 16), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("release") / "r"
    return release.write(folder, Net().eval(), size=16, mode="L", canary_ids=[str(n) for n in range(8)], canary_images=images)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (700, 1, 16, 16), dtype=np.uint8)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes of this test's own, ended with it."""
    own: dict[bool, sandbox._Process] = {}
    monkeypatch.setattr(sandbox, "_now", own)
    yield
    for process in own.values():
        process._end("the test is over")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sealed_program_gives_the_same_bits_as_in_this_process(made: Release, images: np.ndarray, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sealed, own = made.program(), programs.load(made.folder / "program.pt2")
        assert isinstance(sealed, sandbox.Sealed) and not isinstance(own, sandbox.Sealed)
        for batch in (1, 512):
            one, other = (programs.embed(program, images, device=torch.device("cpu"), batch=batch) for program in (sealed, own))
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))
    finally:
        torch.set_num_threads(before)
    assert programs.traced(sealed, images[:8]) is sealed, "a recording would hold the answers"
    assert sandbox.opened() == [], "a program that only computes opens nothing"


def test_once_a_release_has_served_its_bytes_are_the_proof(made: Release, tmp_path: Path) -> None:
    from dataclasses import replace

    folder = shutil.copytree(made.folder, tmp_path / "r")
    approved = replace(release.open_release(folder), approved=lambda digest: digest == made.digest())
    assert not isinstance(approved.program(), sandbox.Sealed)
    data = bytearray((folder / "program.pt2").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "program.pt2").write_bytes(data)
    with pytest.raises(NotPermitted, match="altered"):
        approved.program()


def test_what_no_program_may_hold_is_refused_in_the_same_words(made: Release, tmp_path: Path) -> None:
    import zipfile

    bad = tmp_path / "program.pt2"
    with zipfile.ZipFile(made.folder / "program.pt2") as source, zipfile.ZipFile(bad, "w") as out:
        for info in source.infolist():
            data = source.read(info)
            out.writestr(info.filename, data.replace(b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"))
    with pytest.raises(BadInput) as own:
        programs.load(bad)
    with pytest.raises(BadInput) as sealed:
        sandbox.load(bad)
    assert str(own.value) == str(sealed.value) and "from_file" in str(own.value)


def test_images_that_do_not_fit_are_a_sentence_and_the_process_goes_on(made: Release, images: np.ndarray) -> None:
    program = made.program()
    with pytest.raises(BadInput, match="failed on these images"):
        program(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert program(torch.from_numpy(images[:2]))[0].shape == (2, 6)


def test_a_process_that_is_killed_is_said_and_the_next_program_has_another(made: Release, images: np.ndarray, fresh: None) -> None:
    program = made.program()
    os.kill(sandbox._process()._child.pid, signal.SIGKILL)
    with pytest.raises(BadInput, match=r"ended by itself.*-9"):
        program(torch.from_numpy(images[:2]))
    assert made.program()(torch.from_numpy(images[:2]))[0].shape == (2, 6)


@ON_LINUX
def test_too_much_memory_ends_it(made: Release, images: np.ndarray, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = made.program()
    sandbox._process()._most = 1
    wait_for(lambda: not sandbox._now[False].alive())
    with pytest.raises(BadInput, match="GiB of memory"):
        program(torch.from_numpy(images[:2]))


def test_too_much_time_ends_it(made: Release, images: np.ndarray, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = made.program()
    os.kill(sandbox._process()._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(sandbox, "LONGEST_S", 0.2)
    monkeypatch.setattr(sandbox, "LONGEST_S_AN_IMAGE", 0.0)
    with pytest.raises(BadInput, match=r"more than 0\.2 s"):
        program(torch.from_numpy(images[:2]))


def header(**said: object) -> bytes:
    text = json.dumps(said).encode()
    return wire.LENGTH.pack(len(text)) + text


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xff\xff\xff",
        wire.LENGTH.pack(5) + b"hello",
        wire.LENGTH.pack(2) + b"[]",
        wire.LENGTH.pack(100_000) + b"[" * 100_000,
        header(),
        header(phi=6),
        header(phi="6", psi=5),
        header(phi=True, psi=5),
        header(phi=-1, psi=5),
        header(phi=1 << 40, psi=5),
        header(phi=6, psi=5) + b"too short",
    ],
)
def test_nonsense_from_the_other_side_is_refused(said: bytes, made: Release, images: np.ndarray, fresh: None) -> None:
    program = made.program()
    process = sandbox._process()
    ours, theirs = socket.socketpair()
    while not process._idle.empty():
        process._idle.get().close()
    process._idle.put(ours)
    threading.Thread(target=lambda: (theirs.sendall(said), theirs.shutdown(socket.SHUT_WR)), daemon=True).start()
    with pytest.raises(BadInput, match="ended"):
        program(torch.from_numpy(images[:2]))
    assert not process.alive()


def test_a_question_that_the_other_side_cannot_read_ends_it_at_once(fresh: None) -> None:
    """Whatever a thread of it trips over, nobody waits for its answer."""
    with pytest.raises(BadInput, match="ended by itself"):
        sandbox._process().ask({"do": "load", "names": "x" * (2 << 20)}, [], 30.0)


def test_where_the_kernel_offers_nothing_people_can_insist(made: Release, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made.program()
    sandbox._process().in_force["network"] = False
    made.program()
    monkeypatch.setattr(sandbox, "_refuse", True)
    with pytest.raises(NotPermitted, match=r"keep a program from network.*program\.unapproved"):
        made.program()


def test_no_secret_goes_along(made: Release, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
    made.program()
    there = Path(f"/proc/{sandbox._process()._child.pid}/environ")
    if not there.exists():
        pytest.skip("no /proc here")
    names = {part.split(b"=")[0].decode() for part in there.read_bytes().split(b"\0")}
    assert "PATH" in names and not {name for name in names if "SECRET" in name or "PASSWORD" in name or name == "HOME"}


WAYS = {  # what of the kernel is hidden → what is to be in force all the same
    "landlock": ("", sandbox.PARTS),
    "old-landlock": ("seal._version = lambda libc: 1", sandbox.PARTS),  # no truncation, no TCP: the filter has them
    "namespaces": ("seal._version = lambda libc: -1", sandbox.PARTS),
    "namespaces-alone": ("seal._version = lambda libc: -1; seal._library = lambda: None", ("files", "network")),
    "old-landlock-alone": ("seal._version = lambda libc: 1; seal._library = lambda: None; seal._namespaces = print", ()),
}


def needs(way: str) -> None:
    if way.startswith("namespaces") and (
        not shutil.which("unshare") or subprocess.run(["unshare", "-Urmn", "true"], check=False).returncode
    ):
        pytest.skip("this kernel refuses user namespaces, or unshare is not there to ask it")


ATTEMPTS = """
import ctypes, json, os, resource, socket, subprocess, sys, threading
from fct.program.sandbox import seal
target, port, hidden = sys.argv[1:]
parent = os.getppid()
here = os.open(".", os.O_RDONLY)  # opened before: ways in by another door
mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
exec(hidden)
found = seal.seal()

def connect(kind, how, to):
    with socket.socket(kind, how) as one: one.connect(to)
def fork():
    if os.fork() == 0: os._exit(0)
def thread():
    done = []
    one = threading.Thread(target=lambda: done.append(1)); one.start(); one.join()
    raise OSError if done else SystemError("no thread: torch needs them")
def call(name, *given):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*given, *([0] * (6 - len(given)))) < 0: raise OSError(ctypes.get_errno())
stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
tries = {
    "files": {
        "read": lambda: open(target).read(), "write": lambda: open(target, "a").write("x"), "create": lambda: open(target + "2", "w"),
        "read below an open folder": lambda: os.open("pyproject.toml", os.O_RDONLY, dir_fd=here), "list": lambda: os.listdir("/")[0],
        "list here": lambda: os.listdir(".")[0], "list above": lambda: os.listdir("../..")[0], "stat": lambda: os.stat(target),
        "remove": lambda: os.unlink(target), "link": lambda: os.symlink("/", target + "3"), "rename": lambda: os.rename(target, target + "4"),
        "mkdir": lambda: os.mkdir(target + "5"), "mkdir in the root": lambda: os.mkdir("/x"), "truncate": lambda: os.truncate(target, 0),
        "chmod": lambda: os.chmod(target, 0o777), "pipe": lambda: os.mkfifo(target + "6"), "memory of another": lambda: open(f"/proc/{parent}/mem", "rb"),
        "exec": lambda: os.execv("/bin/false", ["false"]), "mount": lambda: call("mount", b"none", b"/", b"tmpfs"), "chroot": lambda: os.chroot("/"),
        "pivot": lambda: call("pivot_root", b".", b"."), "the mounts before": lambda: call("setns", mounts),
    },
    "network": {
        "tcp": lambda: connect(socket.AF_INET, stream, ("127.0.0.1", int(port))), "udp": lambda: connect(socket.AF_INET, datagram, ("127.0.0.1", 9)),
        "unix": lambda: connect(socket.AF_UNIX, stream, "\\0fct" + port), "unix by path": lambda: connect(socket.AF_UNIX, stream, target + ".socket"),
    },
    "processes": {
        "fork": fork, "run": lambda: subprocess.run(["true"]), "kill": lambda: os.kill(parent, 0), "threads": thread, "pair": lambda: socket.socketpair(),
        "limits of another": lambda: resource.prlimit(parent, resource.RLIMIT_CORE), "memory": lambda: call("process_vm_readv", parent),
        "unshare": lambda: call("unshare"), "memfd": lambda: os.memfd_create("x"), "ptrace": lambda: call("ptrace"),
    },
}
done = {part: [] for part in tries}
for part, attempts in tries.items():
    for name, attempt in attempts.items():
        try:
            attempt()
            done[part].append(name)
        except (OSError, IndexError):
            pass
print("\\n" + json.dumps([found, done]), flush=True)
os._exit(0)
"""


@ON_LINUX
@pytest.mark.parametrize("way", WAYS)
def test_a_sealed_process_can_do_nothing_but_compute(way: str, tmp_path: Path) -> None:
    needs(way)
    target = tmp_path / "target"
    target.write_text("content")
    hidden, expected = WAYS[way]
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as other:
        port = str(tcp.getsockname()[1])
        named.bind("\0fct" + port)
        other.bind(f"{target}.socket")
        named.listen(), other.listen()
        ran = subprocess.run([sys.executable, "-c", ATTEMPTS, str(target), port, hidden], capture_output=True, text=True, check=False)
    if "alone" not in way and not all(sandbox.in_force().values()):
        pytest.skip(f"this kernel offers {sandbox.in_force()}")
    assert ran.returncode == 0, ran.stderr
    found, done = json.loads(ran.stdout.splitlines()[-1])
    assert [part for part in expected if not found[part]] == [], f"not in force: {done}"
    assert {part: tried for part, tried in done.items() if found[part] and tried} == {}, "said to be in force"
    if found["files"]:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "target.socket"] and target.read_text() == "content"


@ON_LINUX
def test_without_landlock_a_program_runs_in_an_empty_root_and_gives_the_same_bits(
    made: Release, images: np.ndarray, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("namespaces")
    hidden, own = WAYS["namespaces"][0], programs.load(made.folder / "program.pt2")
    start = f"import sys; from fct.program.sandbox import child, seal; {hidden}; child.main(sys.argv[1:])"
    starter = tmp_path / "python"
    starter.write_text(f'#!/bin/sh\nshift 2\nexec {shlex.quote(sys.executable)} -c {shlex.quote(start)} "$@"\n')
    starter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(starter))
    one, other = (programs.embed(program, images, device=torch.device("cpu"), batch=512) for program in (made.program(), own))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)) and sandbox.opened() == []
    assert sandbox.used() == list(sandbox.PARTS)
    there = Path(f"/proc/{sandbox._process()._child.pid}")
    assert os.listdir(there / "root") == os.listdir(there / "cwd") == []
    assert all((there / "ns" / one).readlink() != Path("/proc/self/ns", one).readlink() for one in ("user", "mnt", "net", "ipc"))


HELD = """
import sys, time
from fct.program import sandbox
sandbox.in_force()
print(sandbox._process()._child.pid, flush=True)
time.sleep(3600)
"""


def test_it_ends_with_the_process_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        started = process_started(child)
        assert started != "gone"
        parent.kill()
    wait_for(lambda: process_started(child) != started)
