"""Fitting one h in one world and carrying both samples over, once for every combination.

A world is an old and a new version on the same data. Legend: N rows of a sample, E dimensions of φ_new.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.lab import Lab
from benchmarks.quality.models import ModelSpec, embed, head_rows, model, phi
from benchmarks.quality.sides import PICTURE, SideSpec, best_thumbnail, codes, preview
from fct import forward
from fct.forward.settings import AUTO, CLOSED, FitSettings, published, recipe

SAMPLES = ("validation", "test")


@dataclass(frozen=True)
class World:
    """Two versions and the data they are judged on."""

    lab: Lab
    old: ModelSpec
    new: ModelSpec


@dataclass(frozen=True)
class Recipe:
    """How h is fitted: the method, what it is given, its seed. ``images``: the first so many fitting images (0 = all).

    ``labelled``: with the labels, and the head of the new model.
    """

    method: str
    side: SideSpec | None = None
    pool: bool = False
    preview: bool = False
    seed: int = 0
    images: int = 0
    labelled: bool = True


SHIPPED = Recipe("shipped", PICTURE, pool=True, preview=True)


def settings_of(lab: Lab, method: str, rows: int) -> FitSettings:
    """The shipped recipe, a published one with its 80 epochs of one view an image, or a closed form.

    FastFill's cross-entropy has the weight 1, as in its paper; the other published ones differ from FCT's in their loss.
    """
    if method == "shipped":
        found = recipe(FitSettings().method, rows)
    elif method == AUTO:
        found = recipe(AUTO, rows)
    elif method in CLOSED:
        found = FitSettings(method=method)
    else:
        found = replace(
            published("fct", FitSettings(), lab.effort.views),
            method=method,
            head_weight=1.0 if method == "fastfill" else 0.0,
            uncertainty=method == "fastfill",
        )
    return replace(found, epochs=min(found.epochs, lab.effort.fit_epochs)) if lab.effort.fit_epochs else found


def side_of(world: World, wanted: Recipe, part: str) -> np.ndarray | None:
    """What h is given as side-information: ψ, or ψ and preview."""
    if wanted.side is None:
        return None
    psi = codes(world.lab, world.old, wanted.side, part)
    if not wanted.preview:
        return psi
    return np.concatenate([psi.astype(np.float16), preview(world.lab, world.old, world.new, wanted.side, part)], axis=1)


def fit(world: World, wanted: Recipe) -> forward.Forward:
    """Fit h by :func:`fct.forward.fit` on the fitting images of a world (and its pool)."""
    lab = world.lab
    views, images = sum(lab.counts("fitting")), len(lab.data.parts["fitting"].ids)
    rows = np.arange(images * views)
    if wanted.images:
        few = np.random.default_rng(0).permutation(images)[: wanted.images]
        rows = np.flatnonzero(np.isin(rows % images, few))
    side = side_of(world, wanted, "fitting")
    pool: dict[str, Any] = {}
    if wanted.pool:
        pool = {"pool_old": phi(lab, world.old, "pool"), "pool_new": phi(lab, world.new, "pool")}
        if side is not None:
            pool["pool_side"] = side_of(world, wanted, "pool")
    return forward.fit(
        phi(lab, world.old, "fitting")[rows],
        phi(lab, world.new, "fitting")[rows],
        side=side[rows] if side is not None else None,
        labels=head_rows(lab, world.new)[rows] if wanted.labelled else None,
        sources=np.tile(lab.data.parts["fitting"].ids, views)[rows],
        head=model(lab, world.new).head if wanted.labelled else None,
        settings=settings_of(lab, wanted.method, len(rows)),
        seed=wanted.seed,
        device=lab.device,
        title=wanted.method,
        **pool,
    )


def _that_matter(lab: Lab, wanted: Recipe) -> dict[str, Any]:
    """The settings on which a fit depends: only the shipped method can have a linear member."""
    settings = asdict(settings_of(lab, wanted.method, 10**6))
    return settings if wanted.method == "shipped" else {name: value for name, value in settings.items() if name != "linear_member"}


def carry(world: World, wanted: Recipe) -> dict[str, np.ndarray]:
    """Both samples carried over by one fit: ``validation``, ``test`` (N, E) float16, ``sigma_…`` (N,), ``…_top1``, ``…_mAP``, ``seconds``, ``method``."""
    lab = world.lab
    settings = _that_matter(lab, wanted)

    def compute() -> dict[str, np.ndarray]:
        started = time.perf_counter()
        h = fit(world, wanted)
        arrays = {"seconds": np.array(time.perf_counter() - started), "method": np.array(h.method)}
        for part in SAMPLES:
            carried, sigma = h.transform(phi(lab, world.old, part), side_of(world, wanted, part), device=lab.device)
            arrays |= {part: carried.astype(np.float16), f"sigma_{part}": sigma}
            found = judge.search(lab.data.parts[part], phi(lab, world.new, part), arrays[part])
            arrays |= {f"{part}_{name}": value for name, value in found.items()}
        return arrays

    return lab.cached("carried", [world.old.key, world.new.key, asdict(wanted), settings], compute)


def values(world: World, wanted: Recipe, part: str) -> judge.Values:
    """Per-query values of new/h(old)."""
    arrays = carry(world, wanted)
    return {name: arrays[f"{part}_{name}"] for name in judge.NAMES}


def native(world: World, part: str) -> dict[str, judge.Values]:
    """``old/old`` and ``new/new``."""

    def one(spec: ModelSpec) -> judge.Values:
        rows = phi(world.lab, spec, part)
        return world.lab.cached("native", [spec.key, part], lambda: judge.search(world.lab.data.parts[part], rows, rows))

    return {"old/old": one(world.old), "new/new": one(world.new)}


def thumbnail(world: World, budget: int) -> dict[str, np.ndarray]:
    """v2 on the best thumbnail of so many bytes, chosen on validation: ``…_top1``, ``…_mAP``, ``side``, ``bits``."""
    lab = world.lab

    def compute() -> dict[str, np.ndarray]:
        net = model(lab, world.new).net
        query = {part: phi(lab, world.new, part) for part in SAMPLES}

        def score(images: np.ndarray) -> float:
            return float(judge.search(lab.data.parts["validation"], query["validation"], embed(lab, net, images))["mAP"].mean())

        best = best_thumbnail(lab, budget, score)
        arrays = {"side": np.array(best.side), "bits": np.array(best.bits)}
        for part in SAMPLES:
            found = judge.search(lab.data.parts[part], query[part], embed(lab, net, best.apply(lab.data.parts[part].images)))
            arrays |= {f"{part}_{name}": value for name, value in found.items()}
        return arrays

    return lab.cached("thumbnail", [world.new.key, budget], compute)
