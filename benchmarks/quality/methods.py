"""The suite ``methods``: every method of the field in one world, each without and with side-information on the same pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.quality import judge
from benchmarks.quality.fits import SAMPLES, SHIPPED, Recipe, World, carry, native, settings_of, thumbnail, values
from benchmarks.quality.lab import Lab
from benchmarks.quality.models import ModelSpec, model, new_spec, old_spec, phi
from benchmarks.quality.sides import PICTURE, SIMCLR, SideSpec, codes, drawn_ink, pixels, preview
from fct.forward.bridging import blend, bridge

Numbers = dict[str, Any]
PUBLISHED_OVER_BCT = {"ImageNet": 0.181, "Places-365": 0.054, "VGGFace2": 0.083}  # FCT + side − BCT, top-1, arXiv 2112.02805
BLENDS = (0.2, 0.4, 0.6, 0.8)
SIDES = (
    SIMCLR,
    SideSpec(("simclr",), 128, 4),
    SideSpec(("vicreg",), 128),
    SideSpec(("pca",), 128),
    SideSpec(("pca",), 128, 4),
    SideSpec(("simclr", "pca"), 128, 4),
    SideSpec(("thumbnail",), 128, 4),
    *(SideSpec(("picture",), size) for size in (32, 64, 128, 256, 512)),
)


def world_of(lab: Lab, v1: str, seed: int = 0, *, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> World:
    """More classes, the default world: v1 (``strong`` or ``weak``) on half of the known classes, v2 on all of them."""
    return World(lab, old_spec(lab, v1, seed, **(old or {})), new_spec(lab, seed, **(new or {})))


def tables(world: World, found: Callable[[str], dict[str, judge.Values]], pairs: tuple[tuple[str, str], ...] = ()) -> Numbers:
    """The tables of both samples; old/old and new/new are always there."""
    return {part: judge.table(world.lab.data.parts[part], native(world, part) | found(part), pairs) for part in SAMPLES}


def compare(world: World, named: dict[str, Recipe], pairs: tuple[tuple[str, str], ...] = (), beside: bool = True) -> Numbers:
    """Fit and judge recipes by name; each beside the shipped one, with the interval of the difference."""
    all_named = named | ({"shipped": SHIPPED} if beside and "shipped" not in named else {})
    if beside:
        pairs = (*pairs, *(("shipped", name) for name in named if name != "shipped"))
    numbers = tables(world, lambda part: {name: values(world, wanted, part) for name, wanted in all_named.items()}, pairs)
    return numbers | {"recipes": {name: _about(world, wanted) for name, wanted in all_named.items()}}


def _about(world: World, wanted: Recipe) -> Numbers:
    rows = (wanted.images or len(world.lab.data.parts["fitting"].ids)) * sum(world.lab.counts("fitting"))
    used = settings_of(world.lab, wanted.method, rows)
    return {
        "side": wanted.side.title if wanted.side else "none",
        "side_bytes": wanted.side.bytes if wanted.side else 0,
        "pool": wanted.pool,
        "preview": wanted.preview,
        "pairs": rows,
        "seed": wanted.seed,
        "method": str(carry(world, wanted)["method"]),
        "members": used.members,
        "epochs": used.epochs,
    }


def sided(method: str, **more: Any) -> dict[str, Recipe]:
    """A method without side-information, with the stored ψ, and with SimCLR's 128 dimensions as FCT publishes it."""
    return {f"{method}{name}": Recipe(method, side, **more) for name, side in (("", None), (" + ψ", PICTURE), (" + SimCLR", SIMCLR))}


def references(lab: Lab, v1: str) -> Numbers:
    """What needs no h: raw pixels, ψ alone, the ceiling of the old space, thumbnails, the drawn ψ, query-side bridges."""
    world = world_of(lab, v1)
    old, new = ({part: phi(lab, spec, part).astype(np.float32) for part in (*SAMPLES, "fitting")} for spec in (world.old, world.new))
    maps = {kind: bridge(new["fitting"], old["fitting"], kind) for kind in ("procrustes", "ridge")}
    parts = lab.data.parts

    def blended(part: str, weight: float) -> np.ndarray:
        return blend(maps["procrustes"].apply(new[part]), old[part], weight)

    scores = {w: float(judge.search(parts["validation"], blended("validation", w), old["validation"])["mAP"].mean()) for w in BLENDS}
    best = max(scores, key=lambda weight: scores[weight])
    small = thumbnail(world, PICTURE.bytes)

    def found(part: str) -> dict[str, judge.Values]:
        def search(query: np.ndarray, gallery: np.ndarray) -> judge.Values:
            return judge.search(parts[part], query, gallery)

        flat, drawn = pixels(parts[part].images), drawn_ink(lab, world.old, PICTURE, part)
        simclr = codes(lab, world.old, SIMCLR, part).astype(np.float32)
        return {
            "raw pixels": search(flat, flat),
            "ψ alone (picture)": search(drawn, drawn),
            "ψ alone (SimCLR)": search(simclr, simclr),
            "ceiling of the old space": search(judge.ceiling(parts[part], old[part]), old[part]),
            "thumbnail of equal bytes": {name: small[f"{part}_{name}"] for name in judge.NAMES},
            "preview alone": search(new[part], preview(lab, world.old, world.new, PICTURE, part)),
            "bridge procrustes": search(maps["procrustes"].apply(new[part]), old[part]),
            "bridge ridge": search(maps["ridge"].apply(new[part]), old[part]),
            "bridge blended": search(blended(part, best), old[part]),
        }

    about = {"thumbnail": {"side": int(small["side"]), "bits": int(small["bits"])}, "blend": best}
    return tables(world, found) | about


def closed(lab: Lab, v1: str) -> Numbers:
    """The closed forms; ridge also with the pool, and with the preview."""
    named: dict[str, Recipe] = {}
    for method in ("procrustes", "ridge", "low-rank"):
        named |= sided(method)
    named |= {
        "ridge + pool": Recipe("ridge", None, pool=True),
        "ridge + ψ + pool": Recipe("ridge", PICTURE, pool=True),
        "ridge + ψ + preview + pool": Recipe("ridge", PICTURE, pool=True, preview=True),
    }
    return compare(world_of(lab, v1), named)


def equal_dims(lab: Lab, v1: str) -> Numbers:
    """64 → 64 dimensions, where the old vectors can also be mixed in as they are, or shifted."""
    named = {"none": Recipe("none"), "mean-shift": Recipe("mean-shift")}
    for method in ("procrustes", "ridge", "low-rank"):
        named |= {method: Recipe(method), f"{method} + ψ": Recipe(method, PICTURE)}
    return compare(world_of(lab, v1, new={"dim": 64}), named, beside=False)


def bare(lab: Lab, v1: str) -> Numbers:
    """Pairs alone, without side-information, pool, labels or head: what ``auto`` ships then, beside every closed form."""
    named = {method: Recipe(method, labelled=False) for method in ("procrustes", "ridge", "low-rank", "auto")}
    pairs = tuple(("auto", method) for method in named if method != "auto")
    return compare(world_of(lab, v1), named, pairs, beside=False)


def learned(lab: Lab, v1: str, method: str) -> Numbers:
    """A published learned method."""
    return compare(world_of(lab, v1), sided(method))


def shipped(lab: Lab, v1: str) -> Numbers:
    """The shipped recipe, and what each of its parts is worth."""
    named = {
        "shipped": SHIPPED,
        "shipped − preview": replace(SHIPPED, preview=False),
        "shipped − pool": replace(SHIPPED, pool=False),
        "shipped − ψ": replace(SHIPPED, side=None, preview=False),
        "shipped, SimCLR ⊕ pca in the picture's place": replace(SHIPPED, side=SideSpec(("simclr", "pca"), 128, 4), preview=False),
        "ridge + ψ + preview + pool": Recipe("ridge", PICTURE, pool=True, preview=True),
    }
    return compare(world_of(lab, v1), named)


def sides(lab: Lab, v1: str) -> Numbers:
    """Kinds and bytes of side-information, all under ridge with the pool: what ψ holds, whatever h."""
    # so many components have any spread: a picture code cannot be longer than one byte for each
    most = min(lab.data.parts["fitting"].images[0].size, len(lab.data.parts["fitting"].ids) - 1)
    named = {
        f"ridge + {spec.title}": Recipe("ridge", spec, pool=True) for spec in SIDES if spec.kinds != ("picture",) or spec.bytes <= most
    }
    return compare(world_of(lab, v1), named, beside=False)


def bct(lab: Lab, v1: str) -> Numbers:
    """BCT: v2 trained with the influence of v1's frozen head; new/old without h, and its price in new/new. FCT and ours beside it."""
    world = world_of(lab, v1)
    compatible = ModelSpec(world.new.settings, world.new.seed, influence=world.old)
    shared = min(world.old.settings.dim, compatible.settings.dim)
    numbers = {"fct + ψ": Recipe("fct", PICTURE), "fct": Recipe("fct"), "shipped": SHIPPED}

    def found(part: str) -> dict[str, judge.Values]:
        images, own = lab.data.parts[part], phi(lab, compatible, part)
        rows = {
            "BCT new/old": judge.search(images, own[:, :shared], phi(lab, world.old, part)[:, :shared]),
            "BCT new/new": judge.search(images, own, own),
        }
        return rows | {name: values(world, wanted, part) for name, wanted in numbers.items()}

    pairs = (*((name, "BCT new/old") for name in numbers), ("new/new", "BCT new/new"))
    return tables(world, found, pairs) | {"published_top1": PUBLISHED_OVER_BCT, "classes": len(model(lab, compatible).classes)}
