"""The commands on large files, as a user types them: ``python -m benchmarks.scale [--only NAME] [--rows 1000000]``.

Made vectors of known classes; nothing here says how good an h is, only what a command takes. Seconds are of the whole command, imports
included; memory is the peak of its process. Results go to benchmarks/results/scale.json, one entry a command, the others are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/scale.json"
CLASSES, BLOCK = 1000, 50_000


def make(folder: Path, rows: int, **dims: int) -> None:
    """``labels.npy`` and one ``NAME.npy`` (rows, dim) float32 a name: all see the same meaning, each through its own map and noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % CLASSES
    np.save(folder / "labels.npy", labels)
    centres = rng.normal(size=(CLASSES, 48)).astype(np.float32)
    maps = {name: rng.normal(size=(48, dim)).astype(np.float32) / 7 for name, dim in dims.items()}
    files = {name: open_memmap(folder / f"{name}.npy", "w+", np.float32, (rows, dim)) for name, dim in dims.items()}
    for at in tqdm(range(0, rows, BLOCK), desc="making vectors"):
        block = labels[at : at + BLOCK]
        meaning = centres[block] + rng.normal(size=(len(block), 48)).astype(np.float32)
        for name, file in files.items():
            file[at : at + BLOCK] = np.tanh(meaning @ maps[name]) + 0.1 * rng.normal(size=(len(block), dims[name])).astype(np.float32)


def head(folder: Path) -> None:
    """``head.safetensors`` of the new model: the mean of every class."""
    from safetensors.numpy import save_file

    new, labels = np.load(folder / "new.npy"), np.load(folder / "labels.npy")
    weight = np.stack([new[labels == one].mean(axis=0) for one in range(CLASSES)]).astype(np.float32)
    save_file({"weight": weight, "bias": np.zeros(CLASSES, dtype=np.float32)}, folder / "head.safetensors")


def take(folder: Path, name: str, rows: int, to: str) -> None:
    np.save(folder / f"{to}.npy", np.load(folder / f"{name}.npy", mmap_mode="r")[:rows])


def fit_50000(folder: Path, _: int) -> list[str]:
    make(folder, 50_000, old=128, side=128, new=128)
    head(folder)
    words = "fit --old old.npy --side side.npy --new new.npy --labels labels.npy --head head.safetensors --out h --json"
    return [f"{words} --method fastfill-pool", f"{words} --method auto".replace("--out h ", "--out a ")]


def million(folder: Path, rows: int) -> list[str]:
    make(folder, rows, old=64, side=64, new=64)
    return [
        "fit --old old.npy --side side.npy --new new.npy --labels labels.npy --method ridge --out h --json",
        "transform --forward h --old old.npy --side side.npy --out carried.npy --sigma sigma.npy",
    ]


def evaluate(folder: Path, rows: int) -> list[str]:
    make(folder, rows, new=64)
    for name in ("new", "labels"):
        take(folder, name, 10_000, f"q-{name}")
    return ["evaluate --query q-new.npy --gallery new.npy --query-labels q-labels.npy --gallery-labels labels.npy --json"]


def wide(folder: Path, _: int) -> list[str]:
    make(folder, 20_000, old=4096, new=4096)
    return [
        "fit --old old.npy --new new.npy --method procrustes --out h --json",
        "transform --forward h --old old.npy --out carried.npy",
    ]


def trial(folder: Path, _: int) -> list[str]:
    make(folder, 20_000, old=384, new=384)
    return ["try --old old.npy --new new.npy --labels labels.npy --out page.html --json"]


PARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "fit 50,000 × 128 + 128": fit_50000,
    "1,000,000 × 64": million,
    "evaluate 10,000 × 1,000,000 × 64": evaluate,
    "4,096 dimensions": wide,
    "try 20,000 × 384": trial,
}


def timed(command: list[str], folder: Path) -> dict[str, Any]:
    """Run one ``fct`` command in ``folder``. Exits where it fails."""
    started = time.perf_counter()
    with open(folder / "out", "w") as out:
        process = subprocess.Popen([Path(sys.executable).parent / "fct", *command], cwd=folder, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"bench: `fct {' '.join(command)}` ended with {os.waitstatus_to_exitcode(status)}")
    said = (folder / "out").read_text()
    found = json.loads(said) if said.startswith("{") else {}
    return {
        "command": "fct " + " ".join(command),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    } | {key: found[key] for key in ("method", "top1", "mAP", "n_queries", "n_gallery") if key in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"parts whose name contains this: {'; '.join(PARTS)}")
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the place of a million")
    options = parser.parse_args()
    from fct.arrays.files import read_json, write_json

    known = read_json(OUT)["commands"] if OUT.exists() else {}
    for name, prepare in PARTS.items():
        if options.only in name:
            with tempfile.TemporaryDirectory() as folder:
                known[name] = [timed(command.split(), Path(folder)) for command in prepare(Path(folder), options.rows)]
            print(json.dumps({name: known[name]}, indent=2, ensure_ascii=False))
            if options.rows == 1_000_000:
                write_json(OUT, {"machine": {"processor": platform.machine(), "cores": os.cpu_count()}, "commands": known})
    return 0


if __name__ == "__main__":
    sys.exit(main())
