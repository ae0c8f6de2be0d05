"""Costs as ratios in one run on one machine: ``make bench`` (needs ``make demo`` or ``dvc repro`` before).

- h beside the embedder it stands in for: microseconds an item, and the share of the machine's own matrix speed that h reaches
- exact evaluation by counting beside a full sort of every row (the textbook way), on the same vectors

Results go to benchmarks/results/costs.json, with the machine and the versions.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


def best_of(run: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few runs, after one to warm up."""
    run()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return min(found)


def sorted_ap(q: np.ndarray, g: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray) -> float:
    """Mean AP by sorting every row whole; row i of the queries is row i of the gallery and hidden from it."""
    total = 0.0
    for row in range(len(q)):
        scores = g @ q[row]
        scores[row] = -np.inf
        right = (gallery_labels == query_labels[row])[np.argsort(-scores, kind="stable")][:-1]
        places = np.flatnonzero(right) + 1
        total += float((np.arange(1, len(places) + 1) / places).mean())
    return total / len(q)


def h_beside_the_embedder(threads: int) -> dict[str, Any]:
    import torch

    from fct import forward
    from fct.program import programs
    from fct.release.examining import open_release

    h, new = forward.load(ROOT / "build/forward"), open_release(ROOT / "build/releases/v2")
    rows = 4096
    rng = np.random.default_rng(0)
    old, side = rng.normal(size=(rows, h.old_dim)).astype(np.float32), rng.integers(-99, 99, (rows, h.side_dim)).astype(np.int8)
    images = rng.integers(0, 256, (rows, 1 if new.mode == "L" else 3, new.size, new.size), dtype=np.uint8)
    program = new.program()
    transform_s = best_of(lambda: h.transform(old, side))
    native_s = best_of(lambda: programs.embed(program, images, device=torch.device("cpu")))
    square = torch.randn(1024, 1024)
    limit = 2 * 1024**3 / best_of(lambda: square @ square, 20)
    weights = sum(value.numel() for name, value in h.tensors().items() if name.endswith("weight") and value.ndim == 2)
    reached = 2 * weights * rows / transform_s
    return {
        "threads": threads,
        "transform_us_per_item": round(1e6 * transform_s / rows, 1),
        "native_us_per_item": round(1e6 * native_s / rows, 1),
        "transform_to_native": round(transform_s / native_s, 3),
        "h_flop_per_item": 2 * weights,
        "share_of_matrix_speed": round(reached / limit, 3),
    }


def counting_beside_sorting() -> dict[str, Any]:
    from fct.arrays.vectors import normalise
    from fct.search import metrics

    rng = np.random.default_rng(0)
    x, labels = normalise(rng.normal(size=(4000, 128))), rng.integers(0, 200, 4000)
    ids = np.arange(4000).astype(str)
    counting_s = best_of(lambda: metrics.per_query(x, x, labels, labels, query_ids=ids, gallery_ids=ids), 2)
    sorting_s = best_of(lambda: sorted_ap(x, x, labels, labels), 1)
    ap = float(metrics.per_query(x, x, labels, labels, query_ids=ids, gallery_ids=ids).ap.mean())
    return {
        "rows": 4000,
        "counting_s": round(counting_s, 3),
        "sorting_s": round(sorting_s, 3),
        "sorting_to_counting": round(sorting_s / counting_s, 1),
        "largest_difference": abs(ap - sorted_ap(x, x, labels, labels)),
    }


def main() -> int:
    import torch

    from fct.arrays.files import write_json
    from fct.errors import FctError

    torch.set_num_threads(min(2, os.cpu_count() or 1))
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "gpu": torch.cuda.is_available(),
    }
    try:
        result = {"machine": machine, "h": h_beside_the_embedder(torch.get_num_threads()), "evaluation": counting_beside_sorting()}
    except FctError as error:
        print(f"bench: {error}; run `dvc repro` first", file=sys.stderr)
        return 2
    write_json(ROOT / "benchmarks/results/costs.json", result)
    print((ROOT / "benchmarks/results/costs.json").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
