"""Computing rows: which cells, in how many processes, and what a row says."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.quality import rows
from benchmarks.quality.lab import FULL, QUICK, ROOT, TINY, Effort, Lab, locked
from benchmarks.quality.suites import Cell, cells, quick_cells
from fct.errors import FctError

CACHE = ROOT / "build/quality"
SUITES = ("methods", "grid", "backfill", "protocols", "tiny")


@dataclass(frozen=True)
class Plan:
    """What every process of a run must know. ``threads``: torch's, in each."""

    cache: Path
    rows: Path
    folder: str
    device: str
    architecture: str
    size: int
    per_class: int
    threads: int


@lru_cache(maxsize=4)
def lab_of(plan: Plan, data: str, effort: Effort) -> Lab:
    folder = plan.folder or str(ROOT / "build/data")
    return Lab(data, folder, plan.cache, effort, plan.device, plan.architecture, plan.size, plan.per_class)


def effort_of(cell: Cell) -> Effort:
    return {"quick": QUICK, "tiny": TINY}.get(cell.suite, FULL)


def compute(plan: Plan, cell: Cell) -> tuple[str, float]:
    """Compute one cell and record its row, or find it there. Returns what happened, and the seconds."""
    import torch

    from benchmarks.quality.suites import FUNCTIONS

    torch.set_num_threads(plan.threads)
    lab, started = lab_of(plan, cell.data, effort_of(cell)), time.perf_counter()
    digest, kept = cell.digest(lab), rows.find(plan.rows, cell.suite, cell.name)
    if kept and kept["spec_digest"] == digest:
        return "there already", 0.0
    numbers = FUNCTIONS[cell.function](lab, **cell.arguments)
    seconds = time.perf_counter() - started
    with locked(plan.cache / f"rows-{cell.suite}"):  # a suite's rows share a file, and processes finish together
        rows.put(plan.rows, row(plan, cell, lab, digest, numbers, seconds))
    return "computed", seconds


def row(plan: Plan, cell: Cell, lab: Lab, digest: str, numbers: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What is recorded of a cell."""
    import torch

    return {
        "suite": cell.suite,
        "name": cell.name,
        "spec": cell.spec(lab),
        "spec_digest": digest,
        "inputs": {"data": lab.data.digest, "images": {name: len(part.ids) for name, part in lab.data.parts.items()}},
        "numbers": numbers,
        "seconds": round(seconds, 1),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": plan.threads, "device": plan.device},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit(),
        "command": command(plan, cell),
    }


def command(plan: Plan, cell: Cell) -> str:
    """What computes this row, and it alone."""
    what = "--quick" if cell.suite == "quick" else f"--suite {cell.suite}"
    more = f" --folder {Path(plan.folder).name} --architecture {plan.architecture} --size {plan.size}" if plan.folder else ""
    return f"python -m benchmarks.quality {what} --data {cell.data} --only {cell.name}{more}"


def commit() -> str:
    """The commit of the code, with a + where it was changed; ``unknown`` outside of a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", "fct") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def wanted_cells(options: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for."""
    found = quick_cells() if options.quick else [cell for data in options.data.split(",") for cell in cells(data)]
    if options.suite:
        found = [cell for suite in options.suite.split(",") for cell in found if cell.suite == suite]
    return [cell for cell in found if options.only in cell.name]


def run(plan: Plan, chosen: list[Cell], jobs: int) -> int:
    """Compute cells in ``jobs`` processes, those marked ``last`` at the end. Returns how many failed."""
    failed = 0
    for batch in ([cell for cell in chosen if not cell.last], [cell for cell in chosen if cell.last]):
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(compute, plan, cell): cell for cell in batch}
            for number, done in enumerate(as_completed(waiting), start=1):
                cell = waiting[done]
                try:
                    what, seconds = done.result()
                except FctError as error:
                    failed += 1
                    what, seconds = f"failed: {error}", 0.0
                except Exception:
                    failed += 1
                    what, seconds = f"failed:\n{traceback.format_exc()}", 0.0
                print(f"{number}/{len(batch)} {cell.suite}/{cell.name}: {what} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return failed
