"""Exact evaluation beside pytorch-metric-learning's AccuracyCalculator: ``python -m benchmarks.evaluate [--rows N] [--threads T]``.

10,000 queries × 10,000 gallery rows × 128 dimensions, self-matches excluded, top-1 and mean average precision over all positives, the
same vectors and the same number of threads. Each runs in a process of its own; memory is the peak of the process less what it held
with everything imported and the vectors made. The other one is needed here alone: ``pip install pytorch-metric-learning faiss-cpu``
once, in the environment of the project. Then 1,000 queries × 200,000 rows × 64 from a memory map, ours alone.
Results go to benchmarks/results/evaluate.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/evaluate.json"
DIM, PER_CLASS = 128, 100
LARGE = {"queries": 1000, "rows": 200_000, "dim": 64, "classes": 2000}


def made(rows: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 of norm 1 around one centre a class, (N,) labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    found = rng.normal(size=(classes, dim)).astype(np.float32)[labels] + 2 * rng.normal(size=(rows, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True), labels


def held() -> int:
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What ``run`` gives, with its seconds and the memory it took on top."""
    before, wall, cpu = held(), time.perf_counter(), time.process_time()
    found = run()
    return found | {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_memory_bytes": held() - before,
    }


def ours(rows: int, threads: int) -> dict[str, float]:
    import torch

    from fct.search import metrics

    torch.set_num_threads(threads)
    x, labels = made(rows, DIM, rows // PER_CLASS)
    ids = np.arange(rows)

    def run() -> dict[str, float]:
        found = metrics.per_query(x, x, labels, labels, query_ids=ids, gallery_ids=ids)
        return {"top1": float(found.top(1).mean()), "mAP": float(found.ap.mean())}

    return measured(run)


def peer(rows: int, threads: int) -> dict[str, float]:
    try:
        import faiss
        import pytorch_metric_learning
        import torch
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    except ImportError as error:
        sys.exit(f"bench: {error.name} is missing; pip install pytorch-metric-learning faiss-cpu")
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    x, labels = made(rows, DIM, rows // PER_CLASS)
    judge = AccuracyCalculator(include=("precision_at_1", "mean_average_precision"), k=None, device=torch.device("cpu"))

    def run() -> dict[str, float]:
        found = judge.get_accuracy(x, labels)  # one set is query and gallery: it drops self-matches
        return {"top1": found["precision_at_1"], "mAP": found["mean_average_precision"]}

    return measured(run) | {"version": pytorch_metric_learning.__version__}


def large(_: int, threads: int) -> dict[str, float]:
    import torch

    from fct.arrays import vectors
    from fct.search import metrics

    torch.set_num_threads(threads)
    x, labels = made(LARGE["rows"] + LARGE["queries"], LARGE["dim"], LARGE["classes"])
    with tempfile.TemporaryDirectory() as folder:
        vectors.save(Path(folder) / "g.npy", x[LARGE["queries"] :])
        query = x[: LARGE["queries"]].copy()
        del x
        gallery = vectors.load(Path(folder) / "g.npy")

        def run() -> dict[str, float]:
            found = metrics.per_query(query, gallery, labels[: len(query)], labels[len(query) :])
            return {"top1": float(found.top(1).mean()), "mAP": float(found.ap.mean())}

        found = measured(run)
    scale = 10_000 * 1_000_000 / (LARGE["queries"] * LARGE["rows"])
    return found | {"minutes_at_10000_by_1000000": found["seconds"] * scale / 60}


PARTS = {"ours": ours, "pytorch_metric_learning": peer, "large": large}


def apart(part: str, rows: int, threads: int) -> dict[str, Any]:
    """Run one of :data:`PARTS` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.evaluate", "--part", part, "--rows", str(rows), "--threads", str(threads)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.rows, given.threads)))
        return 0

    import torch

    from fct.arrays.files import write_json

    found = {part: apart(part, given.rows, given.threads) for part in PARTS}
    mine, other = found["ours"], found["pytorch_metric_learning"]
    result = found | {
        "rows": given.rows,
        "dim": DIM,
        "threads": given.threads,
        "times_faster": other["seconds"] / mine["seconds"],
        "times_faster_cpu": other["cpu_seconds"] / mine["cpu_seconds"],
        "share_of_memory": mine["peak_memory_bytes"] / other["peak_memory_bytes"],
        "largest_difference": max(abs(mine[name] - other[name]) for name in ("top1", "mAP")),
        "large_is": LARGE,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    write_json(OUT, result)
    print(OUT.read_text())
    return 0 if result["times_faster"] >= 5 and result["share_of_memory"] <= 0.1 and result["largest_difference"] < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
