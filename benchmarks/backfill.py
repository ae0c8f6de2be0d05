"""A partial backfill in the shipped order beside random ones: ``python -m benchmarks.backfill [--fraction 0.2]``, after ``make demo``.

On a copy of the demo's workspace version 2 embeds the least certain share of the carried gallery itself, by ``fct backfill``. The queries
of the evaluation sample are asked in the live gallery before and after, and in galleries where as many items, drawn at random, are native.
Differences are paired per query, intervals a bootstrap clustered by class. Results go to benchmarks/results/backfill.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import ROOT, project
from fct import device as devices
from fct.datasets.images import read_images
from fct.program import programs as program
from fct.sample.folder import PairsFolder
from fct.search import metrics, order
from fct.search.intervals import Bootstrap, difference
from registry.items.backfill import backfill
from registry.revisions import history, kept, names
from registry.workspace import open_workspace

OUT = ROOT / "benchmarks/results/backfill.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--fraction", type=float, default=0.2)
    parser.add_argument("--orders", type=int, default=5, help="random orders, averaged")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        workspace = open_workspace(project(Path(place)) / "params.yaml")
        result = measure(workspace, options.fraction, options.orders)
    OUT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2, sort_keys=True))


def measure(workspace: Any, fraction: float, orders: int) -> dict[str, Any]:
    """What ``fraction`` brings, in the shipped order and in random ones."""
    gallery, serving = workspace.gallery, history.serving(workspace.ledger)
    assert serving is not None
    number, space = serving.release, serving.space
    release = kept.opened(workspace, number)
    before, items = gallery.read_space(space), gallery.items()
    keep = np.isin(before.ids, gallery.item_ids(role="item"))
    ids, carried = before.ids[keep], before.vectors[keep]
    at = np.searchsorted(items["id"], ids)
    native, _ = program.embed(
        release.program(), read_images(items["image_uri"][at].tolist(), release.size, release.mode), device=devices.pick("cpu")
    )
    folder = next(path for path in names.steps(workspace, number, "pairs-v*") if path.is_dir())
    sample = PairsFolder(folder).sample()

    def ask(vectors: np.ndarray) -> metrics.PerQuery:
        return metrics.per_query(
            sample.new,
            vectors,
            sample.labels,
            items["label"][at],
            metric=release.metric,
            query_ids=sample.ids,
            gallery_ids=ids,
            query_sources=sample.sources,
            gallery_sources=items["source"][at],
        )

    begun = time.perf_counter()
    done = backfill(workspace, fraction=fraction, by="benchmark", why="measured")
    seconds = time.perf_counter() - begun
    after = gallery.read_space(space)
    found = {"before": ask(carried), "shipped": ask(after.vectors[keep]), "all": ask(native)}
    drawn = []
    for one in order.random_orders(len(ids), orders, 0):
        mixed = carried.copy()
        mixed[one[: done.rows]] = native[one[: done.rows]]
        drawn.append(ask(mixed))
    rows = found["before"].rows
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "items": len(ids),
        "fraction": fraction,
        "backfilled": done.rows,
        "seconds": round(seconds, 1),
        "queries": len(rows),
        "random_orders": orders,
    }
    for name in ("mAP", "top1"):
        values = {key: one.metric(name).astype(float) for key, one in found.items()}
        values["random"] = np.mean([one.metric(name) for one in drawn], axis=0)
        boot = Bootstrap(values, sample.labels[rows], seed=0)
        gained = boot.estimate(difference("shipped", "random"))
        result[name] = {key: round(float(value.mean()), 4) for key, value in values.items()}
        result[name]["shipped_minus_random"] = [round(float(x), 4) for x in (gained.value, gained.lower, gained.upper)]
    return result


if __name__ == "__main__":
    main()
