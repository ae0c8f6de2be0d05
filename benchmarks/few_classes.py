"""How often a lower bound lies above the truth where classes are few, and how often a change is seen, by simulation.

    python -m benchmarks.few_classes [--draws 10000]

A verdict is simulated by its classes' sums: 30 queries a class on average, of equal or unequal number. The truth scatters by query alone,
from class to class as well, or from class to class alone. Beside the bound stand a bootstrap that draws classes with replacement, which the
gates had before, and a t test on class means. A minute or two on one core. Results go to benchmarks/results/few_classes.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from fct.search.intervals import LEVEL, lower_bound, recovered, totals

OUT = Path(__file__).parent / "results/few_classes.json"
CLASSES = (5, 6, 8, 20, 100)
MEAN_SIZE, RESAMPLES, BLOCK = 30, 2000, 1000
SIZES: dict[str, Callable[[int], np.ndarray]] = {
    "equal": lambda c: np.full(c, 1.0),
    "1 to 5": lambda c: np.linspace(1, 5, c),
    "1/rank": lambda c: 1 / np.arange(1, c + 1),
}
# of top-1's change: how many queries of a hundred change sides, and how far classes differ
TOP1 = {"queries": (0.2, 0.0), "queries and classes": (0.2, 0.08)}
RHO, GAIN = 0.75, 0.2


def sizes_of(kind: str, classes: int) -> np.ndarray:
    """(C,) queries of each class, at least 2."""
    raw = SIZES[kind](classes)
    return np.maximum(2, np.rint(MEAN_SIZE * classes * raw / raw.sum()))


def spread(noise: str, sizes: np.ndarray) -> np.ndarray:
    """(C,) the standard deviation of each class's mean change."""
    if noise == "classes":
        return np.full(len(sizes), 0.1)
    moved, between = TOP1[noise]
    return np.sqrt(between**2 + (moved - between**2) / sizes)


def changes(noise: str, sizes: np.ndarray, shift: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(V, C) mean change of each class in each verdict, ``shift`` on average."""
    if noise == "classes":
        return shift + 0.1 * rng.normal(size=(draws, len(sizes)))
    moved, between = TOP1[noise]
    mean = np.clip(shift + between * rng.normal(size=(draws, len(sizes))), -moved, moved)
    count = rng.binomial(sizes.astype(int), moved, size=mean.shape)
    return (2 * rng.binomial(count, 0.5 + mean / (2 * moved)) - count) / sizes


def above(effects: np.ndarray, sizes: np.ndarray, truth: float = 0.0, gain: np.ndarray | None = None) -> float:
    """Share of the verdicts (V, C) whose lower bound is above ``truth``; with a ``gain`` (V, C), that of ρ = effects / gain."""
    inside = totals(np.eye(len(sizes)), 0)
    found = 0
    for start in range(0, len(effects), BLOCK):
        part = slice(start, start + BLOCK)
        draws = (effects[part] * sizes) @ inside.T / (inside @ sizes)
        if gain is not None:
            new = (gain[part] * sizes) @ inside.T / (inside @ sizes)
            draws = np.asarray(recovered({"old": np.zeros(1), "carried": draws, "new": new}, "old", "carried", "new"))
        found += sum(lower_bound(row) > truth for row in draws)
    return found / len(effects)


def above_before(effects: np.ndarray, sizes: np.ndarray) -> float:
    """The same of the percentile bootstrap that draws classes with replacement."""
    count = len(sizes)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
    place, found = round((1 - LEVEL) * RESAMPLES) - 1, 0
    for start in range(0, len(effects), BLOCK):
        draws = (effects[start : start + BLOCK] * sizes) @ weights.T / (weights @ sizes)
        found += int((np.partition(draws, place, axis=1)[:, place] > 0).sum())
    return found / len(effects)


def t_test(effects: np.ndarray) -> float:
    """Share of the verdicts (V, C) in which a t test on class means sees a change for the better."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = effects.mean(axis=1) / effects.std(axis=1, ddof=1) * effects.shape[1] ** 0.5
    return float((t > stats.t.ppf(LEVEL, effects.shape[1] - 1)).mean())


def judge(classes: int, kind: str, noise: str, draws: int) -> dict[str, float | int | str]:
    rng = np.random.default_rng([classes, *SIZES[kind](3).astype(int), len(noise)])
    sizes = sizes_of(kind, classes)
    sd, share = spread(noise, sizes), sizes / sizes.sum()
    of_queries, of_classes = float(np.sqrt((share**2 * sd**2).sum())), float(np.sqrt((sd**2).mean() / classes))
    none = changes(noise, sizes, 0.0, draws, rng)
    changed = changes(noise, sizes, 2 * of_queries, draws, rng)
    gain = GAIN + 0.05 * rng.normal(size=none.shape)
    return {
        "classes": classes,
        "sizes": kind,
        "scatter": noise,
        "error": above(none, sizes),
        "error before": above_before(none, sizes),
        "error of ρ": above(RHO * gain + none, sizes, RHO, gain),
        "power": above(changed, sizes),
        "power of t": t_test(changes(noise, sizes, 2 * of_classes, draws, rng)),
        "power of t, same queries": t_test(changed),
    }


def lopsided(classes: int, draws: int) -> dict[str, float | int]:
    """Where nothing changes on average because most classes gain a little and a few lose much (exponentially): no method here holds."""
    effects = 0.1 * (1 - np.random.default_rng(classes).exponential(size=(draws, classes)))
    return {"classes": classes, "error": above(effects, np.full(classes, float(MEAN_SIZE))), "error of t": t_test(effects)}


def table(rows: Sequence[Mapping[str, float | int | str]]) -> str:
    """In Markdown, percentages."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(f'{100 * x:.1f}' if isinstance(x, float) else str(x) for x in row.values())} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=10_000)
    draws = parser.parse_args().draws
    rows = [judge(classes, kind, noise, draws) for kind in SIZES for noise in (*TOP1, "classes") for classes in CLASSES]
    uneven = [lopsided(classes, draws) for classes in CLASSES]
    print(table(rows), table(uneven), sep="\n\n")
    OUT.write_text(
        json.dumps({"draws": draws, "rows": rows, "a few lose much": uneven}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
