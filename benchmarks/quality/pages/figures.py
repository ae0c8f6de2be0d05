"""The two pictures, as SVG without a date, so that the same rows give the same bytes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.quality.pages.tables import BYTES, DATA, OWN, PART, POPULATIONS, WORLDS
from benchmarks.quality.rows import Row, by_name


def draw(rows: list[Row], folder: Path) -> None:
    """Write bytes.svg and backfill.svg."""
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "results", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    folder.mkdir(parents=True, exist_ok=True)
    _bytes(rows, folder / "bytes.svg")
    _curves(rows, folder / "backfill.svg")


def _bytes(rows: list[Row], path: Path) -> None:
    """ρ mAP over the bytes of ψ."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharey=True, layout="constrained")
    names = {"shipped": "C0", "ridge + ψ + preview + pool": "C1", "thumbnail of equal bytes": "C2"}
    for axis, (v1, population) in zip(axes, [(v, p) for v in WORLDS for p in POPULATIONS], strict=True):
        for name, colour in names.items():
            points = []
            for size in BYTES:
                row = by_name(rows, "grid", f"icons-{v1}-summary-{size}")
                if row:
                    points.append((size, *row["numbers"][PART][population]["rows"][name]["ρ mAP"]))
            sizes, value, lower, upper = zip(*points, strict=True)
            axis.plot(sizes, value, "o-", color=colour, label=name, markersize=3)
            axis.fill_between(sizes, lower, upper, color=colour, alpha=0.15, linewidth=0)
        axis.set(
            title=f"{v1} v1, {population} classes",
            xlabel="bytes an item",
            xscale="log",
            xticks=BYTES,
            xticklabels=BYTES,
        )
        axis.minorticks_off()
        axis.axhline(1, color="0.6", linewidth=0.8)
    axes[0].set_ylabel("ρ mAP")
    axes[-1].legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _curves(rows: list[Row], path: Path) -> None:
    """mAP over the part of the gallery that is native."""
    drawn = [data for data in DATA if any(row["suite"] == "backfill" and row["name"].startswith(f"{data}-") for row in rows)]
    figure, grid = plt.subplots(len(drawn), 4, figsize=(13, 3 * len(drawn)), layout="constrained", squeeze=False)
    for line, data in zip(grid, drawn, strict=True):
        for axis, (v1, population) in zip(line, [(v, p) for v in WORLDS for p in POPULATIONS], strict=True):
            for recipe, colour in (("shipped", "C0"), ("fastfill", "C3"), ("fct", "C4")):
                row = by_name(rows, "backfill", f"{data}-{v1}-{recipe}")
                if row is None or population not in row["numbers"][PART]:
                    continue
                for order, style in ((OWN[recipe], "-"), ("random", ":")):
                    curve = row["numbers"][PART][population]["orders"][order]["curve"]["mAP"]
                    axis.plot(row["numbers"]["beta"], curve, style, color=colour, label=f"{recipe}, {order}")
            axis.set(title=f"{data}, {v1} v1, {population}", xlabel="β, part of the gallery that is native", ylabel="mAP")
            axis.set_visible(axis.has_data())
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
