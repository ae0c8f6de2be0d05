"""What each suite computes: a list of cells, each of which becomes one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.quality import backfilling, grid, methods, protocols
from benchmarks.quality.lab import Lab
from fct.arrays import digests
from fct.forward.settings import FitSettings, published

FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "references": methods.references,
    "closed": methods.closed,
    "equal-dims": methods.equal_dims,
    "bare": methods.bare,
    "learned": methods.learned,
    "shipped": methods.shipped,
    "sides": methods.sides,
    "bct": methods.bct,
    "grid": grid.one,
    "grid-summary": grid.summary,
    "backfill": backfilling.curves_of,
    "changed": protocols.changed,
    "chain": protocols.chain,
    "learning": protocols.learning,
    "fairness": protocols.fairness,
    "biased": protocols.biased,
    "not-better": protocols.not_better,
}
SEEDS = [0, 1, 2]
LEARNED = ("fct", "fastfill", "contrastive", "mixed")
LEARNING = (250, 500, 1000, 0)


@dataclass(frozen=True)
class Cell:
    """``name``: the row's. ``function``: a key of FUNCTIONS, called with the lab and ``arguments``. ``last``: after all others."""

    suite: str
    name: str
    data: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    last: bool = False

    def spec(self, lab: Lab) -> dict[str, Any]:
        """Everything that the numbers depend on but the code."""
        recipes = {"shipped": asdict(FitSettings()), "published": asdict(published("fct", FitSettings(), lab.effort.views))}
        for recipe in recipes.values():
            del recipe["precision"]  # of the machine: h differs by less than between seeds (benchmarks/precision.py)
        return {
            "function": self.function,
            "arguments": self.arguments,
            "data": self.data,
            "data_digest": lab.data.digest,
            "effort": asdict(lab.effort),
            "architecture": lab.architecture,
            "recipes": recipes,
        }

    def digest(self, lab: Lab) -> str:
        return digests.of_json(self.spec(lab))


def method_cells(data: str, worlds: tuple[str, ...]) -> list[Cell]:
    cells = []
    for v1 in worlds:
        cells += [
            Cell("methods", f"{data}-{v1}-shipped", data, "shipped", {"v1": v1}),
            *(Cell("methods", f"{data}-{v1}-{name}", data, "learned", {"v1": v1, "method": name}) for name in LEARNED),
            Cell("methods", f"{data}-{v1}-closed", data, "closed", {"v1": v1}),
            Cell("methods", f"{data}-{v1}-references", data, "references", {"v1": v1}),
            Cell("methods", f"{data}-{v1}-bct", data, "bct", {"v1": v1}),
            Cell("methods", f"{data}-{v1}-bare", data, "bare", {"v1": v1}),
        ]
    v1 = worlds[0]
    return [
        *cells,
        Cell("methods", f"{data}-{v1}-sides", data, "sides", {"v1": v1}),
        Cell("methods", f"{data}-{v1}-equal-dims", data, "equal-dims", {"v1": v1}),
    ]


def grid_cells(data: str) -> list[Cell]:
    cells = []
    for seed in SEEDS:
        for v1 in ("strong", "weak"):
            for h in SEEDS:
                arguments: dict[str, Any] = {"v1": v1, "seed": seed, "h_seed": h, "budget": 128, "rivals": True}
                cells.append(Cell("grid", f"{data}-{v1}-{seed}-h{h}-128", data, "grid", arguments))
    for budget in (64, 256, 512):
        for seed in SEEDS:
            for v1 in ("strong", "weak"):
                arguments = {"v1": v1, "seed": seed, "h_seed": 0, "budget": budget, "rivals": False}
                cells.append(Cell("grid", f"{data}-{v1}-{seed}-h0-{budget}", data, "grid", arguments))
    for budget in (128, 64, 256, 512):
        for v1 in ("strong", "weak"):
            full = budget == 128
            arguments = {"v1": v1, "seeds": SEEDS, "h_seeds": SEEDS if full else [0], "budget": budget, "rivals": full}
            cells.append(Cell("grid", f"{data}-{v1}-summary-{budget}", data, "grid-summary", arguments, last=True))
    return cells


def protocol_cells(data: str) -> list[Cell]:
    cells = [
        *(Cell("protocols", f"{data}-{_file(change)}", data, "changed", {"change": change}) for change in protocols.CHANGES),
        Cell("protocols", f"{data}-chain", data, "chain"),
        *(Cell("protocols", f"{data}-not-better-{kind}", data, "not-better", {"kind": kind}) for kind in ("worse", "equal")),
        *(Cell("protocols", f"{data}-fairness-{v1}", data, "fairness", {"v1": v1, "recipe": "shipped"}) for v1 in ("strong", "weak")),
        Cell("protocols", f"{data}-fairness-strong-fct", data, "fairness", {"v1": "strong", "recipe": "fct + ψ"}),
        Cell("protocols", f"{data}-biased", data, "biased"),
    ]
    sizes = LEARNING if data == "icons" else (100, 250, 0)
    return [*cells, *(Cell("protocols", f"{data}-pairs-{n or 'all'}", data, "learning", {"images": n}) for n in sizes)]


def _file(change: str) -> str:
    return change.replace("→", "-to-").replace(" ", "-").lower()


def backfill_cells(data: str, worlds: tuple[str, ...]) -> list[Cell]:
    return [
        Cell("backfill", f"{data}-{v1}-{recipe.split(' ')[0]}", data, "backfill", {"v1": v1, "recipe": recipe, "seeds": SEEDS})
        for v1 in worlds
        for recipe in ("shipped", "fastfill + ψ", "fct + ψ")
    ]


def cells(data: str) -> list[Cell]:
    """All cells of a data set, in the order in which they are computed. Folders of one's own get the suites methods and backfill."""
    both = ("strong", "weak")
    if data == "icons":
        return [*method_cells(data, both), *grid_cells(data), *backfill_cells(data, both), *protocol_cells(data)]
    if data == "digits":
        return [*method_cells(data, ("weak", "strong")), *backfill_cells(data, both), *protocol_cells(data), TINY]
    found = [*method_cells(data, ("strong",)), *backfill_cells(data, ("strong",))]
    if data == "emoji":  # a ResNet-18 is slow here: what the shipped default must be ahead of, and the order of its backfill
        return [cell for cell in found if cell.name.endswith(("-shipped", "-fct", "-fastfill", "-closed", "-references", "-bare"))]
    return found


TINY = Cell("tiny", "digits-ridge", "digits", "equal-dims", {"v1": "weak"})  # what a test computes again


def quick_cells() -> list[Cell]:
    """A few cells of small effort on both sets, to see that everything runs."""
    return [
        Cell("quick", "digits-weak-fct", "digits", "learned", {"v1": "weak", "method": "fct"}),
        Cell("quick", "digits-weak-closed", "digits", "closed", {"v1": "weak"}),
        Cell("quick", "icons-strong-closed", "icons", "closed", {"v1": "strong"}),
        Cell("quick", "icons-strong-fastfill", "icons", "learned", {"v1": "strong", "method": "fastfill"}),
        Cell("quick", "icons-strong-references", "icons", "references", {"v1": "strong"}),
    ]
