"""Compute rows: ``python -m benchmarks.quality [--suite NAME] [--data icons] [--quick] [--jobs 2] [--list]``.

A row that is recorded with the same spec is not computed again, and everything on the way to it is kept in ``build/quality``, so that
an interrupted run goes on where it was. The paper's own sizes, on a GPU machine with torch, torchvision, numpy, safetensors, tqdm and
matplotlib alone:

    python -m benchmarks.quality --data folder --folder /data/imagenet --architecture resnet50 --size 224 --per-class 200 --device cuda
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.quality import rows
from benchmarks.quality.runner import CACHE, SUITES, Plan, run, wanted_cells
from fct.errors import FctError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--suite", default="", help=f"one or more of {', '.join(SUITES)}, with commas; default: all")
    parser.add_argument("--data", default="icons,digits", help="icons, digits, glyphs, emoji, folder or torchvision:NAME?root=/path")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a few rows of small effort, below build/quality/quick")
    parser.add_argument("--list", action="store_true", help="print the rows and what is there of them")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in each process")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--folder", default="", help="the icons' prepared data (build/data), or root/class/image for --data folder")
    parser.add_argument("--architecture", default="", help="of both versions, in the place of the small ones")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--per-class", type=int, default=0, help="most images of a class in each split of --data folder")
    options = parser.parse_args(arguments)
    folder = CACHE / "quick/rows" if options.quick else rows.ROWS
    cache = CACHE / "quick" if options.quick else CACHE
    plan = Plan(
        cache, folder, options.folder, options.device, options.architecture, options.size, options.per_class, options.threads
    )  # fmt: skip
    try:
        chosen = wanted_cells(options)
        if options.list:
            there = {(row["suite"], row["name"]) for row in rows.load(folder)}
            for cell in chosen:
                print(f"{cell.suite}/{cell.name}\t{'there' if (cell.suite, cell.name) in there else '-'}")
            return 0
        return 1 if run(plan, chosen, options.jobs) else 0
    except FctError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
