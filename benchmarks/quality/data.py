"""The images of a benchmark, by the part they play. Nothing here ever looks at a model.

``fitting`` (labelled, with what the embedders train on), ``pool`` (unlabelled), ``validation`` (recipes and sizes are chosen on it) and
``test`` (the gallery's images, read once a recipe). Known and unseen classes lie in one sample, as in production.
Legend: N images, C channels, S side in pixels.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality import emoji, glyphs
from fct.arrays import digests
from fct.datasets import folder as folders
from fct.datasets import stage, torchsets
from fct.datasets.images import read_images
from fct.datasets.items import lot
from fct.datasets.manifest import read_manifest
from fct.datasets.settings import TORCHVISION, DataSettings
from fct.errors import BadInput

SPLITS = {
    "fitting": ("train", "fitting"),
    "pool": ("pool",),
    "validation": ("validation", "validation_unseen"),
    "test": ("gallery", "gallery_unseen"),
}
APART = {"glyphs": (glyphs.draw, "L"), "emoji": (emoji.draw, "RGB")}  # no choice of this project was made on these
UNSEEN = ("validation_unseen", "gallery_unseen")


@dataclass(frozen=True)
class Part:
    """``images`` (N, C, S, S) uint8; string arrays (N,): ids, labels ("" = none), sources ("" = unknown), splits."""

    images: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    splits: np.ndarray

    @property
    def populations(self) -> np.ndarray:
        """(N,) ``known`` or ``unseen``."""
        return np.where(np.isin(self.splits, UNSEEN), "unseen", "known")

    def rows(self, chosen: np.ndarray) -> Part:
        return Part(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Data:
    """``digest`` of all images and their labels; ``classes``: the known classes, sorted."""

    name: str
    parts: dict[str, Part]
    digest: str

    @property
    def classes(self) -> list[str]:
        fitting = self.parts["fitting"]
        return sorted(set(fitting.labels[fitting.splits == "train"].tolist()))

    @property
    def mode(self) -> str:
        return "L" if self.parts["test"].images.shape[1] == 1 else "RGB"

    @property
    def size(self) -> int:
        return int(self.parts["test"].images.shape[-1])


def settings(source: str, size: int, mode: str, *, unseen: float, pool: float, near: float) -> DataSettings:
    """The data settings of sets other than the icons."""
    return DataSettings(
        source=source, image_size=size, mode=mode, known_min_packs=1, unseen_min_packs=1, max_drawings=1, near_duplicate_cosine=near,
        pool_images=12_000, canaries=16, known_classes=0, unseen_classes=0, packs=(), unseen_fraction=unseen, pool_fraction=pool,
        fitting_fraction=0.15, evaluation_fraction=0.2, seed=0,
    )  # fmt: skip


def read(name: str, folder: str, cache: Path, *, size: int, per_class: int, most_pool: int) -> Data:
    """Read a set: ``icons`` (as ``fct data`` made it in ``folder``), ``digits``, ``glyphs``, ``emoji``, ``folder`` or ``torchvision:NAME?root=…``.

    Args:
        per_class: most images of a class in each split, by lot; 0 = all. most_pool: most images of the pool, by lot.

    Raises:
        BadInput: an unknown set, or data that cannot be read.
    """
    if name == "digits":
        made = cache / "data" / "digits"
        if not (made / "manifest.csv").exists():
            stage.prepare(settings("digits", size, "L", unseen=0.4, pool=0.2, near=0.99), made)
        parts = _from_manifest(made, size)
    elif name in APART:
        made = cache / "data" / name
        draw, mode = APART[name]
        if not (made / "manifest.csv").exists():
            stage.prepare(settings(str(draw(cache / name)), size, mode, unseen=0.3, pool=0.15, near=0.99), made)
        parts = _from_manifest(made, size, mode)
    elif name == "icons":
        parts = _from_manifest(Path(folder), size)
    elif name == "folder" or name.startswith(TORCHVISION):
        parts = _from_candidates(folder if name == "folder" else name, size, per_class)
    else:
        raise BadInput("unknown data", wanted="icons, digits, glyphs, emoji, folder or torchvision:NAME?root=…", got=name)
    pool = parts["pool"]
    if len(pool.ids) > most_pool:
        order = sorted(range(len(pool.ids)), key=lambda row: lot(0, "quality", pool.ids[row]))
        parts["pool"] = pool.rows(np.sort(order[:most_pool]))
    digest = digests.of_json([[digests.of_array(part.images), part.labels.tolist(), part.sources.tolist()] for part in parts.values()])
    return Data(name, parts, digest)


def _from_manifest(path: Path, size: int, mode: str = "L") -> dict[str, Part]:
    manifest = read_manifest(path)
    parts = {}
    for name, splits in SPLITS.items():
        rows = manifest.rows(*splits)
        parts[name] = Part(read_images(rows.files, size, mode, f"{name}: reading"), rows.id, rows.label, rows.source, rows.split)
    return parts


def _from_candidates(source: str, size: int, per_class: int) -> dict[str, Part]:
    """Straight from the files, without copies of them and without the search for near-duplicates (in which ImageNet takes days)."""
    wanted = settings(source, size, "RGB", unseen=0.1, pool=0.1, near=1.0)
    items, found, _ = folders.candidates(Path(source), wanted) if not source.startswith(TORCHVISION) else torchsets.candidates(wanted)
    convert = torchsets.convert if source.startswith(TORCHVISION) else folders.convert
    by_class = defaultdict(list)
    for item in sorted(items, key=lambda item: lot(0, "quality", item.id)):
        by_class[item.split, item.name].append(item)
    kept = [item for many in by_class.values() for item in (many[:per_class] if per_class else many)]
    parts = {}
    for name, splits in SPLITS.items():
        chosen = sorted((item for item in kept if item.split in splits), key=lambda item: item.id)
        images = np.stack([convert(found, item, size, "RGB") for item in chosen])  # type: ignore[arg-type]
        columns = (
            [item.id for item in chosen],
            [item.label for item in chosen],
            [item.source for item in chosen],
            [i.split for i in chosen],
        )
        parts[name] = Part(images, *(np.array(column, dtype=str) for column in columns))
    return parts
