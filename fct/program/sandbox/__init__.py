"""Programs of releases that nobody has approved run in a process of their own, that can compute and nothing else.

One process for the whole command. It gets the program's records and images by sockets and gives φ and ψ back; it has no secrets in its
environment, opens no file, no connection and no other process (:mod:`fct.program.sandbox.seal`; what of that the kernel offers is said by
:func:`in_force`), and is ended where it takes too long or too much memory. What comes back is checked like any input.
Once a release has served its digest is the proof, and its program runs in the process that asks.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct.errors import BadInput, NotPermitted, OperationFailed, printable
from fct.program.sandbox import wire

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PARTS = ("files", "network", "processes")  # what a sealed process has not got
START_S = 900.0  # for importing torch, on a slow and busy machine
LONGEST_S, LONGEST_S_AN_IMAGE = 120.0, 20.0  # for one call of a program
SHARE = 0.5  # of this machine's memory
LOOK_S = 0.1
MOST_DIMENSIONS = 1 << 20
# variables that change what torch computes, or where it finds its libraries; everything else stays here
KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
)
KEPT_KINDS = ("OMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_", "TORCH_", "CUDA_", "NVIDIA_", "GOMP_")

_refuse = False
_now: dict[bool, _Process] = {}  # for a GPU, and for the CPU
_starting = threading.Lock()


def insist(on: bool) -> None:
    """Whether programs that nobody has approved are refused where the kernel cannot seal their process (``program.unapproved: refuse``)."""
    global _refuse
    _refuse = on


def in_force() -> dict[str, bool]:
    """Part of :data:`PARTS` → whether a sealed process on this machine was seen to be without it. Starts one where none runs.

    Raises:
        OperationFailed: no process can be started.
    """
    return dict(_process().in_force)


def used() -> list[str] | None:
    """What the programs that ran sealed in this process had not got; None where none ran so."""
    ran = list(_now.values())
    return [part for part in PARTS if all(process.in_force.get(part) for process in ran)] if ran else None


def opened() -> list[str]:
    """Files that sealed processes of this process tried to open; a program that only computes opens none."""
    return list(_opened)


_opened: list[str] = []


def load(path: str | Path, device: torch.device | None = None) -> Sealed:
    """As :func:`fct.program.programs.load`, but the program is read, checked and run in a process of its own.

    Raises:
        BadInput: as there. NotPermitted: the kernel cannot seal a process, and params.yaml wants that. OperationFailed: none can be started.
    """
    from fct.program import operators
    from fct.program.records import checked_records

    records = checked_records(Path(path))
    process = _process(gpu=device is not None and device.type == "cuda")
    lacking = [part for part in PARTS if not process.in_force[part]]
    if lacking and _refuse:
        raise NotPermitted(
            f"this machine cannot keep a program from {', '.join(lacking)}, and nobody has approved this one",
            where=path,
            todo="use a Linux kernel with Landlock or user namespaces, and libseccomp, or set program.unapproved to sandbox in params.yaml",
        )
    asked = {"do": "load", "device": str(device or "cpu"), "operators": sorted(operators.admitted()), "names": list(records)}
    said, _ = process.ask(asked, list(records.values()), START_S)
    if "refused" in said:
        what, got, todo = (str(said.get(key) or "") for key in ("refused", "got", "todo"))
        raise BadInput(f"the program holds {what}", got=got, where=path, todo=todo or "export it anew")
    return Sealed(process, int(said["program"]))


class Sealed:
    """A program in a sealed process: (N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8, on the CPU. Threads may share it.

    Raises:
        BadInput: the program failed, took too long or too much memory, or what came back is no φ and ψ.
    """

    def __init__(self, process: _Process, number: int):
        self._process, self._number = process, number

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        import numpy as np
        import torch

        pixels = images.detach().cpu().contiguous().numpy()
        asked = {"do": "run", "program": self._number, "shape": list(pixels.shape), "threads": torch.get_num_threads()}
        n = len(pixels)
        said, blocks = self._process.ask(asked, [pixels.tobytes()], LONGEST_S + n * LONGEST_S_AN_IMAGE, outputs=n)
        if "failed" in said:
            raise BadInput("the program failed on these images", got=str(said["failed"])[:300])
        phi, psi = np.frombuffer(blocks[0], dtype=np.float32), np.frombuffer(blocks[1], dtype=np.int8)
        return torch.from_numpy(phi.reshape(n, said["phi"]).copy()), torch.from_numpy(psi.reshape(n, said["psi"]).copy())


def _process(*, gpu: bool = False) -> _Process:
    with _starting:
        found = _now.get(gpu)
        if found is None or not found.alive():
            found = _now[gpu] = _Process(gpu)
            lacking = [part for part in PARTS if not found.in_force[part]]
            if lacking:
                print(f"this machine cannot keep a program that nobody has approved from: {', '.join(lacking)}", file=sys.stderr)
        return found


class _Process:
    """The other side: :mod:`fct.program.sandbox.child`, and a socket for each of its threads."""

    def __init__(self, gpu: bool) -> None:
        from fct.device import cores, memory

        pairs = [socket.socketpair() for _ in range(cores())]
        self._why = ""  # it was ended
        self.in_force: dict[str, bool] = {}
        self._idle: queue.Queue[socket.socket] = queue.Queue()
        environment = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_KINDS)}
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would start threads before the process is sealed
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            numbers = [str(theirs.fileno()) for _, theirs in pairs]
            self._child = subprocess.Popen(
                [sys.executable, "-m", "fct.program.sandbox.child", *numbers],
                env=environment,
                cwd=Path(__file__).parents[3],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno() for _, theirs in pairs],
                start_new_session=True,  # Ctrl-C ends this process, and with it that one
            )
        except OSError as error:
            raise OperationFailed("a process for the program cannot be started", got=error.strerror) from error
        finally:
            for _, theirs in pairs:
                theirs.close()
        for ours, _ in pairs:
            self._idle.put(ours)
        self._most = round(SHARE * memory())
        threading.Thread(target=self._watch, name="look at a program's memory", daemon=True).start()
        said, _ = self.ask({"do": "seal", "gpu": gpu}, [], START_S)
        self.in_force = {part: said.get(part) is True for part in PARTS}

    def alive(self) -> bool:
        return not self._why and self._child.poll() is None

    def ask(
        self, asked: dict[str, Any], blocks: list[bytes], within_s: float, outputs: int | None = None
    ) -> tuple[dict[str, Any], list[bytes]]:
        """One question to one of its threads, and the answer.

        Args:
            outputs: N where the answer carries φ and ψ of N images.

        Raises:
            BadInput: it was ended, or answers nonsense. OperationFailed: it did not come up.
        """
        with self._thread() as talking:
            talking.settimeout(within_s)
            try:
                wire.send(talking, asked, blocks)
                said = wire.receive_header(talking)
                if asked["do"] == "load" and "refused" not in said:
                    wire.number(said, "program")
                sizes = []
                if outputs is not None and "failed" not in said:
                    d, p = wire.number(said, "phi"), wire.number(said, "psi")
                    if not (0 <= d <= MOST_DIMENSIONS and 0 <= p <= MOST_DIMENSIONS):
                        raise wire.Nonsense(f"{d} and {p} dimensions")
                    sizes = [4 * outputs * d, outputs * p]
                found = [wire.receive(talking, size) for size in sizes]
            except TimeoutError as error:
                self._end(f"it took more than {within_s:g} s")
                raise self._ended() from error
            except (OSError, EOFError) as error:
                time.sleep(2 * LOOK_S)  # so that who ended it can say why
                raise self._ended() from error
            except wire.Nonsense as error:
                self._end(f"its process answered nonsense: {error}")
                raise self._ended() from error
            tried = said.get("opened")
            _opened.extend(str(path)[:1000] for path in (tried[:100] if isinstance(tried, list) else ()))
            return said, found

    @contextmanager
    def _thread(self) -> Iterator[socket.socket]:
        talking = self._idle.get()
        try:
            yield talking
        finally:
            self._idle.put(talking)

    def _ended(self) -> Exception:
        if self._why:
            return BadInput("the program was ended", got=self._why)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        self._log.seek(0)
        lines = self._log.read()[-2000:].decode(errors="replace").strip().splitlines()
        said = printable(f"exit code {self._child.returncode}" + (f", {lines[-1]}" if lines else ""))[:300]
        self._end(f"its process has ended by itself ({said})")
        if self.in_force:
            return BadInput("the program was ended", got=self._why)
        return OperationFailed("the process that runs programs which nobody has approved does not start", got=said)

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self._child.kill()
        self._child.wait()

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
        while self._child.poll() is None:
            with suppress(OSError, ValueError, IndexError):
                taken = page * int(Path(f"/proc/{self._child.pid}/statm").read_text().split()[1])
                if taken > self._most:
                    self._end(f"it took more than {self._most / 1024**3:.1f} GiB of memory, half of what there is")
            time.sleep(LOOK_S)
