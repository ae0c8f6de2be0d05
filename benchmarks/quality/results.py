"""Assemble RESULTS.md and its figures from the rows: ``python -m benchmarks.quality.results [--check]``. Nothing in them is typed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.lab import ROOT
from fct.arrays.files import read_json

ROWS = ROOT / "benchmarks/results/quality"
PAGE, FIGURES = ROOT / "RESULTS.md", ROOT / "docs/results"
PART = "test"
POPULATIONS = ("known", "unseen")
METRICS = ("top1", "mAP")
DATA = {
    "icons": "icons (line drawings of 32×32 pixels from five packs; cross-pack search)",
    "digits": "digits (scikit-learn's handwritten digits, 8×8 pixels; ten classes, so queries are resampled, not classes)",
    "glyphs": "glyphs (printed characters in 70 typefaces, 32×32 pixels): kept apart until the recipe was fixed; nothing was chosen on it",
    "emoji": "emoji (in colour, by eleven designers, 32×32 pixels; v1 a small ViT that is below raw pixels, v2 a ResNet-18): kept apart like the glyphs",
}
METHOD_FILES = ("references", "closed", "bare", "equal-dims", "fct", "fastfill", "contrastive", "mixed", "bct", "sides", "shipped")
Row = dict[str, Any]

HEAD = """# Results

Assembled from the rows in [benchmarks/results/quality](benchmarks/results/quality) by `make results`; no number here is typed. `python -m benchmarks.quality --list` shows every row,
`python -m benchmarks.quality --suite SUITE --data DATA --only ROW` computes one again. How the methods work: [docs/methods.md](docs/methods.md).

**How to read it.** Search is exact; an item never finds itself, nor items of its own source. *Known*: classes that the new model was trained on; *unseen*: the others; both lie in one gallery.
Numbers are of the **test** sample, `value [lower, upper]`, each bound one-sided 95 % by a bootstrap over classes, paired by query. ρ = (row − old/old) / (new/new − old/old), the share of the gain that comes back;
where the gain is small, ρ is wild, and below zero the carried gallery is worse than the old one. ψ is the stored side-information, 128 bytes an item unless said; *preview* is φ_new of the picture decoded from ψ
(it runs the new model once an item, and reads no image); *pool* are unlabelled pairs of other classes.
"""


def load() -> list[Row]:
    """All rows, by suite and name."""
    return [read_json(path) for path in sorted(ROWS.glob("*/*.json"))]


def number(triple: Sequence[float | None] | None, digits: int = 3, interval: bool = True) -> str:
    """``.512 [.49, .53]``; – where undefined."""
    if triple is None or triple[0] is None:
        return "–"
    text = f"{triple[0]:.{digits}f}".replace("-", "−")
    low, high = ("–∞" if x is None else f"{x:.{digits}f}".replace("-", "−") for x in triple[1:])
    return f"{text} [{low}, {high}]" if interval else text


def grid_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)) + "\n"


def source(rows: Sequence[Row]) -> str:
    """The sentence below a table: commands, commits, seconds, seeds."""
    commands = sorted({row["command"].rsplit(" --only ", 1)[0] for row in rows})
    commits = sorted({row["commit"].rstrip("+") for row in rows})
    names = ", ".join(f"`{row['name']}`" for row in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return f"\n<sub>rows {names}; `{'`, `'.join(commands)}`; commit {', '.join(commits)}; {sum(r['seconds'] for r in rows):.0f} s</sub>\n"


def full(row: Row, names: Iterable[str] | None = None, against: str = "shipped") -> str:
    """Every row of one file: the metrics, ρ, and the shipped h's lead in mAP where it was paired."""
    tables = row["numbers"][PART]
    paired_with = [f"mAP of {against} − it"] if against else []
    head = ["", *(f"{p} {m}" for p in POPULATIONS if p in tables for m in (*METRICS, "ρ top1", "ρ mAP", *paired_with))]
    found = names or list(next(iter(tables.values()))["rows"])
    lines = []
    for name in found:
        line = [name]
        for population in (p for p in POPULATIONS if p in tables):
            measured, paired = tables[population]["rows"][name], tables[population]["differences"].get(f"{against} − {name}", {})
            line += [number(measured.get(m)) for m in METRICS]
            line += [number(measured.get(f"ρ {m}"), 2) for m in METRICS] + [number(paired.get("mAP")) for _ in paired_with]
        lines.append(line)
    return grid_table(head, lines)


def grid_section(rows: list[Row]) -> str:
    """The full grid: one table for every v1, bytes down."""
    summaries = {r["name"]: r for r in rows if r["suite"] == "grid" and "summary" in r["name"]}
    if not summaries:
        return ""
    out = ["## The grid: seeds of embedders × seeds of h × bytes", DATA["icons"] + ".\n"]
    for v1 in ("strong", "weak"):
        lines, used, leads = [], [], []
        for size in (64, 128, 256, 512):
            row = summaries.get(f"icons-{v1}-summary-{size}")
            if row is None:
                continue
            used.append(row)
            tables = row["numbers"][PART]
            for name in tables["known"]["rows"]:
                if name in ("old/old", "new/new") and size != 128:
                    continue
                line = [str(size) if name not in ("old/old", "new/new") else "–", name]
                for population in POPULATIONS:
                    measured, spread = tables[population]["rows"][name], tables[population]["spread"].get(f"{population} {name}", {})
                    line += [number(measured[m], interval=False) for m in METRICS]
                    line += [number(measured.get(f"ρ {m}"), 2) + _range(spread.get(f"ρ {m}")) for m in METRICS]
                lines.append(line)
            for pair in tables["known"]["differences"]:
                both = [number(tables[p]["differences"][pair][m]) for p in POPULATIONS for m in METRICS]
                leads.append([str(size), pair, *both])
        seeds = summaries[f"icons-{v1}-summary-128"]["spec"]["arguments"]
        out.append(
            f"### {v1} v1\n{len(seeds['seeds'])} seeds of embedders; {len(seeds['h_seeds'])} seeds of h at 128 bytes, one at the others. "
            "Braces: least and most ρ of the single seeds.\n"
        )
        head = ["bytes", "row", *(f"{p} {m}" for p in POPULATIONS for m in (*METRICS, "ρ top1", "ρ mAP"))]
        out += [grid_table(head, lines), "Paired differences:\n"]
        out += [grid_table(["bytes", "difference", *(f"{p} {m}" for p in POPULATIONS for m in METRICS)], leads), source(used)]
    out.append("![ρ mAP over bytes](docs/results/bytes.svg)\n")
    return "\n".join(out)


def _range(many: Sequence[float] | None) -> str:
    return f" {{{min(many):.2f} … {max(many):.2f}}}".replace("-", "−") if many else ""


def methods_section(rows: list[Row], data: str) -> str:
    out = [
        f"## Methods on {data}",
        DATA[data] + ". One seed of the embedders and of h; on the same pairs, so that the gain is traced to its cause.\n",
    ]
    for v1 in ("strong", "weak"):
        for name in METHOD_FILES:
            row = by_name(rows, "methods", f"{data}-{v1}-{name}")
            if row:
                table = full(row, against="auto" if name == "bare" else "shipped")
                out += [f"<details><summary>{v1} v1: {TITLES[name]}</summary>\n", table, source([row]), "</details>\n"]
    return "\n".join(out)


TITLES = {
    "references": "what needs no h",
    "closed": "closed forms",
    "bare": "pairs alone, no ψ, pool, labels or head: what `auto` ships, beside the closed forms",
    "equal-dims": "64 → 64 dimensions, where old vectors can stay as they are",
    "fct": "FCT (published recipe)",
    "fastfill": "FastFill (published recipe)",
    "contrastive": "supervised contrastive terms (LORTH)",
    "mixed": "mixed-gallery terms (RACT)",
    "bct": "BCT, and the paper's headline",
    "sides": "kinds and bytes of side-information, all under ridge with the pool",
    "shipped": "the shipped h, and what each part of it is worth",
}


def by_name(rows: list[Row], suite: str, name: str) -> Row | None:
    return next((row for row in rows if row["suite"] == suite and row["name"] == name), None)


def headline_section(rows: list[Row]) -> str:
    """FCT − BCT beside the published differences: for orientation, never the same measurement."""
    lines, used = [], []
    for data in DATA:
        for v1 in ("strong", "weak"):
            row = by_name(rows, "methods", f"{data}-{v1}-bct")
            if row is None:
                continue
            used.append(row)
            for population, table in row["numbers"][PART].items():
                pairs = ("fct − BCT new/old", "fct + ψ − BCT new/old", "shipped − BCT new/old", "new/new − BCT new/new")
                lines.append([data, v1, population, *(number(table["differences"][pair]["top1"]) for pair in pairs)])
    if not used:
        return ""
    published = ", ".join(f"{name} +{value:.3f}" for name, value in used[0]["numbers"]["published_top1"].items())
    head = ["data", "v1", "classes", "FCT − BCT", "FCT + ψ − BCT", "shipped − BCT", "what BCT costs new/new"]
    return (
        f"## FCT against BCT, top-1 of new/old\nPublished (FCT with side-information − BCT, arXiv 2112.02805): {published}. "
        "Other data, other models, another protocol: for orientation only.\n\n" + grid_table(head, lines) + source(used)
    )


def backfill_section(rows: list[Row]) -> str:
    lines, used = [], [row for row in rows if row["suite"] == "backfill"]
    for row in used:
        data, v1, _ = row["name"].split("-", 2)
        for population in (p for p in POPULATIONS if p in row["numbers"][PART]):
            for name, one in row["numbers"][PART][population]["orders"].items():
                ends = [f"{one['curve']['mAP'][at]:.3f}" for at in (0, 1, 2, 5, -1)]
                dips = [f"{one['dip'][m]:.4f}".replace("-", "−") for m in METRICS]
                gains = [number(one["gain"][m], 4) for m in METRICS]
                lines.append([data, v1, row["spec"]["arguments"]["recipe"], population, name, *ends, *gains, *dips])
    if not used:
        return ""
    head = ["data", "v1", "h", "classes", "order", *(f"mAP at β = {b}" for b in (0, 0.1, 0.2, 0.5, 1))]
    head += ["AUC − random, top1", "AUC − random, mAP", "dip top1", "dip mAP"]
    return (
        "## Partial backfill: curve, area and dip\nM(β): the part β of the gallery is native, in that order. The dip is min M(β) − min(M(0), M(1)). "
        "Random: the mean of five orders. *σ × (1 − head-confidence)* is what the shipped h orders by; FastFill orders by σ.\n\n![curves](docs/results/backfill.svg)\n\n"
        + grid_table(head, lines)
        + source(used)
    )


def changes_section(rows: list[Row], data: str) -> str:
    from benchmarks.quality.suites import protocol_cells

    out = [f"## What changes from v1 to v2, on {data}"]
    lines, used = [], []
    for cell in protocol_cells(data):
        row = by_name(rows, "protocols", cell.name)
        if cell.function != "changed" or row is None:
            continue
        used.append(row)
        for population in (p for p in POPULATIONS if p in row["numbers"][PART]):
            table = row["numbers"][PART][population]
            measured = table["rows"]
            line = [cell.arguments["change"], population, *(number(measured[n]["mAP"], interval=False) for n in ("old/old", "new/new"))]
            for name in ("fct + ψ", "ridge + ψ + pool", "shipped"):
                line.append(f"{number(measured[name]['mAP'], interval=False)} ({number(measured[name]['ρ mAP'], 2, False)})")
            line += [number(table["differences"][f"shipped − {n}"]["mAP"]) for n in ("fct + ψ", "ridge + ψ + pool")]
            lines.append(line)
    if not used:
        return ""
    head = [
        "change",
        "classes",
        "old/old mAP",
        "new/new mAP",
        "FCT + ψ (ρ)",
        "ridge + ψ + pool (ρ)",
        "shipped (ρ)",
        "shipped − FCT + ψ",
        "shipped − ridge",
    ]
    out += [grid_table(head, lines), source(used)]
    for name, title in OTHERS.items():
        row = by_name(rows, "protocols", f"{data}-{name}")
        if row:
            out += [f"### {title}", full(row, against=""), _more(row), source([row])]
    learning = [row for row in rows if row["suite"] == "protocols" and row["name"].startswith(f"{data}-pairs-")]
    learning.sort(key=lambda row: row["numbers"]["recipes"]["shipped"]["pairs"])
    if learning:
        lines = [
            [
                f"{row['numbers']['recipes']['shipped']['pairs']:,}",
                population,
                *(number(table["rows"][n].get("ρ mAP"), 2) for n in table["rows"] if "/" not in n),
            ]
            for row in learning
            for population, table in row["numbers"][PART].items()
        ]
        names = [n for n in learning[0]["numbers"][PART]["known"]["rows"] if "/" not in n]
        out += ["### Number of pairs: ρ mAP", grid_table(["pairs", "classes", *names], lines), source(learning)]
    row = by_name(rows, "protocols", f"{data}-biased")
    if row:
        out += [_biased(row), source([row])]
    return "\n".join(out)


OTHERS = {
    "chain": "v1 → v2 → v3: direct h(1→3), or h(2→3) after h(1→2)",
    "fairness-strong": "A mixed gallery, half of it native at random: is it fair, and what does calibration do (strong v1, shipped h)?",
    "fairness-weak": "The same, weak v1",
    "fairness-strong-fct": "The same, FCT + ψ",
    "not-better-worse": "A new model that is worse here",
    "not-better-equal": "A new model that is equal",
}


def _more(row: Row) -> str:
    """What these protocols say beside the metrics."""
    out = []
    for population, table in row["numbers"][PART].items():
        if "native_share" in table:
            shares = table["native_share"]
            out.append(
                f"- {population}: native among the ten nearest wrong answers {number(shares['nearest_wrong'])}, among all wrong ones "
                f"{number(shares['all_wrong'])}; difference {number(shares['difference'])}. Calibration, mAP: shift "
                f"{number(table['differences']['mixed, shift − mixed']['mAP'], 4)}, wrong scores made alike "
                f"{number(table['differences']['mixed, wrong scores alike − mixed']['mAP'], 4)}."
            )
        elif "worth_it" in table:
            gain = table["differences"]["new/new − old/old"]
            out.append(
                f"- {population}: new/new − old/old "
                + ", ".join(f"{m} {number(gain[m])} → worth_it **{table['worth_it'][m]}**" for m in METRICS)
                + "."
            )
        else:
            out += [f"- {population}: {pair}, mAP {number(by['mAP'])}." for pair, by in table["differences"].items()]
    return "\n".join(out) + "\n"


def _biased(row: Row) -> str:
    found = row["numbers"][PART]
    at = (0, 2, 5, -1)
    lines = [
        [name, *(f"{by['mAP'][i]:.3f}".replace("-", "−") for i in at), *(f"{found['minority'][name]['mAP'][i]:.3f}" for i in at)]
        for name, by in found["gap"].items()
    ]
    betas = [f"β = {found['beta'][i]}" for i in at]
    gaps = {name: found[name]["majority"]["mAP"] - found[name]["minority"]["mAP"] for name in ("old/old", "new/new")}
    return (
        "### A biased old model: a quarter of its classes had a tenth of their images\n"
        f"Gap in mAP, majority − minority: old/old {gaps['old/old']:.3f}, new/new {gaps['new/new']:.3f}; minority's mAP under old/old {found['old/old']['minority']['mAP']:.3f}. "
        "Along a backfill:\n\n" + grid_table(["order", *(f"gap, {b}" for b in betas), *(f"minority's mAP, {b}" for b in betas)], lines)
    )


FRONT = (
    ("old/old", "shipped"),
    ("ridge", "closed"),
    ("fct", "fct"),
    ("ridge + ψ + pool", "closed"),
    ("fastfill + ψ", "fastfill"),
    ("fct + ψ", "fct"),
    ("thumbnail of equal bytes", "references"),
    ("ridge + ψ + preview + pool", "shipped"),
    ("shipped", "shipped"),
    ("new/new", "shipped"),
)  # (row, the file of the suite methods that has it)


def front_section(rows: list[Row]) -> str:
    """The first screen: mAP of what people compare, one line a world."""
    out = ["## The first screen: mAP of the test sample, one seed, 128 bytes of ψ"]
    for population in reversed(POPULATIONS):
        lines, used = [], []
        for data in DATA:
            for v1 in ("strong", "weak"):
                files = {name: by_name(rows, "methods", f"{data}-{v1}-{name}") for _, name in FRONT}
                if None in files.values():
                    continue
                used += [row for row in files.values() if row]
                found = [files[name]["numbers"][PART][population]["rows"][row]["mAP"] for row, name in FRONT]  # type: ignore[index]
                lines.append([f"{data}, {v1} v1", *(number(triple, interval=False) for triple in found)])
        if lines:
            out += [f"**{population} classes**\n", grid_table(["", *(row for row, _ in FRONT)], lines)]
    return "\n".join(out) if len(out) > 1 else ""


def short_section(rows: list[Row]) -> str:
    """How the shipped h stands to the others, over everything that was compared with it: counted, not told."""
    lines = []
    for data in DATA:
        for name in (
            "fct",
            "fct + ψ",
            "fastfill",
            "fastfill + ψ",
            "contrastive + ψ",
            "mixed + ψ",
            "ridge + ψ",
            "ridge + ψ + pool",
            "ridge + ψ + preview + pool",
        ):
            for population in POPULATIONS:
                found = {  # a set: the same world may be in two files
                    tuple(table["differences"][f"shipped − {name}"]["mAP"])
                    for row in rows
                    if row["suite"] in ("methods", "protocols") and row["name"].startswith(data)
                    for table in [row["numbers"].get(PART, {}).get(population, {})]
                    if f"shipped − {name}" in table.get("differences", {})
                }
                if found:
                    mean = sum(one[0] for one in found) / len(found)
                    ahead, behind = sum(one[1] > 0 for one in found), sum(one[2] < 0 for one in found)
                    lines.append(
                        [data, name, population, str(len(found)), number([mean, None, None], interval=False), str(ahead), str(behind)]
                    )
    if not lines:
        return ""
    head = ["data", "shipped − …", "classes", "worlds", "mean difference of mAP", "ahead (lower bound > 0)", "behind (upper bound < 0)"]
    return "## In short: the shipped h against each method, over all worlds where both were fitted\n" + grid_table(head, lines)


def page(rows: list[Row]) -> str:
    """RESULTS.md."""
    sections = [HEAD, front_section(rows), short_section(rows), grid_section(rows), headline_section(rows), backfill_section(rows)]
    sections += [section for data in DATA for section in (changes_section(rows, data), methods_section(rows, data))]
    return "\n".join(section for section in sections if section)


def figures(rows: list[Row], folder: Path) -> None:
    """The two pictures, as SVG without a date, so that the same rows give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "results", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharey=True, layout="constrained")
    names = {"shipped": "C0", "ridge + ψ + preview + pool": "C1", "thumbnail of equal bytes": "C2"}
    for axis, (v1, population) in zip(axes, [(v, p) for v in ("strong", "weak") for p in POPULATIONS], strict=True):
        for name, colour in names.items():
            points = []
            for size in (64, 128, 256, 512):
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
            xticks=[64, 128, 256, 512],
            xticklabels=[64, 128, 256, 512],
        )
        axis.minorticks_off()
        axis.axhline(1, color="0.6", linewidth=0.8)
    axes[0].set_ylabel("ρ mAP")
    axes[-1].legend(frameon=False, loc="lower right")
    figure.savefig(folder / "bytes.svg", metadata={"Date": None})
    plt.close(figure)

    drawn = [data for data in DATA if any(row["suite"] == "backfill" and row["name"].startswith(f"{data}-") for row in rows)]
    figure, grid = plt.subplots(len(drawn), 4, figsize=(13, 3 * len(drawn)), layout="constrained", squeeze=False)
    for line, data in zip(grid, drawn, strict=True):
        for axis, (v1, population) in zip(line, [(v, p) for v in ("strong", "weak") for p in POPULATIONS], strict=True):
            for recipe, colour in (("shipped", "C0"), ("fastfill", "C3"), ("fct", "C4")):
                row = by_name(rows, "backfill", f"{data}-{v1}-{recipe}")
                if row is None or population not in row["numbers"][PART]:
                    continue
                own = "σ × (1 − head-confidence)" if recipe == "shipped" else "σ"  # what that h orders by
                for order, style in ((own, "-"), ("random", ":")):
                    curve = row["numbers"][PART][population]["orders"][order]["curve"]["mAP"]
                    axis.plot(row["numbers"]["beta"], curve, style, color=colour, label=f"{recipe}, {order}")
            axis.set(title=f"{data}, {v1} v1, {population}", xlabel="β, part of the gallery that is native", ylabel="mAP")
            axis.set_visible(axis.has_data())
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(folder / "backfill.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Write RESULTS.md and the figures, or with ``--check`` say whether RESULTS.md is what the rows give (exit 1 where not)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where RESULTS.md is not what the rows give")
    options = parser.parse_args()
    rows = load()
    text = page(rows)
    if options.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print("RESULTS.md is what the rows give" if same else "RESULTS.md is not what the rows give; run: make results", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    figures(rows, FIGURES)
    print(f"RESULTS.md and {FIGURES.relative_to(ROOT)} from {len(rows)} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
