"""The suite ``backfill``: what the order in which items are recomputed is worth, on known and on unseen classes.

Legend: N rows of a sample, Q queries, E dimensions of φ_new, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.fits import SHIPPED, Recipe, World, carry
from benchmarks.quality.lab import Lab
from benchmarks.quality.methods import Numbers, world_of
from benchmarks.quality.models import model, phi
from benchmarks.quality.sides import PICTURE
from fct.arrays import vectors
from fct.forward import uncertainty
from fct.search import order
from fct.search.intervals import Bootstrap, difference

STEPS = 11
RANDOM = 5
RECIPES = {"shipped": SHIPPED, "fastfill + ψ": Recipe("fastfill", PICTURE), "fct + ψ": Recipe("fct", PICTURE)}


def uncertainties(world: World, wanted: Recipe, part: str, seeds: list[int]) -> dict[str, np.ndarray]:
    """Name → (N,), larger = backfill first: the σ that the order of that h uses, and others of the same h."""
    members = [carry(world, replace(wanted, seed=seed))[part].astype(np.float32) for seed in seeds]
    unit = np.stack([vectors.normalise(one) for one in members])
    disagreement = ((unit - unit.mean(axis=0)) ** 2).sum(axis=(0, 2))
    unsure = uncertainty.unsure(members[0], model(world.lab, world.new).head)
    sigma = carry(world, replace(wanted, seed=seeds[0]))[f"sigma_{part}"]
    if wanted.method == "shipped":
        sigma = sigma / unsure  # what the shipped h gives is the product
    return {
        "σ": sigma,
        "σ × (1 − head-confidence)": sigma * unsure,
        "head-confidence": unsure,
        "ensemble disagreement": disagreement,
        "rank(disagreement) + rank(head-confidence)": _rank(disagreement) + _rank(unsure),
    }


def _rank(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(np.float64)


def curves_of(lab: Lab, v1: str, recipe: str, seeds: list[int]) -> Numbers:
    """Curve, AUC, its lead over random orders, and the dip, of every order; both samples."""
    world = world_of(lab, v1)
    wanted = RECIPES[recipe]
    out: Numbers = {"beta": [round(float(b), 3) for b in np.linspace(0, 1, STEPS)], "random_orders": RANDOM}
    for part in ("validation", "test"):
        carried, native = (
            carry(world, replace(wanted, seed=seeds[0]))[part].astype(np.float32),
            phi(lab, world.new, part).astype(np.float32),
        )
        named = {name: order.by_uncertainty(values) for name, values in uncertainties(world, wanted, part, seeds).items()}
        named["oracle"] = order.oracle_order(carried, native)
        out[part] = measure(lab, part, carried, native, named)
    return out


def measure(lab: Lab, part: str, carried: np.ndarray, native: np.ndarray, named: dict[str, np.ndarray]) -> Numbers:
    """Population → order → ``curve``, ``auc``, ``gain`` (AUC above random's, with interval) and ``dip``, by metric."""
    images = lab.data.parts[part]
    found = order.curves(
        native,
        carried,
        native,
        [*named.values(), *order.random_orders(len(native), RANDOM, 0)],
        images.labels,
        images.labels,
        steps=STEPS,
        query_ids=images.ids,
        gallery_ids=images.ids,
        query_sources=images.sources,
        gallery_sources=images.sources,
        title=f"{part}: curves",
    )
    rows = found[0].rows
    values = {name: curve.values for name, curve in zip(named, found, strict=False)}
    values["random"] = {m: np.mean([curve.values[m] for curve in found[len(named) :]], axis=0) for m in judge.NAMES}
    out: Numbers = {}
    for population in sorted(set(images.populations[rows].tolist())):
        chosen = images.populations[rows] == population
        clusters = images.labels[rows][chosen]
        clusters = clusters if len(set(clusters.tolist())) >= judge.FEWEST_CLUSTERS else images.ids[rows][chosen]
        aucs = {f"{name} {m}": by[m][:, chosen].mean(axis=0) for name, by in values.items() for m in judge.NAMES}
        boot = Bootstrap(aucs, clusters)
        out[population] = {"queries": int(chosen.sum()), "orders": {}}
        for name, by in values.items():
            curve = {m: by[m][:, chosen].mean(axis=1) for m in judge.NAMES}
            out[population]["orders"][name] = {
                "curve": {m: [round(float(x), 5) for x in curve[m]] for m in curve},
                "auc": {m: judge.as_list(boot.mean(f"{name} {m}")) for m in curve},
                "gain": {m: judge.as_list(boot.estimate(difference(f"{name} {m}", f"random {m}"))) for m in curve},
                "dip": {m: round(float(curve[m].min() - min(curve[m][0], curve[m][-1])), 5) for m in curve},
            }
    return out
