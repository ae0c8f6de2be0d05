"""How often the gate ``worst_class`` passes, by simulation: ``python -m benchmarks.worst_class [--draws 200]``. A minute or two.

26 groups of 32 queries, as the demo has them; in each, nine queries of a hundred change sides (more where the effect needs it). Beside the
gate stands the rule without shrinking: the least mean against the same bound. Results go to benchmarks/results/worst_class.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from fct.search.intervals import Estimate
from registry.params import read
from registry.verdicts.deciding import decide
from registry.verdicts.gates import worst_class
from registry.verdicts.gates.worst_class import worst_groups
from registry.verdicts.settings import GateSettings

OUT = Path(__file__).parent / "results/worst_class.json"
GROUPS, MANY, EACH, MOVES = 26, 200, 32, 0.09
WORLDS = {
    "every group gains 0.03": [0.03] * GROUPS,
    "no group changes": [0.0] * GROUPS,
    "one loses 0.1, the others gain 0.03": [0.03] * (GROUPS - 1) + [-0.1],
    "one loses 0.2, the others gain 0.03": [0.03] * (GROUPS - 1) + [-0.2],
    "one loses 0.3, the others gain 0.03": [0.03] * (GROUPS - 1) + [-0.3],
    "three lose 0.2, the others gain 0.03": [0.03] * (GROUPS - 3) + [-0.2] * 3,
    "every group loses 0.1": [-0.1] * GROUPS,
    "200 groups, all gain 0.03": [0.03] * MANY,
    "one of 200 loses 0.3, the others gain 0.03": [0.03] * (MANY - 1) + [-0.3],
}


def draw(effects: list[float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    share = np.repeat(np.asarray(effects), EACH)
    moves = np.maximum(MOVES, np.abs(share))
    moved, gains = rng.random(share.shape) < moves, rng.random(share.shape) < 0.5 + share / (2 * moves)
    labels = np.repeat([f"{g:03}" for g in range(len(effects))], EACH)
    old, new = np.where(moved & gains, 0.0, 1.0), np.where(moved & ~gains, 0.0, 1.0)
    return {"labels": labels, "populations": np.full(len(labels), "known"), "oo_top1": old, "nh_top1": new}


def outcome(values: dict[str, np.ndarray], settings: GateSettings) -> str:
    (found,) = worst_class.measure(values, settings, 0)
    return decide([found], {found.key: found.value >= found.bound})[0].outcome


def plain(groups: list[tuple[list[str], Estimate, float]], settings: GateSettings) -> bool:
    return min(estimate.value for _, estimate, _ in groups) >= -settings.worst_class_tolerance


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=200)
    draws, settings, results = parser.parse_args().draws, read().validate, {}
    for name, effects in WORLDS.items():
        drawn = [draw(effects, np.random.default_rng(seed)) for seed in range(draws)]
        found = [outcome(values, settings) for values in drawn]
        without = [plain(worst_groups(values, settings.worst_class_queries, 0), settings) for values in drawn]
        results[name] = {each: found.count(each) / draws for each in ("passed", "inconclusive", "refused")} | {
            "passed without shrinking": sum(without) / draws
        }
        print(f"{name:44}", ", ".join(f"{key} {value:.2f}" for key, value in results[name].items()), flush=True)
    OUT.write_text(json.dumps({"draws": draws, "groups": GROUPS, "queries": EACH, "worlds": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
