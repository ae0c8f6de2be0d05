"""The suite ``protocols``: other ways in which a new version can differ from the old one, and what else can go wrong in an upgrade.

Every protocol is judged with the shipped recipe, FCT with ψ, and ridge with ψ, on the same pairs. Legend: N rows of a sample.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.fits import SAMPLES, SHIPPED, Recipe, World, carry, fit, native, settings_of, side_of, values
from benchmarks.quality.lab import Lab
from benchmarks.quality.methods import Numbers, compare, tables, world_of
from benchmarks.quality.models import chosen, new_spec, old_spec, phi
from benchmarks.quality.sides import PICTURE
from fct.arrays import vectors
from fct.search import order
from fct.search.intervals import Bootstrap, difference

THREE = {"shipped": SHIPPED, "fct + ψ": Recipe("fct", PICTURE), "ridge + ψ + pool": Recipe("ridge", PICTURE, pool=True)}
TOP = 10
SHIFTS = np.linspace(-0.1, 0.1, 21)  # of a cosine


def changed(lab: Lab, change: str) -> Numbers:
    """v1 and v2 differ in one thing; see :func:`_world` for which."""
    world = _world(lab, change)
    numbers = compare(world, THREE)
    rows = {name: chosen(lab, spec) for name, spec in (("old", world.old), ("new", world.new))}
    about = {name: {"images": len(found[0]), "classes": len(found[1])} for name, found in rows.items()}
    shared = len(set(rows["old"][1]) & set(rows["new"][1]))
    settings = {name: [s.settings.architecture, s.settings.loss, s.settings.dim] for name, s in (("old", world.old), ("new", world.new))}
    return numbers | {"trained_on": about, "shared_classes": shared, "embedders": settings}


def _world(lab: Lab, change: str) -> World:
    strong, new = old_spec(lab, "strong", 0), new_spec(lab, 0)
    resnet: dict[str, Any] = {"architecture": "small-resnet", "weight_decay": 0.1, "label_smoothing": 0.2}
    worlds = {
        "more classes": (strong, new),
        "more data": (replace(old_spec(lab, "strong", 0, classes=1.0), choose="half-images"), new),
        "architecture CNN→ResNet": (old_spec(lab, "weak", 0, classes=1.0), new),
        "architecture ResNet→ViT": (old_spec(lab, "strong", 0, **resnet), new_spec(lab, 0, architecture="small-vit", weight_decay=0.05)),
        "architecture CNN→ViT": (old_spec(lab, "weak", 0), new_spec(lab, 0, architecture="small-vit", weight_decay=0.05)),
        "loss softmax→arcface": (old_spec(lab, "strong", 0), new_spec(lab, 0, loss="arcface")),
        "loss arcface→contrastive": (old_spec(lab, "strong", 0, loss="arcface"), new_spec(lab, 0, loss="supervised-contrastive")),
        "dimension 128→64": (old_spec(lab, "strong", 0, dim=128), new_spec(lab, 0, dim=64)),
        "disjoint classes and sources": (
            replace(old_spec(lab, "weak", 0, classes=1.0), choose="first-half"),
            replace(new, choose="second-half"),
        ),
    }
    return World(lab, *worlds[change])


CHANGES = (
    "more classes",
    "more data",
    "architecture CNN→ResNet",
    "architecture ResNet→ViT",
    "architecture CNN→ViT",
    "loss softmax→arcface",
    "loss arcface→contrastive",
    "dimension 128→64",
    "disjoint classes and sources",
)


def chain(lab: Lab) -> Numbers:
    """v1→v2→v3: h(1→3) straight from native, h(2→3)∘h(1→2), and new/new, which is what backfill ends at."""
    first, second, third = old_spec(lab, "weak", 0), old_spec(lab, "strong", 0, classes=0.75), new_spec(lab, 0)
    direct, lower, upper = World(lab, first, third), World(lab, first, second), World(lab, second, third)
    named = {"shipped": SHIPPED, "ridge + ψ + pool": Recipe("ridge", PICTURE, pool=True)}

    def composed(wanted: Recipe, part: str) -> judge.Values:
        def compute() -> dict[str, np.ndarray]:
            h = fit(upper, wanted)
            rows: dict[str, np.ndarray] = {}
            for sample in SAMPLES:
                middle = carry(lower, wanted)[sample].astype(np.float32)
                out, _ = h.transform(middle, side_of(upper, wanted, sample), device=lab.device)
                found = judge.search(lab.data.parts[sample], phi(lab, third, sample), out)
                rows |= {f"{sample}_{name}": value for name, value in found.items()}
            return rows

        key = [first.key, second.key, third.key, asdict(wanted), asdict(settings_of(lab, wanted.method, 10**6))]
        arrays = lab.cached("composed", key, compute)
        return {name: arrays[f"{part}_{name}"] for name in judge.NAMES}

    def found(part: str) -> dict[str, judge.Values]:
        rows = {f"direct, {name}": values(direct, wanted, part) for name, wanted in named.items()}
        return rows | {f"composed, {name}": composed(wanted, part) for name, wanted in named.items()}

    return tables(direct, found, tuple((f"direct, {name}", f"composed, {name}") for name in named))


def learning(lab: Lab, images: int) -> Numbers:
    """So many fitting images (0 = all); the pool stays as it is."""
    named = {name: replace(wanted, images=images) for name, wanted in THREE.items()}
    named["ridge + ψ"] = replace(named["ridge + ψ + pool"], pool=False)
    return compare(world_of(lab, "strong"), named, beside=False)


def fairness(lab: Lab, v1: str, recipe: str) -> Numbers:
    """Do native and carried rows rank fairly in one gallery, half of it native at random, and what does a calibration do?

    Fair: among the ten nearest wrong answers, as many are native as in the gallery. ``shift`` is added to the cosine of every carried
    row; ``scale`` multiplies it. Both are chosen on validation, by mAP.
    """
    world, wanted = world_of(lab, v1), THREE[recipe]
    out: Numbers = {}
    mixes = {part: _mix(lab, world, wanted, part) for part in SAMPLES}
    score = {s: _calibrated(lab, world, mixes["validation"], "validation", 1.0, float(s))["mAP"].mean() for s in SHIFTS}
    shift = float(max(score, key=lambda s: (score[s], -abs(s))))
    moments = _moments(lab, world, mixes["validation"], "validation")
    for part in SAMPLES:
        mixed, is_native = mixes[part]
        found = {
            "mixed": judge.search(lab.data.parts[part], phi(lab, world.new, part), mixed),
            "mixed, shift": _calibrated(lab, world, mixes[part], part, 1.0, shift),
            "mixed, wrong scores alike": _calibrated(lab, world, mixes[part], part, *moments),
            "all carried": values(world, wanted, part),
        }
        pairs = (("mixed, shift", "mixed"), ("mixed, wrong scores alike", "mixed"))
        out[part] = judge.table(lab.data.parts[part], native(world, part) | found, pairs)
        for population, shares in _native_shares(lab, world, part, mixed, is_native).items():
            out[part][population]["native_share"] = shares
    return out | {"shift": round(shift, 4), "scale_and_shift": [round(x, 4) for x in moments]}


def _mix(lab: Lab, world: World, wanted: Recipe, part: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, E) L2-normalised, half of the rows native; and which, (N,) bool."""
    rows = len(lab.data.parts[part].ids)
    is_native = np.random.default_rng(0).permutation(rows) < rows // 2
    pure, carried = (vectors.normalise(a.astype(np.float32)) for a in (phi(lab, world.new, part), carry(world, wanted)[part]))
    return np.where(is_native[:, None], pure, carried), is_native


def _calibrated(lab: Lab, world: World, mix: tuple[np.ndarray, np.ndarray], part: str, scale: float, shift: float) -> judge.Values:
    """Search with scale·cosine + shift for carried rows: one more column for the shift, one that makes all rows equally long.

    With equally long rows the L2 order is that of the products.
    """
    mixed, is_native = mix
    query = vectors.normalise(phi(lab, world.new, part).astype(np.float32))
    rows = np.concatenate([np.where(is_native[:, None], mixed, scale * mixed), np.where(is_native, 0.0, shift)[:, None]], axis=1)
    long = (rows**2).sum(axis=1)
    rest = np.sqrt(np.maximum(long.max() - long, 0))
    asked = np.concatenate([query, np.ones((len(query), 1)), np.zeros((len(query), 1))], axis=1)
    return judge.search(lab.data.parts[part], asked, np.concatenate([rows, rest[:, None]], axis=1), "l2")


def _moments(lab: Lab, world: World, mix: tuple[np.ndarray, np.ndarray], part: str) -> tuple[float, float]:
    """Scale and shift that give wrong carried rows the mean and the spread of the wrong native ones."""
    scores, wrong = _scores(lab, world, mix[0], part)
    pure, carried = (scores[:, chosen][wrong[:, chosen]] for chosen in (mix[1], ~mix[1]))
    scale = float(pure.std() / carried.std())
    return scale, float(pure.mean() - scale * carried.mean())


def _scores(lab: Lab, world: World, mixed: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) cosines, and which pairs are wrong answers that the query can see."""
    images = lab.data.parts[part]
    scores = vectors.normalise(phi(lab, world.new, part).astype(np.float32)) @ mixed.T
    own = (images.sources[:, None] == images.sources[None]) & (images.sources[:, None] != "")
    return scores, (images.labels[:, None] != images.labels[None]) & ~own


def _native_shares(lab: Lab, world: World, part: str, mixed: np.ndarray, is_native: np.ndarray) -> dict[str, Any]:
    """Population → share of native rows among the nearest wrong answers, and among all wrong ones a query can see; with interval."""
    scores, wrong = _scores(lab, world, mixed, part)
    nearest = np.argsort(-np.where(wrong, scores, -np.inf), axis=1, kind="stable")[:, :TOP]
    top, there = is_native[nearest].mean(axis=1), (wrong & is_native[None]).sum(axis=1) / wrong.sum(axis=1)
    images, out = lab.data.parts[part], {}
    rows = judge.counting_rows(images)
    for population in sorted(set(images.populations[rows].tolist())):
        asked = rows[images.populations[rows] == population]
        boot = Bootstrap({"top": top[asked], "there": there[asked]}, images.ids[asked])
        out[population] = {
            "nearest_wrong": judge.as_list(boot.mean("top")),
            "all_wrong": judge.as_list(boot.mean("there")),
            "difference": judge.as_list(boot.estimate(difference("top", "there"))),
        }
    return out


def biased(lab: Lab) -> Numbers:
    """A quarter of the classes is under-represented ten times in v1's training; how fast does the shipped order close their gap?"""
    world = World(lab, replace(old_spec(lab, "strong", 0, classes=1.0), choose="thin-quarter"), new_spec(lab, 0))
    thin = set(chosen(lab, world.old)[1][::4])
    out: Numbers = {"thin_classes": len(thin)}
    arrays = carry(world, SHIPPED)
    for part in SAMPLES:
        images = lab.data.parts[part]
        known = images.populations == "known"
        renamed = np.where(np.isin(images.labels, sorted(thin)), "minority", "majority")
        carried, pure = arrays[part].astype(np.float32), phi(lab, world.new, part).astype(np.float32)
        named = {"σ": order.by_uncertainty(arrays[f"sigma_{part}"]), "oracle": order.oracle_order(carried, pure)}
        by_group = _by_group(lab, part, carried, pure, named, renamed, known)
        rows = judge.counting_rows(images)
        for name, found in native(world, part).items():
            by_group[name] = {
                group: {m: round(float(found[m][(renamed[rows] == group) & known[rows]].mean()), 5) for m in judge.NAMES}
                for group in ("majority", "minority")
            }
        out[part] = by_group
    return out


def _by_group(
    lab: Lab, part: str, carried: np.ndarray, pure: np.ndarray, named: dict[str, np.ndarray], group: np.ndarray, known: np.ndarray
) -> Numbers:
    images = lab.data.parts[part]
    found = order.curves(
        pure, carried, pure, [*named.values(), *order.random_orders(len(pure), 5, 0)], images.labels, images.labels,
        query_ids=images.ids, gallery_ids=images.ids, query_sources=images.sources, gallery_sources=images.sources,
        title=f"{part}: subgroup",
    )  # fmt: skip
    rows = found[0].rows
    curves = {name: curve.values for name, curve in zip(named, found, strict=False)}
    curves["random"] = {m: np.mean([curve.values[m] for curve in found[len(named) :]], axis=0) for m in judge.NAMES}
    out: Numbers = {"beta": [round(float(b), 3) for b in found[0].beta], "gap": {}, "minority": {}}
    for name, by in curves.items():
        means = {
            side: {m: by[m][:, known[rows] & (group[rows] == side)].mean(axis=1) for m in judge.NAMES} for side in ("majority", "minority")
        }
        out["gap"][name] = {m: [round(float(x), 5) for x in means["majority"][m] - means["minority"][m]] for m in judge.NAMES}
        out["minority"][name] = {m: [round(float(x), 5) for x in means["minority"][m]] for m in judge.NAMES}
    return out


def not_better(lab: Lab, kind: str) -> Numbers:
    """A new version that is ``worse`` (weak on half of the classes) or ``equal`` (v1 again, another seed): what worth_it says.

    worth_it passes when LB(new/new − old/old) > 0, refuses when UB ≤ 0, and is inconclusive between.
    """
    old = old_spec(lab, "strong", 0)
    new = old_spec(lab, "weak", 0) if kind == "worse" else old_spec(lab, "strong", 1)
    world = World(lab, old, new)
    numbers = tables(world, lambda part: {"ridge + ψ + pool": values(world, THREE["ridge + ψ + pool"], part)}, (("new/new", "old/old"),))
    for part in SAMPLES:
        for table in numbers[part].values():
            table["worth_it"] = {}
            for metric, (_, lower, upper) in table["differences"]["new/new − old/old"].items():
                table["worth_it"][metric] = "passed" if lower > 0 else "refused" if upper <= 0 else "inconclusive"
    return numbers
