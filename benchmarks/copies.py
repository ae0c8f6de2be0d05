"""Whether copies are told from different images: ``python -m benchmarks.copies [--data digits,glyphs] [--epochs 0.1]``. Some minutes a set.

Two embedders are trained on each set of :mod:`benchmarks.quality` (v1 a small CNN of 64 dimensions on half of the classes, v2 one of 128 on
all; digits: a small ResNet), for a share of the quality benchmark's epochs. Three parts are asked: what v2 was trained on, where classes
are collapsed most, and two that neither has seen. *Different* are images whose pixels' cosine is at most 0.95, the project's own bound
(``data.near_duplicate_cosine``): the same full stop in twelve typefaces is no error. Copies are every image five times more, or one in ten
once more, with noise of 5, 2 and 0.5 % of the vector's length. *Found, no twin* is the share among pictures that the part has once: by that
same bound some are in it several times, so that the six rows of each are a dozen to sixty. *Doubtful* are rows in groups that are not joined for
their size; of a set as it is they may be no more than the share that is warned of. The rule's numbers were chosen on synthetic data
and with all four sets in sight: no set judges it that it had not been tried on. Results go to benchmarks/results/copies.json; exit code 1
where a bound is broken. ``--scale 100000`` measures the time beside that of multiplying every row with every other, which is the least that
an exact search would take.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.lab import ROOT, Effort, Lab
from benchmarks.quality.models import V1, V2, ModelSpec, embed, model
from fct.arrays.files import read_json, write_json
from fct.datasets.splits import directions
from fct.search import copies

OUT = ROOT / "benchmarks/results/copies.json"
EPOCHS = {"digits": 0.5, "icons": 0.07, "glyphs": 0.2, "emoji": 0.1}
NOISE, PARTS, NEAR_DUPLICATE = (0.05, 0.02, 0.005), ("fitting", "validation", "test"), 0.95
FOUND, JOINED, LARGEST = 0.95, 0.01, 0.01
FEW = 50  # copies; of fewer no share is said


def vectors(lab: Lab, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Part → old and new vectors of its images."""
    second = "small-resnet" if name in ("digits", "glyphs") else "small-cnn"
    specs = (ModelSpec(replace(V1, architecture="small-cnn"), 0), ModelSpec(replace(V2, architecture=second), 0))
    nets = [model(lab, spec).net for spec in specs]
    return {part: tuple(embed(lab, net, lab.data.parts[part].images).astype(np.float32) for net in nets) for part in PARTS}  # type: ignore[misc]


def noisy(rng: np.random.Generator, rows: np.ndarray, noise: float) -> np.ndarray:
    """Rows (N, D) with normal noise of a share of their length."""
    drawn = rng.normal(size=rows.shape) / rows.shape[1] ** 0.5
    return (rows + noise * np.linalg.norm(rows, axis=1, keepdims=True) * drawn).astype(np.float32)


def different(groups: np.ndarray, ink: np.ndarray) -> float:
    """Share of the rows that are in a group with an image unlike theirs; ink (N, pixels) of norm 1."""
    wrong = np.zeros(len(groups), dtype=bool)
    numbers = np.unique(groups, return_inverse=True)[1]
    for rows in np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1]):
        if len(rows) > 1:
            wrong[rows] = (ink[rows] @ ink[rows].T <= NEAR_DUPLICATE).any(axis=1)
    return float(wrong.mean())


def found(groups: np.ndarray, item: np.ndarray, among: np.ndarray | None = None) -> float:
    """Share of the copies, of all items or ``among`` these, that are in a group with the first row of their item."""
    first = np.unique(item, return_index=True)[1]
    copy = np.setdiff1d(np.arange(len(item)), first)
    if among is not None:
        copy = copy[among[item[copy]]]
    return float((groups[copy] == groups[first[item[copy]]]).mean())


def measure(old: np.ndarray, new: np.ndarray, labels: np.ndarray, images: np.ndarray) -> dict[str, Any]:
    """All numbers of one part, without labels and with them."""
    ink = directions(255 - images.reshape(len(images), -1), centred=False)
    named = np.where(labels == "", -1, np.unique(labels, return_inverse=True)[1])
    once = np.concatenate([(rows @ ink.T > NEAR_DUPLICATE).sum(axis=1) <= 1 for rows in np.array_split(ink, 1 + len(ink) // 1000)])
    rng, result = np.random.default_rng(0), {}
    worlds = {"no copies": np.empty(0, dtype=int)}
    for each in (5, 1):
        who = np.repeat(np.arange(len(old)), 5) if each == 5 else rng.permutation(len(old))[: len(old) // 10]
        worlds |= {f"{each} copies of {'each' if each == 5 else 'one in ten'}, noise {noise:.1%}": who for noise in NOISE}
    for name, who in worlds.items():
        noise = float(name.rpartition(" ")[2][:-1]) / 100 if len(who) else 0.0
        item = np.concatenate([np.arange(len(old)), who])
        one, two = (np.concatenate([rows, noisy(rng, rows[who], noise)]) for rows in (old, new))
        for kind, given in (("without labels", None), ("with labels", named[item])):
            groups, doubtful = copies.look(one, two, given)
            row: dict[str, float] = {"different joined": different(groups, ink[item]), "joined": copies.share(groups), "doubtful": doubtful}
            row["largest group"] = float(np.bincount(groups).max() / len(item))
            if len(who):
                row["found"] = found(groups, item)
                if once[who].sum() >= FEW:
                    row["found, no twin"] = found(groups, item, once)
            result[f"{name}, {kind}"] = {key: round(value, 4) for key, value in row.items()}
    return result


def scale(rows: int) -> dict[str, Any]:
    """Seconds of processor time for so many pairs of 128 and 256 dimensions, five rows an item; and of all products of two rows of them."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(rows // 5, 16))
    both = [np.tanh(latent @ rng.normal(size=(16, wide)) / 4).astype(np.float32) for wide in (128, 256)]
    old, new = (noisy(rng, np.repeat(one, 5, axis=0), 0.02) for one in both)
    begun = time.process_time()
    groups = copies.find(old, new)
    spent, part = time.process_time() - begun, min(rows, 4096)
    begun = time.process_time()
    for array in (old, new):
        for start in range(0, part, copies.BLOCK):
            torch.from_numpy(array[start : min(start + copies.BLOCK, part)]) @ torch.from_numpy(array).T
    products = (time.process_time() - begun) * rows / part
    said = {"processor_s": round(spent, 1), "products_s": round(products, 1)}
    return {"rows": rows, **said, "found": found(groups, np.repeat(np.arange(rows // 5), 5))}


def kept() -> dict[str, Any]:
    """What earlier runs found."""
    return dict(read_json(OUT)) if OUT.exists() else {"sets": {}}


def broken(parts: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The bounds that do not hold."""
    return [
        f"{part}, {world}: {key} {row[key]}"
        for part, worlds in parts.items()
        for world, row in worlds.items()
        for key, bad in (
            ("found", row.get("found", 1) < FOUND),
            ("different joined", row["different joined"] > JOINED),
            ("largest group", row["largest group"] > LARGEST),
            ("doubtful", "found" not in row and row.get("doubtful", 0) > copies.DOUBT),  # of a set as it is
        )
        if bad
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", default=",".join(EPOCHS))
    parser.add_argument("--epochs", type=float, default=0.0, help="share of the quality benchmark's epochs; 0: each set's own")
    parser.add_argument("--folder", default=str(ROOT / "build/data"), help="the icons' prepared data")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/quality")
    parser.add_argument("--scale", type=int, default=0, help="measure the time for so many pairs instead")
    given = parser.parse_args()
    wrong: list[str] = []
    if given.scale:
        write_json(OUT, kept() | {"scale": scale(given.scale)})
        print(kept()["scale"])
    for name in given.data.split(",") if not given.scale else ():
        epochs = given.epochs or EPOCHS[name]
        lab, parts = Lab(name, given.folder, given.cache, Effort(epochs=epochs, most_pool=1500)), {}
        for part, (old, new) in vectors(lab, name).items():
            of = lab.data.parts[part]
            parts[part] = measure(old, new, of.labels, of.images)
            for world, row in parts[part].items():
                print(f"{name} {part} ({len(old)}), {world}: " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        wrong += [f"{name} {sentence}" for sentence in broken(parts)]
        results = kept()  # as they are now: another run may have written meanwhile
        results["sets"][name] = {"epochs": epochs, "rows": {part: len(lab.data.parts[part].ids) for part in PARTS}, "parts": parts}
        results |= {"torch": torch.__version__, "broken": [f"{n} {w}" for n, one in results["sets"].items() for w in broken(one["parts"])]}
        write_json(OUT, results)  # a set at a time: the next may take long
    print("\n".join(f"BROKEN: {sentence}" for sentence in wrong) or "every bound holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
