"""Everything a report is made from, and the words and numbers that the page and the description share.

Fractions are 0–1 with 3 digits, ρ with 2; what is undefined is said to be, never shown as 0. Legend: N rows of the evaluation
sample, R queries that count, G gallery rows, E dimensions of the new space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fct.sample.evaluation import ROWS
from fct.sample.folder import Sample
from fct.search import copies
from registry.verdicts.declaration import declared

NAMES = {"top1": "top-1", "mAP": "mAP", "top5": "top-5"}
POPULATIONS = {"known": "known classes", "unseen": "unseen classes"}
INFINITE = ("−∞", "∞")  # bounds that are none
ICONS = {"passed": "✓", "refused": "✗", "inconclusive": "?", "not applicable": "–"}
HEADLINES = {"passed": "passed its gates", "refused": "is refused by its gates", "inconclusive": "could not be judged"}
COSTS = {
    "fit_s": "fitting h",
    "transform_us_per_item": "transforming an item with h",
    "native_us_per_item": "embedding an item natively",
    "side_bytes_per_item": "side-information of an item",
    "gallery_rows": "gallery items carried over",
    "gallery_images_read": "gallery images read",
}
UNITS = (("_us_per_item", "µs"), ("_bytes_per_item", "bytes"), ("_bytes", "bytes"), ("_s", "s"))


@dataclass(frozen=True)
class Review:
    """What was measured of one version, as :func:`~registry.report.page.html` and :func:`~registry.report.description.markdown` show it.

    Args:
        verdict: ``model``, ``version``, ``from`` (None for a first release), ``outcome``, ``problems``, ``gates`` (measurements as
            JSON), ``metrics`` (of :func:`fct.sample.evaluation.summarise`, or one such for the name of each h, or empty), ``covers`` (name → digest
            or list) and ``digest``.
        values: per-query values of :func:`fct.sample.evaluation.measure`; None for a first release.
        sample: the evaluation sample; carried: (N, E) its rows transformed by h; both None for a first release.
        metric: ``cosine`` or ``l2``.
        sigma: (G,) uncertainty of the gallery rows, NaN where none is predicted. far: (G,) bool, beyond coverage.
        gallery_ids: (G,) ids of these rows.
        image_of: item id → image file of the evaluation sample, None where it cannot be read.
        costs: numbers whose names end with their unit (``fit_s``). provenance: name → text.
        approve_value: value of the tag ``fct.approve`` that approves this verdict.
        auto: whether an approval is carried out by itself (``promote.auto``). page: address of the HTML report, relative to the MLflow UI.
        served: query and gallery vectors (N rows each) that ``values`` took for old/old; None where these are the sample's old vectors.
    """

    verdict: dict[str, Any]
    values: dict[str, np.ndarray] | None
    sample: Sample | None
    carried: np.ndarray | None
    metric: str
    sigma: np.ndarray | None
    gallery_ids: np.ndarray | None
    far: np.ndarray | None
    image_of: Callable[[str], Path | None]
    costs: dict[str, float | int | str]
    provenance: dict[str, str]
    approve_value: str
    served: tuple[np.ndarray, np.ndarray] | None = None
    auto: bool = False
    page: str = ""

    @property
    def name(self) -> str:
        return f"{plain(self.verdict['model'])} version {self.verdict['version']}"

    @property
    def outcome(self) -> str:
        """One of passed, refused, inconclusive."""
        return str(self.verdict["outcome"])

    @property
    def first(self) -> bool:
        """Whether there is no champion to compare with."""
        return self.verdict.get("from") is None

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Name of each h → population → table, oldest native version first; the name is empty where there is one h only."""
        found = self.verdict.get("metrics") or {}
        if not found:
            return {}
        if all("oo" in table for table in found.values()):
            return {"": found}
        return {name: found[name] for name in sorted(found, key=lambda name: ([int(part) for part in re.findall(r"\d+", name)], name))}


def plain(text: object, most: int = 2000) -> str:
    """One line of printable text: white space collapsed, invisible and direction-changing characters shown as �, the rest cut at ``most``."""
    words, length = [], 0
    for word in re.finditer(r"\S+", str(text)):  # no further than is shown: a text may be long
        words.append(word[0])
        length += len(word[0]) + 1
        if length > most + 1:
            break
    line = " ".join(words)[: most + 1]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def number(x: float | None, digits: int = 3) -> str:
    """``0.512``, ``−0.020``, ``1.0e−06`` where the digits would hide it, ``—`` where there is none."""
    if x is None or not math.isfinite(x):
        return "—"
    if x != 0 and abs(x) < 0.5 * 10**-digits:
        return f"{x:.1e}".replace("-", "−")
    return (f"{x + 0.0:.{digits}f}" if abs(x) < 1e6 else f"{x:.2e}").replace("-", "−")


def interval(estimate: dict[str, Any], digits: int = 3) -> str:
    """``0.512 [0.480, 0.543]``; a bound that is missing although the value is there is none: too few classes, or ρ undefined in too many subsets."""
    if estimate.get("value") is None:
        return "undefined"
    ends = (estimate.get(key) for key in ("lower", "upper"))
    lower, upper = (infinite if end is None else number(end, digits) for end, infinite in zip(ends, INFINITE, strict=True))
    return f"{number(estimate['value'], digits)} [{lower}, {upper}]"


def metric_rows(review: Review) -> list[dict[str, Any]]:
    """One row per h, population and metric: words and texts of old/old, new/h(old), new/new and ρ."""
    found = []
    for h, tables in review.metrics.items():
        for population in sorted(tables, key=lambda p: (list(POPULATIONS).index(p) if p in POPULATIONS else len(POPULATIONS), p)):
            table = tables[population]
            for name, words in NAMES.items():
                row: dict[str, Any] = {
                    "population": f"{POPULATIONS.get(population, plain(population, 40))} {plain(h, 20)}".strip(),
                    "metric": words,
                }
                row |= {key: interval(table[key][name]) for key in ROWS}
                row["rho"] = interval(table["recovered"][name], 2) if name in table["recovered"] else ""
                row["n"] = int(table["oo"][name]["n"])
                found.append(row)
    return found


def gate_rows(review: Review) -> list[dict[str, str]]:
    """One row per measurement: gate, title in words, subject, value, interval, bound, outcome, icon, note."""
    found, titles = [], {name: gate.title for name, gate in declared().items()}
    for gate in review.verdict["gates"]:
        value, lower, upper, bound = (gate.get(key) for key in ("value", "lower", "upper", "bound"))
        spread = "" if value is None or lower == upper else interval(gate).partition(" ")[2]
        digits = 2 if gate["gate"] == "recovered" else 3
        outcome = plain(gate["outcome"], 30)
        found.append(
            {
                "gate": plain(gate["gate"], 60),
                "title": titles.get(gate["gate"], plain(gate["gate"], 60)),
                "subject": plain(gate["subject"], 80),
                "value": number(value, digits),
                "interval": spread if digits == 3 or not spread else interval(gate, 2).partition(" ")[2],
                "bound": "" if bound is None else f"{plain(gate['relation'], 3)} {number(bound, digits)}",
                "outcome": outcome,
                "icon": ICONS.get(outcome, "·"),
                "note": plain(gate["note"], 400),
            }
        )
    return found


def cost_rows(review: Review) -> list[tuple[str, str]]:
    """(what, how much with its unit), and what h costs beside the embedder it stands in for."""
    found = []
    for key, value in review.costs.items():
        unit = next((unit for suffix, unit in UNITS if key.endswith(suffix)), "")
        if isinstance(value, str):
            amount = plain(value, 120)
        elif isinstance(value, int | np.integer):
            amount = f"{value:,}"
        else:
            amount = "—" if not math.isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        found.append((COSTS.get(key, plain(key.replace("_", " "), 80)), f"{amount} {unit}".strip()))
    native, carried = review.costs.get("native_us_per_item"), review.costs.get("transform_us_per_item")
    if isinstance(native, int | float) and isinstance(carried, int | float) and native > 0:
        found.append(("h beside the embedder it stands in for", f"{number(carried / native)} of its time"))
    return found


def gains(review: Review) -> list[str]:
    """What a search gains, in one sentence for each population; with several h, those of the oldest native version."""
    found = []
    for h, tables in list(review.metrics.items())[:1]:
        for population in (p for p in POPULATIONS if p in tables):
            old, carried, new = (number(tables[population][row]["top1"]["value"]) for row in ROWS)
            where = f"{POPULATIONS[population]}{f' ({plain(h, 20)})' if h else ''}"
            found.append(
                f"On {where}, top-1 is {old} today, {carried} with the carried-over gallery, and would be {new} if every item were embedded again."
            )
    return found


def duties(review: Review) -> list[str]:
    """What the promotion asks of others: score thresholds that must be set anew (gate *threshold_shift*)."""
    moved = [gate for gate in review.verdict["gates"] if gate["gate"] == "threshold_shift" and gate["subject"].startswith("recalibrated")]
    return [f"If an application compares scores with a threshold: {plain(gate['note'], 200).partition(';')[0]}." for gate in moved]


def copied(review: Review) -> list[str]:
    """Sentences for each part of the pairs of which more than a fifth are copies, or may be."""
    found = []
    for name, parts in review.verdict["covers"].get("copies", {}).items():
        for part, said in parts.items() if isinstance(parts, dict) else ():
            what = "given pairs" if part == "pairs" else f"{part} images and evaluated ones"
            found += [plain(f"{name}: {sentence}.", 300) for sentence in copies.warnings(said["share"], what, said.get("doubtful", 0.0))]
    return found


def per_class(review: Review) -> list[dict[str, Any]]:
    """Top-1 of every class: label, population, queries, oo, nh; those that lose most first."""
    if review.values is None:
        return []
    v = review.values
    found = []
    for population in np.unique(v["populations"]):
        for label in np.unique(v["labels"][v["populations"] == population]):
            rows = (v["labels"] == label) & (v["populations"] == population)
            found.append(
                {
                    "label": str(label),
                    "population": str(population),
                    "n": int(rows.sum()),
                    "oo": float(v["oo_top1"][rows].mean()),
                    "nh": float(v["nh_top1"][rows].mean()),
                }
            )
    return sorted(found, key=lambda row: (row["nh"] - row["oo"], -row["n"], row["label"]))


def curves(review: Review) -> dict[str, dict[str, np.ndarray]]:
    """Population → order and metric (``shipped_mAP`` …) → M(β) (S,), β from 0 to 1; empty where no order is shipped."""
    v = review.values
    if v is None or "curve_rows" not in v:
        return {}
    names = [name for name in v if name.startswith("curve_") and v[name].ndim == 2]
    found = {}
    for population in POPULATIONS:
        chosen = v["curve_populations"] == population
        if chosen.any():
            found[population] = {name.removeprefix("curve_"): v[name][:, chosen].mean(axis=1) for name in names}
    return found


def curve_rows(found: dict[str, dict[str, np.ndarray]]) -> list[dict[str, str]]:
    """One row per population and metric of :func:`curves`: M(0), M(1), the area under each order's curve, the least of the shipped one's."""
    rows = []
    for population, drawn in found.items():
        for name in ("top1", "mAP"):
            shipped = drawn[f"shipped_{name}"]
            row = {
                "population": POPULATIONS[population],
                "metric": NAMES[name],
                "start": number(float(shipped[0])),
                "end": number(float(shipped[-1])),
            }
            row |= {order: number(float(drawn[f"{order}_{name}"].mean())) for order in ("shipped", "random", "oracle")}
            rows.append(row | {"least": number(float(shipped.min()))})
    return rows
