"""How a row becomes a table in Markdown, and what all pages call the data sets and the populations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.quality.rows import Row

PART = "test"
POPULATIONS = ("known", "unseen")
METRICS = ("top1", "mAP")
WORLDS = ("strong", "weak")  # versions 1
BYTES = (64, 128, 256, 512)
OWN = {"shipped": "σ × (1 − head-confidence)", "fastfill": "σ", "fct": "σ"}  # what each h orders a backfill by
DATA = {
    "icons": "line drawings of 32×32 pixels from five packs; cross-pack search",
    "digits": "scikit-learn's handwritten digits, 8×8 pixels; ten classes, so queries are resampled, not classes",
    "glyphs": "printed characters in 70 typefaces, 32×32 pixels; kept apart until the recipe was fixed; nothing was chosen on it",
    "emoji": "in colour, by eleven designers, 32×32 pixels; v1 a small ViT that is below raw pixels, v2 a ResNet-18; kept apart like the glyphs",
}


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
