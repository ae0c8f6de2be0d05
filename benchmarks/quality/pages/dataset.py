"""The page of one data set: every table of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality.pages.tables import BYTES, DATA, METRICS, PART, POPULATIONS, WORLDS, full, grid_table, number, source
from benchmarks.quality.rows import Row, by_name
from benchmarks.quality.suites import protocol_cells

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
OTHERS = {
    "chain": "v1 → v2 → v3: direct h(1→3), or h(2→3) after h(1→2)",
    "fairness-strong": "A mixed gallery, half of it native at random: is it fair, and what does calibration do (strong v1, shipped h)?",
    "fairness-weak": "The same, weak v1",
    "fairness-strong-fct": "The same, FCT + ψ",
    "not-better-worse": "A new model that is worse here",
    "not-better-equal": "A new model that is equal",
}


def page(rows: list[Row], data: str) -> str:
    """The page of one data set; suites that were not run on it are left out."""
    head = (
        f"# Results on {data}\n\nThe data: {DATA[data]}. Made by `make results`; no number here is typed. "
        "How to read the tables, and what other data say: [RESULTS.md](../../RESULTS.md).\n"
    )
    sections = [head, grid_section(rows, data), changes_section(rows, data), backfill_section(rows, data), methods_section(rows, data)]
    return "\n".join(section for section in sections if section)


def grid_section(rows: list[Row], data: str) -> str:
    """The full grid: one table for every v1, bytes down."""
    out = ["## Grid", "Seeds of embedders × seeds of h × bytes.\n"]
    for v1 in WORLDS:
        summaries = {size: row for size in BYTES if (row := by_name(rows, "grid", f"{data}-{v1}-summary-{size}"))}
        if not summaries:
            continue
        seeds = summaries[128]["spec"]["arguments"]
        out.append(
            f"### {v1} v1\n{len(seeds['seeds'])} seeds of embedders; {len(seeds['h_seeds'])} seeds of h at 128 bytes, one at the others. "
            "Braces: least and most ρ of the single seeds.\n"
        )
        lines = [line for size, row in summaries.items() for line in _grid_lines(size, row)]
        leads = [line for size, row in summaries.items() for line in _grid_leads(size, row)]
        head = ["bytes", "row", *(f"{p} {m}" for p in POPULATIONS for m in (*METRICS, "ρ top1", "ρ mAP"))]
        out += [grid_table(head, lines), "Paired differences:\n"]
        out += [grid_table(["bytes", "difference", *(f"{p} {m}" for p in POPULATIONS for m in METRICS)], leads)]
        out += [source(list(summaries.values()))]
    return "\n".join(out) if len(out) > 2 else ""


def _grid_lines(size: int, row: Row) -> list[list[str]]:
    """A line for everything that was searched; old/old and new/new, which store no bytes, with those of 128."""
    tables, lines = row["numbers"][PART], []
    for name in tables["known"]["rows"]:
        native = name in ("old/old", "new/new")
        if native and size != 128:
            continue
        line = ["–" if native else str(size), name]
        for population in POPULATIONS:
            measured, spread = tables[population]["rows"][name], tables[population]["spread"].get(f"{population} {name}", {})
            line += [number(measured[m], interval=False) for m in METRICS]
            line += [number(measured.get(f"ρ {m}"), 2) + _range(spread.get(f"ρ {m}")) for m in METRICS]
        lines.append(line)
    return lines


def _grid_leads(size: int, row: Row) -> list[list[str]]:
    tables = row["numbers"][PART]
    return [
        [str(size), pair, *(number(tables[p]["differences"][pair][m]) for p in POPULATIONS for m in METRICS)]
        for pair in tables["known"]["differences"]
    ]


def _range(many: Sequence[float] | None) -> str:
    return f" {{{min(many):.2f} … {max(many):.2f}}}".replace("-", "−") if many else ""


def methods_section(rows: list[Row], data: str) -> str:
    """Every table of the suite ``methods``, folded away."""
    out = ["## Methods", "One seed of the embedders and of h; on the same pairs, so that the gain is traced to its cause.\n"]
    for v1 in WORLDS:
        for name, title in TITLES.items():
            row = by_name(rows, "methods", f"{data}-{v1}-{name}")
            if row:
                table = full(row, against="auto" if name == "bare" else "shipped")
                out += [f"<details markdown><summary>{v1} v1: {title}</summary>\n", table, source([row]), "</details>\n"]
    return "\n".join(out) if len(out) > 2 else ""


def backfill_section(rows: list[Row], data: str) -> str:
    """Every order of every partial backfill."""
    used = [row for row in rows if row["suite"] == "backfill" and row["name"].startswith(f"{data}-")]
    lines = []
    for row in used:
        arguments = row["spec"]["arguments"]
        for population in (p for p in POPULATIONS if p in row["numbers"][PART]):
            for name, one in row["numbers"][PART][population]["orders"].items():
                ends = [f"{one['curve']['mAP'][at]:.3f}" for at in (0, 1, 2, 5, -1)]
                dips = [f"{one['dip'][m]:.4f}".replace("-", "−") for m in METRICS]
                gains = [number(one["gain"][m], 4) for m in METRICS]
                lines.append([arguments["v1"], arguments["recipe"], population, name, *ends, *gains, *dips])
    if not used:
        return ""
    head = ["v1", "h", "classes", "order", *(f"mAP at β = {b}" for b in (0, 0.1, 0.2, 0.5, 1))]
    head += ["AUC − random, top1", "AUC − random, mAP", "dip top1", "dip mAP"]
    return "## Backfill\nCurve, area and dip; random: the mean of five orders.\n\n" + grid_table(head, lines) + source(used)


def changes_section(rows: list[Row], data: str) -> str:
    """The suite ``protocols``: what changes between the versions, and everything that is no plain upgrade."""
    used, lines = changed(rows, data), []
    for change, row in used.items():
        for population in (p for p in POPULATIONS if p in row["numbers"][PART]):
            table = row["numbers"][PART][population]
            measured = table["rows"]
            line = [change, population, *(number(measured[n]["mAP"], interval=False) for n in ("old/old", "new/new"))]
            for name in ("fct + ψ", "ridge + ψ + pool", "shipped"):
                line.append(f"{number(measured[name]['mAP'], interval=False)} ({number(measured[name]['ρ mAP'], 2, False)})")
            line += [number(table["differences"][f"shipped − {n}"]["mAP"]) for n in ("fct + ψ", "ridge + ψ + pool")]
            lines.append(line)
    if not used:
        return ""
    head = ["change", "classes", "old/old mAP", "new/new mAP", "FCT + ψ (ρ)", "ridge + ψ + pool (ρ)", "shipped (ρ)"]
    head += ["shipped − FCT + ψ", "shipped − ridge"]
    out = ["## What changes from v1 to v2", grid_table(head, lines), source(list(used.values()))]
    for name, title in OTHERS.items():
        row = by_name(rows, "protocols", f"{data}-{name}")
        if row:
            out += [f"### {title}", full(row, against=""), _more(row), source([row])]
    biased = by_name(rows, "protocols", f"{data}-biased")
    return "\n".join([*out, *_learning(rows, data), *([_biased(biased), source([biased])] if biased else [])])


def changed(rows: list[Row], data: str) -> dict[str, Row]:
    """The rows that change one thing between the versions, by what they change."""
    cells = [cell for cell in protocol_cells(data) if cell.function == "changed"]
    found = {cell.arguments["change"]: by_name(rows, "protocols", cell.name) for cell in cells}
    return {change: row for change, row in found.items() if row}


def _learning(rows: list[Row], data: str) -> list[str]:
    learning = [row for row in rows if row["suite"] == "protocols" and row["name"].startswith(f"{data}-pairs-")]
    if not learning:
        return []
    learning.sort(key=_pairs)
    names = [n for n in learning[0]["numbers"][PART]["known"]["rows"] if "/" not in n]
    lines = [
        [f"{_pairs(row):,}", population, *(number(table["rows"][n].get("ρ mAP"), 2) for n in names)]
        for row in learning
        for population, table in row["numbers"][PART].items()
    ]
    return ["### Number of pairs: ρ mAP", grid_table(["pairs", "classes", *names], lines), source(learning)]


def _pairs(row: Row) -> int:
    return int(row["numbers"]["recipes"]["shipped"]["pairs"])


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
