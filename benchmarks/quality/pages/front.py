"""RESULTS.md: what a reader wants first, one summary a suite, and where the rest is."""

from __future__ import annotations

from benchmarks.quality.pages.dataset import changed
from benchmarks.quality.pages.tables import BYTES, DATA, OWN, PART, POPULATIONS, WORLDS, grid_table, number, source
from benchmarks.quality.rows import Row, by_name

HEAD = """# Results

Every method that the project knows of, side by side on four sets of real images. `make results` makes this page and those of the data sets from the recorded rows; no number in them is typed.
How the methods work: [docs/methods.md](docs/methods.md).

**How to read it.** Search is exact; an item never finds itself, nor items of its own source. *Known*: classes that the new model was trained on; *unseen*: the others; both lie in one gallery.
Numbers are of the **test** sample, `value [lower, upper]`, each bound one-sided 95 % by a bootstrap over classes, paired by query. ρ = (row − old/old) / (new/new − old/old), the share of the gain that comes back;
where the gain is small, ρ is wild, and below zero the carried gallery is worse than the old one. ψ is the stored side-information, 128 bytes an item unless said; *preview* is φ_new of the picture decoded from ψ
(it runs the new model once an item, and reads no image); *pool* are unlabelled pairs of other classes.
"""
AGAIN = """## Run it again
```console
$ python -m benchmarks.quality --list                     # every row of icons and digits, and whether it is recorded
$ python -m benchmarks.quality --quick                    # a few rows of small effort, below build/quality/quick
$ python -m benchmarks.quality --suite SUITE --data DATA --only ROW
$ make results                                            # this page, those of the data sets, and the figures
```
A row that is recorded with the same spec is not computed again: remove its line first. Below each table stands what computes its rows. Each suite has one file, a row a line, with spec, inputs, numbers, machine, versions, commit and command: FILES.
"""
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


RIVALS = (
    "fct",
    "fct + ψ",
    "fastfill",
    "fastfill + ψ",
    "contrastive + ψ",
    "mixed + ψ",
    "ridge + ψ",
    "ridge + ψ + pool",
    "ridge + ψ + preview + pool",
)
SUITES = {  # with the heading on the data sets' pages
    "methods": ("every method on the same pairs, and what each part of the shipped h is worth", "methods"),
    "grid": ("seeds of embedders × seeds of h × bytes of ψ", "grid"),
    "backfill": ("partial backfills, in many orders", "backfill"),
    "protocols": (
        "what changes from v1 to v2; chains, mixed galleries, few pairs, a biased v1, a v2 that is no better",
        "what-changes-from-v1-to-v2",
    ),
}


def page(rows: list[Row]) -> str:
    """RESULTS.md."""
    sections = (tried, methods, against_bct, grid, backfill, protocols, again)
    return "\n".join([HEAD, *(text for section in sections if (text := section(rows)))])


def _of(rows: list[Row], suite: str, data: str) -> list[Row]:
    return [row for row in rows if row["suite"] == suite and row["name"].startswith(f"{data}-")]


def tried(rows: list[Row]) -> str:
    """How many rows of each suite there are on each data set, and where they stand."""
    lines = []
    for data, what in DATA.items():
        counts = {suite: len(_of(rows, suite, data)) for suite in SUITES}
        cells = [f"[{n}](docs/results/{data}.md#{SUITES[suite][1]})" if n else "–" for suite, n in counts.items()]
        lines.append([f"[{data}](docs/results/{data}.md)", what, *cells])
    about = "\n".join(f"- **{suite}**: {what}." for suite, (what, _) in SUITES.items())
    return (
        "## What was tried\nRows by data set and suite; each data set has its page.\n\n"
        + grid_table(["data", "what it is", *SUITES], lines)
        + f"\n{about}\n"
    )


def methods(rows: list[Row]) -> str:
    """mAP of what people compare, one line a world; and the shipped h against each method."""
    out = ["## Methods: mAP of the test sample, one seed, 128 bytes of ψ"]
    for population in reversed(POPULATIONS):
        lines = []
        for data in DATA:
            for v1 in WORLDS:
                files = {name: by_name(rows, "methods", f"{data}-{v1}-{name}") for _, name in FRONT}
                if None in files.values():
                    continue
                found = [files[name]["numbers"][PART][population]["rows"][row]["mAP"] for row, name in FRONT]  # type: ignore[index]
                lines.append([f"{data}, {v1} v1", *(number(triple, interval=False) for triple in found)])
        if lines:
            out += [f"**{population} classes**\n", grid_table(["", *(row for row, _ in FRONT)], lines)]
    return "\n".join([*out, *_counted(rows)]) if len(out) > 1 else ""


def _counted(rows: list[Row]) -> list[str]:
    """How the shipped h stands to the others, over everything that was compared with it: counted, not told."""
    lines = [line for data in DATA for name in RIVALS for population in POPULATIONS if (line := _lead(rows, data, name, population))]
    if not lines:
        return []
    head = ["data", "shipped − …", "classes", "worlds", "mean difference of mAP", "ahead (lower bound > 0)", "behind (upper bound < 0)"]
    return ["**The shipped h against each method, over all worlds where both were fitted**\n", grid_table(head, lines)]


def _lead(rows: list[Row], data: str, name: str, population: str) -> list[str]:
    found = {  # a set: the same world may be in two rows
        tuple(table["differences"][f"shipped − {name}"]["mAP"])
        for suite in ("methods", "protocols")
        for row in _of(rows, suite, data)
        for table in [row["numbers"].get(PART, {}).get(population, {})]
        if f"shipped − {name}" in table.get("differences", {})
    }
    if not found:
        return []
    mean = sum(one[0] for one in found) / len(found)
    ahead, behind = sum(one[1] > 0 for one in found), sum(one[2] < 0 for one in found)
    return [data, name, population, str(len(found)), number([mean, None, None], interval=False), str(ahead), str(behind)]


def against_bct(rows: list[Row]) -> str:
    """FCT − BCT beside the published differences: for orientation, never the same measurement."""
    lines, used = [], []
    for data in DATA:
        for v1 in WORLDS:
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
        f"### FCT against BCT, top-1 of new/old\nPublished (FCT with side-information − BCT, arXiv 2112.02805): {published}. "
        "Other data, other models, another protocol: for orientation only.\n\n" + grid_table(head, lines) + source(used)
    )


def grid(rows: list[Row]) -> str:
    """ρ mAP of what needs ψ, over its bytes."""
    lines, used = [], []
    for data in DATA:
        for v1 in WORLDS:
            found = [by_name(rows, "grid", f"{data}-{v1}-summary-{size}") for size in BYTES]
            summaries = [row for row in found if row]
            if len(summaries) < len(BYTES):
                continue
            used += summaries
            for population in POPULATIONS:
                tables = [row["numbers"][PART][population]["rows"] for row in summaries]
                for name in ("shipped", "ridge + ψ + preview + pool", "thumbnail of equal bytes"):
                    lines.append([data, v1, population, name, *(number(table[name]["ρ mAP"], 2) for table in tables)])
    if not used:
        return ""
    head = ["data", "v1", "classes", "row", *(f"{size} bytes" for size in BYTES)]
    title = "## Grid: ρ mAP over the bytes of ψ, seeds together\n"
    return title + grid_table(head, lines) + source(used) + "\n![ρ mAP over bytes](docs/results/bytes.svg)\n"


def backfill(rows: list[Row]) -> str:
    """Each h in the order that it gives itself."""
    lines, used = [], []
    for data in DATA:
        for row in _of(rows, "backfill", data):
            arguments = row["spec"]["arguments"]
            used.append(row)
            for population in (p for p in POPULATIONS if p in row["numbers"][PART]):
                one = row["numbers"][PART][population]["orders"][OWN[arguments["recipe"].split(" ")[0]]]
                curve = [f"{one['curve']['mAP'][at]:.3f}" for at in (0, 2, -1)]
                dip = f"{one['dip']['mAP']:.4f}".replace("-", "−")
                lines.append([data, arguments["v1"], arguments["recipe"], population, *curve, number(one["gain"]["mAP"], 4), dip])
    if not used:
        return ""
    head = ["data", "v1", "h", "classes", *(f"mAP at β = {b}" for b in (0, 0.2, 1)), "AUC − random, mAP", "dip mAP"]
    return (
        "## Backfill: each h in its own order\nM(β): the part β of the gallery is native, in that order. The dip is min M(β) − min(M(0), M(1)). "
        "Random: the mean of five orders. The shipped h orders by σ × (1 − head-confidence), FastFill and FCT by σ.\n\n"
        + grid_table(head, lines)
        + source(used)
        + "\n![curves](docs/results/backfill.svg)\n"
    )


def protocols(rows: list[Row]) -> str:
    """What changes between the versions, in mAP."""
    lines, used = [], []
    for data in DATA:
        for change, row in changed(rows, data).items():
            used.append(row)
            line = [data, change]
            for population in POPULATIONS:
                table = row["numbers"][PART][population]
                line += [number(table["rows"][name]["mAP"], interval=False) for name in ("old/old", "shipped", "new/new")]
                line.append(number(table["differences"]["shipped − fct + ψ"]["mAP"]))
            lines.append(line)
    if not used:
        return ""
    head = ["data", "change", *(f"{p} {what}" for p in POPULATIONS for what in ("old/old", "shipped", "new/new", "shipped − FCT + ψ"))]
    return "## Protocols: what changes from v1 to v2, mAP\n" + grid_table(head, lines) + source(used)


def again(rows: list[Row]) -> str:
    """How to compute rows, and where they are."""
    files = (f"[{suite}.jsonl](benchmarks/results/quality/{suite}.jsonl)" for suite in sorted({row["suite"] for row in rows}))
    return AGAIN.replace("FILES", ", ".join(files))
