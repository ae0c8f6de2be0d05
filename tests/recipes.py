"""What each step of an upgrade computes from tiny fixed inputs, and the numbers that stand for its recipe.

    python -m tests.recipes

writes tests/recipes.json anew for the steps whose recipe was raised (registry/steps.py), and refuses where numbers changed without that.
Inputs are given by formulas, each step's own: none is another step's output. Numbers are compared with a tolerance, for other processors.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from fct.arrays import vectors
from fct.datasets.items import Item
from fct.datasets.manifest import write_manifest
from fct.forward.network import ForwardEnsemble, ForwardNetwork
from fct.forward.transformation import Forward
from fct.forward.uncertainty import Uncertainty
from fct.gallery import index as indexes
from fct.gallery import indexing
from fct.gallery.names import Batch
from fct.sample import adopted, pairs
from fct.sample.folder import PairsFolder
from fct.side import picture
from registry.ledger import Ledger
from registry.params import read
from registry.steps import RECIPES
from registry.upgrades import fitting
from registry.upgrades.maker import Maker
from registry.upgrades.publish import flat_metrics
from registry.upgrades.steps.evaluate import evaluate as step_evaluate
from registry.upgrades.upgrade import Upgrade

FILE = Path(__file__).with_suffix(".json")
SETTINGS = read(Path(__file__).parents[1] / "params.yaml")
TOLERANCE = 2e-3  # of a number's own size and its column's spread
OLD, SIDE, NEW, SIZE = 6, 3, 5, 8
Numbers = dict[str, list[float]]


def wave(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 numbers between -1 and 1 that look drawn by lot and are the same on every machine."""
    return (np.modf(np.sin(np.arange(1, math.prod(shape) + 1) * 12.9898 + 78.233 * seed) * 43758.5453)[0]).astype(np.float32).reshape(shape)


def said(array: np.ndarray) -> list[float]:
    """Rows, mean, spread, and a sum that hangs on the order; of texts how they stand among each other."""
    if array.dtype.kind in "OUS":
        array = np.unique(array, return_inverse=True)[1]
    flat = np.nan_to_num(np.asarray(array, dtype=np.float64)).ravel()
    order = float((flat * np.cos(np.arange(flat.size))).mean()) if flat.size else 0.0
    return [
        float(len(array)) if array.ndim else 1.0,
        float(flat.mean()) if flat.size else 0.0,
        float(flat.std()) if flat.size else 0.0,
        order,
    ]


def files(folder: Path) -> Numbers:
    found = {path.relative_to(folder).as_posix(): np.load(path, allow_pickle=False) for path in sorted(folder.rglob("*.np[yz]"))}
    flat = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    for name in found.keys() - flat.keys():
        flat |= {f"{name}/{part}": found[name][part] for part in found[name].files}
    return {name: said(value) for name, value in sorted(flat.items())}


def inside(value: Any, name: str) -> Numbers:
    """The numbers of a JSON value; one that is undefined has none."""
    if isinstance(value, dict):
        return {path: numbers for key, one in value.items() for path, numbers in inside(one, f"{name}/{key}").items()}
    return {name: [] if value is None else [float(value)]}


class Embedder:
    """In the place of a release: the same attributes, a program without a network."""

    adopted, metric, classes = False, "cosine", ["a", "b"]

    def __init__(self, dim: int, seed: int, size: int = SIZE):
        self.dim, self.size, self.mode, self.fingerprint, self.side_dim = dim, size, "L", f"embedder {seed}", SIDE
        self.weight = torch.from_numpy(wave(size * size, dim, seed=seed))

    def program(self, device: torch.device | None = None) -> Any:
        return lambda images: (
            torch.tanh(images.flatten(1).float() / 255 @ self.weight),
            (images[:, 0, :SIDE, 0].long() - 128).to(torch.int8),
        )

    def canaries(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([f"canary:{i}" for i in range(8)]), np.abs(255 * wave(8, 1, self.size, self.size, seed=9)).astype(np.uint8)

    def picture(self) -> picture.Drawer:
        drawer = picture.Drawer(torch.from_numpy(wave(SIDE, 1, SIZE, SIZE, seed=5)) / 128, torch.full((1, SIZE, SIZE), 0.5))
        with torch.no_grad():
            for number, weight in enumerate(drawer.parameters()):
                weight.copy_(torch.from_numpy(wave(*weight.shape, seed=number)) / 20)
        return drawer.eval()


def h_of(seed: int, side: int = SIDE) -> Forward:
    """Networks and a linear map, with a head: all that the shipped recipe has."""
    network = ForwardNetwork(OLD, side, NEW, 16, False)
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight.copy_(torch.from_numpy(wave(*weight.shape, seed=seed + number)))
    linear = closed_of(seed, side)
    head = wave(2, NEW, seed=seed), np.zeros(2, dtype=np.float32)
    return replace(linear, method="fastfill-pool", network=ForwardEnsemble([network]).eval(), head=head)


def closed_of(seed: int, side: int = SIDE) -> Forward:
    columns = OLD + side
    spread = Uncertainty(np.zeros(columns), np.ones(columns), wave(columns, seed=seed) / 64.0, np.array([0.0, -1.0, -4.0, 4.0]))
    return Forward("ridge", OLD, side, NEW, None, wave(columns, NEW, seed=seed), wave(NEW, seed=seed), spread)


def embed(folder: Path) -> Numbers:
    splits = ("train", "fitting", "pool", "validation", "validation_unseen")
    items = []
    for number in range(20):
        image = Image.fromarray(np.abs(255 * wave(12, 10, seed=number)).astype(np.uint8))
        (folder / "data").mkdir(exist_ok=True)
        image.save(folder / "data" / f"{number}.png")
        items.append(Item(f"item-{number}", "ab"[number % 2], "", splits[number % 5], "", f"{number}.png"))
    write_manifest(folder / "data", items)
    settings = replace(SETTINGS.embed, views=2, pool_views=2, pool_recombined=1, preview=True)
    pairs.write_pairs(Embedder(OLD, 1), Embedder(NEW, 2, 12), folder / "data", folder / "out/pairs", settings, seed=0, device="cpu")  # type: ignore[arg-type]
    return files(folder / "out")


def embed_given(folder: Path) -> Numbers:
    labels = np.array([["", "a", "b", "c"][number % 4] for number in range(400)])
    given = adopted.given_pairs(wave(400, OLD, seed=1), wave(400, NEW, seed=2), (99 * wave(400, SIDE)).astype(np.int8), labels)
    adopted.write_pairs(given, folder / "out/given", classes=["a", "b"], seed=0, about={})
    first = np.array([f"item-{i}" for i in range(9)]), given.old[:9], given.psi[:9]
    adopted.write_first(first, first, folder / "out/first", {})
    return files(folder / "out")


def written_pairs(folder: Path, native: int, rows: int = 120) -> None:
    """What the step *embed* leaves, by formulas."""
    for part, seed in (("fitting", native), ("pool", native + 10), ("sample", native + 20), ("canaries", native + 30)):
        classes = wave(12, OLD, seed=50)[np.arange(rows) % 12]
        old, psi = classes + 0.5 * wave(rows, OLD, seed=seed), (99 * wave(rows, SIDE, seed=seed + 1)).astype(np.int8)
        new = np.concatenate([old[:, :4] + psi[:, :1] / 99, old[:, 4:5] ** 2], axis=1) + 0.3 * wave(rows, NEW, seed=seed + 2)
        for name, array in (("old", old), ("psi", psi), ("side", psi), ("new", new.astype(np.float32))):
            vectors.save(folder / part / f"{name}.npy", array)
        vectors.save(
            folder / part / "labels.npy", np.arange(rows) % 2 if part != "sample" else np.array([f"c{i % 12}" for i in range(rows)])
        )
        vectors.save(folder / part / "sources.npy", np.array([f"s{i // 2 if part != 'sample' else i % 5}" for i in range(rows)]))
    vectors.save(folder / "sample/ids.npy", np.array([f"item-{i:03}" for i in range(rows)]))
    vectors.save(folder / "sample/populations.npy", np.where(np.arange(rows) % 12 < 8, "known", "unseen"))


def fit(folder: Path) -> Numbers:
    written_pairs(folder / "pairs", 1)
    settings = replace(SETTINGS.fit, width=16, epochs=2, batch=32, precision="float32")
    head = wave(2, NEW), np.zeros(2, dtype=np.float32)
    hs = {
        method: fitting.fit_pairs(folder / "pairs", head, replace(settings, method=method), seed=0, device="cpu", title=method)
        for method in ("fastfill-pool", "fct")
    }
    hs["closed"] = fitting.fit_closed(folder / "pairs", settings, seed=0)
    probe = wave(30, OLD, seed=7), (99 * wave(30, SIDE, seed=8)).astype(np.int8)
    out = {}
    for method, h in hs.items():
        carried, sigma = h.transform(*probe)
        out |= {f"{method}/carried": said(carried), f"{method}/sigma": said(sigma)}
    return out


def transform(folder: Path) -> Numbers:
    releases = {1: Embedder(OLD, 1), 2: Embedder(NEW, 2, 12)}
    workspace = SimpleNamespace(
        settings=replace(SETTINGS, device="cpu"),
        releases=SimpleNamespace(release=lambda version, check=False: releases[version]),
        ledger=Ledger(folder / "ledger"),  # empty: nothing serves
    )
    batch = Batch(np.array([f"i{n}" for n in range(40)]), wave(40, OLD, seed=3), (99 * wave(40, SIDE, seed=4)).astype(np.int8))
    out = {}
    for name, h in (("network", h_of(1)), ("closed", closed_of(2)), ("preview", h_of(3, SIDE + NEW))):
        rows, sigma, _origin = Maker(workspace, 2, {1: h}).make(1, batch)  # type: ignore[arg-type]
        out |= {f"{name}/rows": said(rows), f"{name}/sigma": said(sigma)}
    return out


def index(_: Path) -> Numbers:
    rows, queries, ids = wave(400, 16, seed=1), wave(20, 16, seed=2), np.array([f"i{n:03}" for n in range(400)])
    out = {}
    for kind in ("flat", "hnsw", "ivf"):
        for metric, far in (("cosine", 0.0), ("l2", 0.0), ("l2", 1000.0)):
            settings = replace(SETTINGS.index, kind=kind, device="cpu", ivf_lists=8, ivf_probes=8)
            found, _scores = indexes.Searcher(indexing.build(rows + far, metric, settings), ids, metric).rows(queries + far, 10)
            out[f"{kind}, {metric}, {far:g} from the origin"] = said(found)
    return out


def evaluate(folder: Path) -> Numbers:
    """The real step, with stand-ins for what it asks: two native versions, so that the mix is measured, too; then l2 far from the origin."""
    ids = {1: np.arange(30), 2: np.arange(20), 3: np.arange(5)}
    workspace = SimpleNamespace(
        settings=replace(SETTINGS, device="cpu", validate=replace(SETTINGS.validate, random_orders=5)),
        folder=folder,
        upgrade_folder=lambda version: folder / f"v{version}",
        ledger=Ledger(folder / "ledger"),  # empty: nothing serves
        releases=SimpleNamespace(release=lambda version, check=False: Embedder(NEW if version == 3 else OLD, version)),
        gallery=SimpleNamespace(native_versions=lambda: {1: 30, 2: 20, 3: 5}, item_ids=lambda role, native_version: ids[native_version]),
    )
    upgrade = Upgrade(workspace, 3)  # type: ignore[arg-type]
    for m in (1, 2):
        written_pairs(upgrade.pairs_folder(m), m)
        h_of(m).save(upgrade.forward_folder(m))
        closed_of(m + 5).save(upgrade.closed_folder(m))
    found = inside(step_evaluate(upgrade), "metrics")
    found |= {
        f"{part}/{name}": value for part in ("v1", "v2", "mix") for name, value in files(upgrade.folder / f"evaluation-{part}").items()
    }
    from fct.sample import evaluation

    sample = PairsFolder(upgrade.pairs_folder(1)).sample()
    far = replace(sample, old=sample.old + 1000, new=sample.new + 1000)
    measured = evaluation.measure(far, sample.new + 1000 + 0.2 * wave(*sample.new.shape), "l2")
    return found | {f"l2/{name}": said(value) for name, value in measured.items()}


def publish(_: Path) -> Numbers:
    gates = [{"gate": "recovered", "subject": "known ρ mAP", "value": 0.5}, {"gate": "no_dip", "subject": "", "value": None}]
    metrics = {"known": {"nh": {"mAP": {"value": 0.25, "lower": 0.2}}}}
    return {name: [value] for name, value in flat_metrics({"metrics": {"v1→v2": metrics}, "gates": gates}).items()}


STEPS = {step.__name__.replace("_", " "): step for step in (embed, embed_given, fit, transform, index, evaluate, publish)}


def measured(step: str, folder: Path) -> Numbers:
    with torch.random.fork_rng(devices=[]):
        return STEPS[step](folder)


def differing(before: Numbers, now: Numbers) -> list[str]:
    """Names of what is new, gone, or another number."""

    def same(one: list[float], other: list[float]) -> bool:
        size = max(map(abs, one[1:] or one), default=0.0)
        return len(one) == len(other) and all(abs(a - b) <= TOLERANCE * max(size, abs(a)) + 1e-6 for a, b in zip(one, other, strict=True))

    return sorted(name for name in before.keys() | now.keys() if name not in before or name not in now or not same(before[name], now[name]))


def problem(step: str, recipe: int, kept: dict[str, Any] | None, now: Numbers) -> str | None:
    """What is to be done about a step, None where its recipe and its numbers are those that were written down."""
    write = "`python -m tests.recipes` writes down its numbers"
    if kept is None or kept["recipe"] != recipe:
        return f"the recipe of {step} is {recipe} now: {write}"
    changed = differing(kept["numbers"], now)
    if changed:
        return f"{step} computes other numbers from the same inputs ({', '.join(changed[:5])}): raise its recipe in registry/steps.py, then {write}"
    return None


def main() -> None:
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for step, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            now = measured(step, Path(folder))
        told = problem(step, recipe, kept.get(step), now)
        if told is not None and kept.get(step, {}).get("recipe") == recipe:
            sys.exit(told)
        if told is not None:
            kept[step] = {"recipe": recipe, "numbers": {name: [float(f"{one:.6g}") for one in value] for name, value in now.items()}}
            print(f"{step}: recipe {recipe}, {len(now)} rows of numbers")
    lines = re.sub(r"\[[^]]*\]", lambda row: "".join(row[0].split()), json.dumps(kept, indent=1, sort_keys=True))  # a row of numbers a line
    FILE.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
