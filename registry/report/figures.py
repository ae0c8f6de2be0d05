"""The charts of the report as inline SVG: no fonts, scripts or addresses from elsewhere, the same bytes for the same numbers.

Charts are drawn in stand-in colours that are then replaced by CSS variables of the page, so that they follow light and dark.
No text of a user enters a chart (classes are numbered and named in a table beside it). Legend: G gallery rows.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from fct.sample.evaluation import ROWS
from registry.report.review import NAMES, POPULATIONS, interval, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
OLD, CARRIED, NEW, WARM = "#0a0b05", "#0a0b06", "#0a0b07", "#0a0b08"
VARIABLES = {INK: "ink", SOFT: "soft", GRID: "grid", PAPER: "paper", OLD: "old", CARRIED: "carried", NEW: "new", WARM: "warm"}
COLOURS = {"oo": OLD, "nh": CARRIED, "nn": NEW}
LINES = {"shipped": (CARRIED, "-", 2.2), "random": (OLD, "-", 2.2), "oracle": (NEW, (0, (4, 3)), 1.4)}
NUMBERED = 5  # classes of the scatter that carry a number
BINS = 40


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, apart from pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _svg(figure: Figure, name: str, words: str) -> str:
    """The figure as an ``<svg>`` element with a spoken description."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"fct-{name}", "svg.fonttype": "none", "svg.id": None}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # its selector * would reach the whole page
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # figure_1, axes_1 … would occur once a chart
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # inline SVG in HTML needs none
    text = text.replace("xlink:href", "href").replace("'DejaVu Sans'", "system-ui, sans-serif")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    head = re.search(r'viewBox="[^"]*"', text)
    assert head is not None  # every matplotlib SVG has one
    body = text[text.index(">") + 1 :]
    return f'<svg {head[0]} role="img" aria-label="{words}" stroke-linejoin="round">{body}'.strip()


def _bare(axes: Axes, *, grid: str) -> None:
    """Axes in the page's colours: no box, a quiet grid."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=SOFT, length=0, labelsize=9)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def recovery(metrics: dict[str, Any]) -> str:
    """old/old, new/h(old), new/new with their intervals: one panel a population, top-1 and mAP in each. Empty without metrics."""
    populations = [p for p in POPULATIONS if p in metrics]
    if not populations:
        return ""
    figure = _figure(9.6, 3.3)
    for axes, population in zip(np.atleast_1d(figure.subplots(1, len(populations))), populations, strict=True):
        table = metrics[population]
        _bare(axes, grid="x")
        ticks, words = [], []
        for block, name in enumerate(("top1", "mAP")):
            for line, (row, _) in enumerate(ROWS.items()):
                y = block * 3.9 + line
                value, lower, upper = (table[row][name][key] for key in ("value", "lower", "upper"))
                axes.barh(y, value, height=0.78, color=COLOURS[row], linewidth=0)
                # a halo first: the whisker must show on a bar of its colour
                for colour, width in ((PAPER, 3.6), (INK, 1.4)) if None not in (lower, upper) else ():
                    axes.plot([lower, upper], [y, y], color=colour, linewidth=width)
                    axes.vlines([lower, upper], y - 0.17, y + 0.17, color=colour, linewidth=width)
                axes.text(
                    max(value if upper is None else upper, value) + 0.018, y, number(value), va="center", ha="left", fontsize=9, color=INK
                )
            ticks.append(block * 3.9 + 1)
            words.append(f"{NAMES[name]}\nρ {number(table['recovered'][name]['value'], 2)}")
        axes.set_yticks(ticks, words)
        axes.tick_params(axis="y", labelcolor=INK, pad=6)
        axes.set_ylim(6.6, -0.7)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_title(f"{POPULATIONS[population]} · {table['oo']['top1']['n']:,} queries", loc="left", fontsize=10.5, color=INK, pad=10)
    words_aloud = "; ".join(
        f"{POPULATIONS[p]}, {label}: top-1 {interval(metrics[p][row]['top1'])}, mAP {interval(metrics[p][row]['mAP'])}"
        for p in populations
        for row, label in ROWS.items()
    )
    return _svg(figure, "recovery", f"Recovery. {words_aloud}")


def classes(rows: list[dict[str, Any]]) -> str:
    """Top-1 of each class under old/old (across) and new/h(old) (up); the first :data:`NUMBERED` that lose carry their number.

    Args:
        rows: of :func:`registry.report.review.per_class`, those that lose most first.
    """
    figure = _figure(4.9, 4.6)
    axes = figure.subplots()
    _bare(axes, grid="both")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for population, colour in (("known", CARRIED), ("unseen", WARM)):
        chosen = [row for row in rows if row["population"] == population]
        across, up = [row["oo"] for row in chosen], [row["nh"] for row in chosen]
        axes.scatter(
            across, up, s=[14 + 4 * min(row["n"], 30) for row in chosen], color=colour, alpha=0.5, linewidths=0.8, edgecolors=PAPER
        )
    taken: dict[tuple[float, float], list[str]] = {}
    for count, row in enumerate((row for row in rows[:NUMBERED] if row["nh"] < row["oo"]), start=1):
        taken.setdefault((row["oo"], row["nh"]), []).append(str(count))
    for place, names in taken.items():
        axes.annotate(", ".join(names), place, xytext=(7, -9), textcoords="offset points", fontsize=9, color=INK, fontweight="bold")
    axes.set_xlim(-0.04, 1.06)
    axes.set_ylim(-0.04, 1.06)
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_xlabel("top-1 old/old (today)", color=SOFT, fontsize=9.5)
    axes.set_ylabel("top-1 new/h(old)", color=SOFT, fontsize=9.5)
    axes.text(0.03, 0.97, "better", color=SOFT, fontsize=9, va="top")
    axes.text(0.97, 0.03, "worse", color=SOFT, fontsize=9, ha="right")
    worse = sum(row["nh"] < row["oo"] for row in rows)
    return _svg(figure, "classes", f"Top-1 per class: {len(rows)} classes, {worse} of them below the diagonal (worse than today)")


def uncertainty(sigma: np.ndarray, far: np.ndarray | None) -> str:
    """Histogram of the predicted σ of the gallery rows that have one, those beyond coverage in another colour. Empty if none has.

    Args:
        sigma: (G,) float, not finite where none is predicted. far: (G,) bool or None.
    """
    known = np.isfinite(sigma)
    if not known.any():
        return ""
    outside = far[known] if far is not None else np.zeros(int(known.sum()), dtype=bool)
    values = sigma[known].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    inside, beyond = (np.histogram(values[mask], edges)[0] for mask in (~outside, outside))
    figure = _figure(9.6, 2.6)
    axes = figure.subplots()
    _bare(axes, grid="y")
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], inside, width * 0.92, align="edge", color=CARRIED, linewidth=0)
    axes.bar(edges[:-1], beyond, width * 0.92, align="edge", bottom=inside, color=WARM, linewidth=0)
    axes.set_xlabel("predicted σ of a gallery item", color=SOFT, fontsize=9.5)
    axes.set_ylabel("items", color=SOFT, fontsize=9.5)
    return _svg(
        figure,
        "uncertainty",
        f"Uncertainty of {len(values)} gallery items, from {number(low)} to {number(high)}, {int(outside.sum())} of them beyond coverage",
    )


def backfilling(curves: dict[str, dict[str, np.ndarray]]) -> str:
    """M(β) in the shipped, a random (mean of several) and the oracle's order: one column a population, top-1 above mAP. Empty without curves.

    Args:
        curves: population → ``shipped_mAP`` … (S,), of :func:`registry.report.review.curves`.
    """
    populations = [p for p in POPULATIONS if p in curves]
    if not populations:
        return ""
    figure = _figure(9.6, 4.9)
    grid = figure.subplots(2, len(populations), sharex=True, squeeze=False)
    for column, population in enumerate(populations):
        for line, name in enumerate(("top1", "mAP")):
            axes = grid[line, column]
            _bare(axes, grid="both")
            drawn = {order: curves[population][f"{order}_{name}"] for order in LINES}
            for order, (colour, dashes, width) in reversed(LINES.items()):
                beta = np.linspace(0, 1, len(drawn[order]))
                axes.plot(beta, drawn[order], color=colour, linestyle=dashes, linewidth=width, solid_capstyle="round")
            ends = drawn["shipped"][[0, -1]]
            axes.plot([0, 1], ends, linestyle="none", marker="o", markersize=5, color=CARRIED, markeredgecolor=PAPER)
            low, high = min(v.min() for v in drawn.values()), max(v.max() for v in drawn.values())
            room = max(0.15 * (high - low), 0.01)
            axes.set_ylim(low - room, high + room)
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
            axes.yaxis.set_major_formatter(lambda value, _: number(value))
            axes.set_ylabel(NAMES[name], color=SOFT, fontsize=9.5)
            if line == 0:
                axes.set_title(POPULATIONS[population], loc="left", fontsize=10.5, color=INK, pad=10)
            else:
                axes.set_xlabel("β: part of the gallery embedded again", color=SOFT, fontsize=9.5)
    words = "; ".join(
        f"{POPULATIONS[p]}, {NAMES[name]}, {order} order: from {number(float(c[0]))} to {number(float(c[-1]))}, mean {number(float(c.mean()))}"
        for p in populations
        for name in ("top1", "mAP")
        for order in LINES
        for c in [curves[p][f"{order}_{name}"]]
    )
    return _svg(figure, "backfilling", f"Backfilling curves. {words}")
