"""The suite ``grid``: seeds of embedders × seeds of h × weak and strong v1 × bytes, and what all of it says together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.fits import SAMPLES, SHIPPED, Recipe, World, carry, native, thumbnail, values
from benchmarks.quality.lab import Lab
from benchmarks.quality.methods import Numbers, tables, world_of
from benchmarks.quality.sides import PICTURE, SideSpec

RIVALS = {
    "fct + ψ": Recipe("fct", PICTURE),
    "fastfill + ψ": Recipe("fastfill", PICTURE),
    "ridge + ψ + pool": Recipe("ridge", PICTURE, pool=True),
    "ridge + ψ + preview + pool": Recipe("ridge", PICTURE, pool=True, preview=True),
}


def _named(seed: int, side: SideSpec, rivals: bool) -> dict[str, Recipe]:
    named = {"shipped": SHIPPED, **(RIVALS if rivals else {"ridge + ψ + preview + pool": RIVALS["ridge + ψ + preview + pool"]})}
    closed = {"ridge + ψ + pool", "ridge + ψ + preview + pool"}  # the same whatever the seed
    return {name: replace(wanted, side=side, seed=0 if name in closed else seed) for name, wanted in named.items()}


def _found(world: World, named: dict[str, Recipe], budget: int, part: str) -> dict[str, judge.Values]:
    small = thumbnail(world, budget)
    found = {name: values(world, wanted, part) for name, wanted in named.items()}
    return found | {"thumbnail of equal bytes": {name: small[f"{part}_{name}"] for name in judge.NAMES}}


def one(lab: Lab, v1: str, seed: int, h_seed: int, budget: int, rivals: bool) -> Numbers:
    """One world, one seed of h, one number of bytes."""
    world, side = world_of(lab, v1, seed), SideSpec(("picture",), budget)
    named = _named(h_seed, side, rivals)
    pairs = tuple(("shipped", name) for name in (*named, "thumbnail of equal bytes") if name != "shipped")
    small = thumbnail(world, budget)
    about: dict[str, Any] = {"thumbnail": {"side": int(small["side"]), "bits": int(small["bits"])}}
    about["seconds_of_fit"] = {name: round(float(carry(world, wanted)["seconds"]), 1) for name, wanted in named.items()}
    return tables(world, lambda part: _found(world, named, budget, part), pairs) | about


def summary(lab: Lab, v1: str, seeds: list[int], h_seeds: list[int], budget: int, rivals: bool) -> Numbers:
    """All seeds together: each query's mean over them, then intervals over classes; and how far ρ moves from seed to seed."""
    side = SideSpec(("picture",), budget)
    out: Numbers = {}
    for part in SAMPLES:
        found: dict[str, list[judge.Values]] = {}
        spread: dict[str, dict[str, list[float]]] = {}
        for seed in seeds:
            world = world_of(lab, v1, seed)
            for h_seed in h_seeds:
                cell = native(world, part) | _found(world, _named(h_seed, side, rivals), budget, part)
                for name, one_found in cell.items():
                    found.setdefault(name, []).append(one_found)
                _spread(lab, part, cell, spread)
        means = {name: judge.mean_values(many) for name, many in found.items()}
        pairs = tuple(("shipped", name) for name in means if name not in ("shipped", "old/old", "new/new"))
        out[part] = judge.table(lab.data.parts[part], means, pairs)
        for population, table in out[part].items():
            table["spread"] = {name: many for name, many in spread.items() if name.startswith(f"{population} ")}
    return out


def _spread(lab: Lab, part: str, cell: dict[str, judge.Values], spread: dict[str, dict[str, list[float]]]) -> None:
    rows = judge.counting_rows(lab.data.parts[part])
    populations = lab.data.parts[part].populations[rows]
    for population in sorted(set(populations.tolist())):
        mean = {(name, m): float(v[m][populations == population].mean()) for name, v in cell.items() for m in judge.NAMES}
        for name in cell:
            if name in ("old/old", "new/new"):
                continue
            for metric in judge.NAMES:
                gain = mean["new/new", metric] - mean["old/old", metric]
                ratio = (mean[name, metric] - mean["old/old", metric]) / gain if gain > 0 else float("nan")
                many = spread.setdefault(f"{population} {name}", {}).setdefault(f"ρ {metric}", [])
                if np.isfinite(ratio):
                    many.append(round(ratio, 4))
