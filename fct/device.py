"""Where torch computes, how precisely, and on how many threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Event, local
from typing import TYPE_CHECKING, TypeVar

from fct.errors import BadInput

if TYPE_CHECKING:
    import torch

Piece = TypeVar("Piece")
Made = TypeVar("Made")

_here = local()

AUTO = "auto"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (AUTO, FLOAT32, BFLOAT16)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
PROBE_S = 0.05  # what a probe may take
WORTH = 1.25  # a probe has noise: bfloat16 must be faster by so much
# oneDNN's names of instruction sets with bfloat16 of their own, as the environment may cap it (ONEDNN_MAX_CPU_ISA)
NATIVE_CAPS = ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10")


def pick(device: str = AUTO) -> torch.device:
    """``auto`` is the first GPU when there is one, else the CPU; anything else is a torch device string.

    Raises:
        BadInput: the device is unknown or not there.
    """
    import torch

    if device == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BadInput("unknown device", wanted="auto, cpu, cuda or cuda:N", got=device) from error
    if chosen.type not in ("cpu", "cuda"):  # torch knows many names of devices that are not there
        raise BadInput("unknown device", wanted="auto, cpu, cuda or cuda:N", got=device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("no GPU is visible to torch", wanted=device, got="cpu only", todo="set device to auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BadInput("there is no such GPU", wanted=device, got=f"{torch.cuda.device_count()} visible", todo="set device to auto or cuda")
    return chosen


def precision(wanted: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16``: what a training on ``device`` computes in.

    ``auto`` is bfloat16 where the device multiplies it by itself, which halves a step. Where it is emulated a step takes ten to twenty
    times as long as in float32, so *supported* is not enough. A device that cannot be asked is probed.

    Raises:
        BadInput: no precision that is known.
    """
    if wanted not in PRECISIONS:
        raise BadInput("unknown precision", wanted=" or ".join(PRECISIONS), got=wanted)
    if wanted != AUTO:
        return wanted
    native = multiplies_bfloat16(device)
    return BFLOAT16 if (_faster_in_bfloat16(device) if native is None else native) else FLOAT32


def multiplies_bfloat16(device: torch.device) -> bool | None:
    """Whether the device has products of bfloat16 of its own; None where it cannot be asked."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # heeds the cap below AVX-512
            return False
        known = [torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()]
    except (AttributeError, RuntimeError):  # another version of torch
        return None
    if not torch.cpu._is_avx2_supported():
        return None  # not an x86 processor: nothing to ask there
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    return any(known) and any(name in cap for name in NATIVE_CAPS)


@cache
def _faster_in_bfloat16(device: torch.device) -> bool:
    """Measure it, in at most :data:`PROBE_S`: one product of a network's size, in both. Once a process."""
    import torch

    end = time.perf_counter() + PROBE_S
    best: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(256, 512, dtype=dtype, device=device)
        b = torch.ones(512, 512, dtype=dtype, device=device)
        for _ in range(8):
            begun = time.perf_counter()
            float((a @ b)[0, 0])  # a GPU has finished when its number is here
            best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - begun)
            if time.perf_counter() > end:
                break
    return best[torch.bfloat16] * WORTH < best[torch.float32]


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its container is given."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on POSIX
        found = 4 * 1024**3
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(place, encoding="ascii") as file:
            found = min(found, int(file.read()))
    return found


def cores() -> int:
    """CPU cores that this process may use: what it is bound to, and what its container is given."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        count = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        pass
    return count


def use_threads(threads: int | str) -> None:
    """Set torch's CPU threads; ``auto``: OMP_NUM_THREADS where the environment has it, else as many as :func:`cores`."""
    import torch

    if threads == AUTO:
        said = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(said) if said.isdecimal() and int(said) > 0 else cores()
    torch.set_num_threads(int(threads))


def keep_memory() -> None:
    """Let this process keep the large blocks that it frees, for the next ones of their size; for processes that end with their work.

    The C library gives blocks of some megabytes back to the system at once. A network's intermediate results are such blocks, and having
    each of them anew, page by page, took a fifth of the time of embedding small images. Where the C library has no such setting, nothing.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def threads() -> int:
    """Torch's CPU threads."""
    import torch

    return torch.get_num_threads()


def gflops() -> float:
    """10⁹ operations a second in products of 2048 × 2048 float32 matrices on torch's threads, the fastest of some: what this machine can do."""
    import torch

    a, b = torch.rand(2, 2048, 2048)
    best = float("inf")
    for _ in range(8):
        begun = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begun)
    return 2 * 2048**3 / best / 1e9


def spread(work: Callable[[Piece], Made], pieces: Iterable[Piece], device: torch.device) -> Iterator[Made]:
    """``work`` of each piece, in their order: on a CPU as many at a time as torch has threads, with one thread each.

    The threads of one operator wait for each other. Beside another process small operators then take up to thirty times as long, and
    pieces that need not wait take twice as long at most. Besides, a piece comes out the same bits on any number of cores.
    Grad and inference mode are a thread's own: ``work`` sets what it needs.
    """
    import torch

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(work, pieces)
        return
    given_up = Event()

    def begin() -> None:
        torch.set_num_threads(1)
        _here.given_up = given_up

    try:
        with ThreadPoolExecutor(threads, "piece", begin) as pool:
            try:
                yield from pool.map(work, pieces)
            except BaseException:
                given_up.set()  # an interruption must not wait for a training to end
                raise
    finally:
        torch.set_num_threads(threads)  # the pool's number would be that of every later thread


def go_on() -> None:
    """Called by long pieces of :func:`spread` at every step: ends a piece whose result nobody waits for any more."""
    given_up = getattr(_here, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise RuntimeError("the work that this piece belongs to was given up")
