"""What a step of training costs in float32, in bfloat16 and in what ``auto`` takes: ``python -m benchmarks.precision [--quality]``.

Each is measured in a process of its own, on this machine as it is and with oneDNN capped at AVX2, where bfloat16 is emulated; processor
time, the three in turn, the median of several rounds. A step of h's network (512 rows) and one of what draws a picture again (64 pictures).

``--quality`` fits the shipped h on the pairs of ``build/embed`` (``dvc repro embed``) in both, from three seeds each, and shows mAP and
top-1 of the carried evaluation sample: the two precisions may differ by less than two seeds do. Results go to
benchmarks/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from fct.arrays.files import read_json, write_json

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/precision.json"
PLACES = {"as it is": {}, "ONEDNN_MAX_CPU_ISA=AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
WANTED = ("float32", "bfloat16", "auto")
SEEDS = (0, 1, 2)


def steps(rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time a step, precision by precision, in this process; one torch thread."""
    import numpy as np
    import torch

    from fct import device as devices
    from fct.forward.fitting import fit_network
    from fct.forward.rows import Pairs
    from fct.forward.settings import FitSettings
    from fct.side.picture import fit as fit_drawer

    torch.set_num_threads(1)
    cpu, rng = torch.device("cpu"), np.random.default_rng(0)
    rows = 2048
    old, side, new = (rng.normal(size=(rows, width)).astype(np.float32) for width in (64, 330, 128))
    pairs = Pairs(old, side, new, np.full(rows, -1), np.arange(rows))
    psi = rng.integers(-8, 8, (256, 200)).astype(np.int8)
    ink = rng.random((256, 1, 32, 32), dtype=np.float32)
    weight, bias = torch.zeros(200, 1, 32, 32), torch.zeros(1, 32, 32)
    settings = FitSettings(members=1, uncertainty=False, head_weight=0.0)

    def h(precision: str) -> int:
        fit_network(pairs, None, None, replace(settings, precision=precision, epochs=1), seed=0, device=cpu, title="h")
        return rows // settings.batch

    def drawer(precision: str) -> int:
        fit_drawer(weight, bias, psi, ink, epochs=1, seed=0, device=cpu, title="drawing", precision=precision)
        return len(psi) // 64

    found: dict[str, Any] = {}
    for name, run in (("h", h), ("drawer", drawer)):
        each: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for wanted in WANTED:
                if each[wanted] and each[wanted][0] > 5 * each["float32"][0]:
                    continue  # emulated: once shows it
                begun = time.process_time()
                count = run(wanted)
                each[wanted].append(1000 * (time.process_time() - begun) / count)
        best = {wanted: median(values) for wanted, values in each.items()}
        found[name] = best | {"auto / faster": best["auto"] / min(best["float32"], best["bfloat16"])}
    return found | {
        "auto is": devices.precision("auto", cpu),
        "probe alone says": ["float32", "bfloat16"][devices._faster_in_bfloat16(cpu)],
    }


def quality() -> dict[str, Any]:
    """Top-1 and mAP of new/h(old) on the evaluation sample, both precisions, seed by seed."""
    from fct.release.examining import open_release
    from fct.sample import evaluation
    from fct.sample.folder import PairsFolder
    from registry.params import read
    from registry.upgrades.fitting import fit_pairs

    folder, settings = ROOT / "build/embed", read(ROOT / "params.yaml")
    sample, new = PairsFolder(folder).sample(), open_release(ROOT / "build/releases/v2", check=False)
    table: dict[str, Any] = defaultdict(dict)
    for precision in ("float32", "bfloat16"):
        for seed in SEEDS:
            fit = replace(settings.fit, precision=precision)
            h = fit_pairs(folder, new.head(), fit, seed=seed, device="cpu", title=f"{precision}, seed {seed}")
            found = evaluation.search(sample, sample.new, h.transform(sample.old, sample.side)[0], new.metric)
            for population in ("known", "unseen"):
                rows = sample.populations[found.rows] == population
                for metric in ("top1", "mAP"):
                    values = table[f"{population} {metric}"].setdefault(precision, [])
                    values.append(round(float(found.metric(metric)[rows].mean()), 5))
    for row in table.values():
        row["difference of means"] = round(mean(row["bfloat16"]) - mean(row["float32"]), 5)
        row["widest between seeds"] = round(max(max(row[p]) - min(row[p]) for p in ("float32", "bfloat16")), 5)
    return dict(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quality", action="store_true", help="fit h in both precisions, three seeds each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)  # what a process of its own is asked
    given = parser.parse_args()
    if given.steps:
        print(json.dumps(steps(given.rounds)))
        return
    results: dict[str, Any] = read_json(OUT) if OUT.exists() else {}
    results["machine"] = {"processor": platform.machine(), "cores": os.cpu_count()}
    if given.quality:
        results["quality"] = quality()
        for name, row in results["quality"].items():
            print(f"{name:<14} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    else:
        results["steps"] = {}
        for place, more in PLACES.items():
            command = [sys.executable, "-m", "benchmarks.precision", "--steps", "--rounds", str(given.rounds)]
            ran = subprocess.run(
                command, cwd=ROOT, env=os.environ | more | {"TQDM_DISABLE": "1"}, stdout=subprocess.PIPE, text=True, check=True
            )
            found = results["steps"][place] = json.loads(ran.stdout)
            print(f"{place}: auto is {found['auto is']}, the probe alone says {found['probe alone says']}")
            for name in ("h", "drawer"):
                print(
                    f"  {name:<8}"
                    + "  ".join(f"{key} {value:.2f}" + (" ms" if "/" not in key else "") for key, value in found[name].items())
                )
    write_json(OUT, results)


if __name__ == "__main__":
    main()
