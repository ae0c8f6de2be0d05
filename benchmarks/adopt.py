"""A gallery of 100,000 vectors from elsewhere: planned, adopted, upgraded, promoted, searched: ``python -m benchmarks.adopt``, after ``make demo``.

The foreign gallery is what the demo's version 1 says of random views of its gallery images; pairs are what versions 1 and 2 say of the
images that h may be fitted and judged on. The project that adopts them has vectors, labels and version 2, and not one image. Every
command runs in a process of its own, as people run it. Results go to benchmarks/results/adopt.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from fct.arrays import vectors
from fct.arrays.files import write_json
from fct.datasets.images import read_images
from fct.datasets.manifest import Manifest, read_manifest
from fct.device import pick
from fct.embedder import augment
from fct.program import programs
from fct.release.examining import open_release
from fct.release.folder import Release

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/adopt.json"
LABELLED = ("fitting", "validation", "validation_unseen")
POOL_VIEWS = 4
BOUNDS = {  # some 500 queries, side-information without a preview: what such a team could ask for
    "recovered_top1": 0.1,
    "recovered_mAP": 0.1,
    "unseen_tolerance": 0.1,
    "worst_class_tolerance": 0.2,
    "coverage_most": 0.3,
    "negative_flips": 0.2,
    "subgroup_tolerance": 0.2,
    "dip_tolerance": 0.05,
    "order_margin": 1.0,
    "beats_linear": -1.0,
    "threshold_shift": 0.1,
}


def seen(release: Release, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return programs.embed(release.program(), images.numpy(), device=pick("cpu"), batch=512)


def images_of(rows: Manifest) -> torch.Tensor:
    return torch.from_numpy(read_images(rows.files, 32, "L"))


def foreign(out: Path, count: int) -> None:
    """gallery.npy, ids.txt, side.npy; old.npy, new.npy, pairs-side.npy, labels.txt."""
    manifest, generator = read_manifest(ROOT / "build/data"), torch.Generator().manual_seed(0)
    old, new = (open_release(ROOT / "build/releases" / name) for name in ("v1", "v2"))
    gallery = manifest.rows("gallery", "gallery_unseen")
    images, phi, psi, ids = images_of(gallery), [], [], []
    for view in range(-(-count // len(images))):
        one, two = seen(old, augment.views(images, generator) if view else images)
        phi.append(one)
        psi.append(two)
        ids += [f"{name}#{view}" for name in gallery.id.tolist()]
    np.save(out / "gallery.npy", np.concatenate(phi)[:count])
    np.save(out / "side.npy", np.concatenate(psi)[:count])
    (out / "ids.txt").write_text("\n".join(ids[:count]) + "\n", encoding="utf-8")
    labelled, pool = manifest.rows(*LABELLED), manifest.rows("pool", "train")  # version 2 knows `train` by heart: no judge
    blocks, labels = [images_of(labelled)], labelled.label.tolist()
    for view in range(POOL_VIEWS):
        block = images_of(pool)
        blocks.append(augment.views(block, generator) if view else block)
        labels += [""] * len(pool)
    everything = torch.cat(blocks)
    first, codes = seen(old, everything)
    for name, array in (("old", first), ("pairs-side", codes), ("new", seen(new, everything)[0])):
        vectors.save(out / f"{name}.npy", array)
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    shutil.copy(gallery.files[0], out / "query.png")


def fct(folder: Path, *args: str) -> tuple[float, str]:
    """Seconds and output of a command; ends the benchmark where it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    started = time.perf_counter()
    ran = subprocess.run([sys.executable, "-m", "flows.cli", *args], cwd=folder, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - started
    print(f"{took:7.1f} s  fct {' '.join(Path(one).name for one in args)}", flush=True)
    if ran.returncode:
        sys.exit(ran.stdout + ran.stderr)
    return took, ran.stdout


def life(folder: Path, out: Path) -> dict[str, Any]:
    took: dict[str, float] = {}
    pairs = ("--pairs", str(out / "old.npy"), str(out / "new.npy"), "--labels", str(out / "labels.txt"))
    sides = ("--side", str(out / "side.npy"), "--pairs-side", str(out / "pairs-side.npy"))
    took["adopt"], _ = fct(folder, "adopt", str(out / "gallery.npy"), "--as", "v1", "--ids", str(out / "ids.txt"), *pairs, *sides)
    took["upgrade to 1"], _ = fct(folder, "upgrade", "1")
    fct(folder, "approve", "1", "--by", "bench", "--why", "adopted")
    took["promote 1"], _ = fct(folder, "promote", "1")
    took["plan"], text = fct(folder, "plan", str(ROOT / "build/releases/v2"), "--json")
    planned = json.loads(text)
    fct(folder, "register", str(ROOT / "build/releases/v2"))
    took["upgrade to 2"], _ = fct(folder, "upgrade", "2")
    verdict = json.loads((folder / "workspace/upgrades/foreign-v2/verdict/verdict.json").read_text(encoding="utf-8"))
    for gate in verdict["gates"]:
        if gate["outcome"] not in ("passed", "not applicable"):
            print(
                f"  {gate['gate']} {gate['subject']}: {gate['outcome']} {gate['value']} [{gate['lower']}, {gate['upper']}] {gate['note']}"
            )
    fct(folder, "approve", "2", "--by", "bench", "--why", "better")
    took["promote 2"], _ = fct(folder, "promote", "2")
    took["search"], _ = fct(folder, "search", str(out / "query.png"))
    costs = json.loads((folder / "workspace/upgrades/foreign-v2/costs.json").read_text(encoding="utf-8"))
    return {
        "took_s": {name: round(value, 1) for name, value in took.items()},
        "planned_s": planned["seconds"],
        "plan_over_took": round(planned["seconds"] / took["upgrade to 2"], 2),
        "planned_steps": planned["steps"],
        "planned_disk_mb": round(planned["disk"] / 1e6),
        "outcome": verdict["outcome"],
        "metrics": verdict["metrics"],
        "costs": costs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "project", Path(place) / "foreign"
        folder.mkdir()
        out.mkdir()
        foreign(out, rows)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | {"model": "foreign"}
        params["validate"] |= BOUNDS
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        result = life(folder, out)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
    write_json(OUT, {"rows": rows, "machine": machine} | result)
    print(f"planned {result['planned_s']:.0f} s, took {result['took_s']['upgrade to 2']:.0f} s: {result['plan_over_took']}")


if __name__ == "__main__":
    main()
