"""Make RESULTS.md, a page for each data set and the figures from the recorded rows: ``python -m benchmarks.quality.results [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.quality import rows
from benchmarks.quality.lab import ROOT
from benchmarks.quality.pages import dataset, figures, front
from benchmarks.quality.pages.tables import DATA

FIGURES = ROOT / "docs/results"


def pages(found: list[rows.Row]) -> dict[Path, str]:
    """The text of every page, by its path."""
    return {ROOT / "RESULTS.md": front.page(found)} | {FIGURES / f"{data}.md": dataset.page(found, data) for data in DATA}


def old(made: dict[Path, str]) -> list[str]:
    """The pages that are not what the rows give."""
    return [
        path.relative_to(ROOT).as_posix() for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write pages and figures, or with ``--check`` say which pages are not what the rows give (exit 1 where one is not)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is not what the rows give")
    options = parser.parse_args()
    found = rows.load(rows.ROWS)
    made = pages(found)
    if options.check:
        stale = old(made)
        print(
            f"{', '.join(stale)}: not what the rows give; run: make results" if stale else "all pages are what the rows give",
            file=sys.stderr,
        )
        return 1 if stale else 0
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    figures.draw(found, FIGURES)
    print(f"{len(made)} pages and the figures in {FIGURES.relative_to(ROOT)}, from {len(found)} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
