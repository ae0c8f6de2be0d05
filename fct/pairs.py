"""The step *embed*: what h is fitted and judged on, as files.

``fitting/``  pairs (old, side, new) of the fitting images, several views each, with class numbers of the new head
``pool/``     the same of an unlabelled pool
``sample/``   the evaluation sample: old, side, new of held-out images, with ids, labels, sources, populations
``canaries/`` the old release's canaries: ids, old, side, new
``gallery/``  ids, old, side of sample and canaries: what the development pipeline carries over in the live gallery's place

A view is one random augmentation of an image, the same for both programs. The first view is the image itself.
Legend: N images, V views.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from fct import augment, vectors
from fct import device as devices
from fct import program as programs
from fct.datasets.images import read_images
from fct.datasets.manifest import Manifest, read_manifest
from fct.errors import BadInput
from fct.files import whole_folder, write_json
from fct.release import Release

POPULATIONS = {"known": "validation", "unseen": "validation_unseen"}


@dataclass(frozen=True)
class EmbedSettings:
    """params.yaml, ``embed``: the splits that are fitting images (labelled) and pool (unlabelled), views of each, batch of a program."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    fitting: tuple[str, ...]
    pool: tuple[str, ...]
    views: int
    pool_views: int
    batch: int


@dataclass(frozen=True)
class Sample:
    """Images with known native vectors in both spaces. Arrays of N rows; ``populations`` is ``known`` or ``unseen``."""

    ids: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    populations: np.ndarray
    old: np.ndarray
    side: np.ndarray
    new: np.ndarray

    def save(self, folder: Path) -> None:
        for name in self.__dataclass_fields__:
            vectors.save(folder / f"{name}.npy", getattr(self, name))


def load_sample(folder: str | Path) -> Sample:
    """Read what :func:`write_pairs` wrote below ``sample/``."""
    return Sample(**{name: np.array(vectors.load(Path(folder) / f"{name}.npy")) for name in Sample.__dataclass_fields__})


def _both(
    old: Release, new: Release, part: Manifest, views: int, *, seed: int, device: torch.device, batch: int, title: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """old (V·N, D), side (V·N, P), new (V·N, E): all images of view 0, then of view 1, …"""
    found: list[list[np.ndarray]] = [[], [], []]
    for release, columns in ((old, (0, 1)), (new, (2,))):
        images = torch.from_numpy(read_images(part.files, release.size, release.mode, f"{title}: reading"))
        program = release.program(device)
        generator = torch.Generator().manual_seed(seed)  # the same draws for both programs: the views match
        for view in range(views):
            block = augment.views(images, generator) if view else images
            outputs = programs.embed(program, block.numpy(), device=device, batch=batch, title=f"{title}: view {view + 1} of {views}")
            for column, output in zip(columns, outputs, strict=False):
                found[column].append(output)
    return np.concatenate(found[0]), np.concatenate(found[1]), np.concatenate(found[2])


def write_pairs(
    old: Release, new: Release, data: str | Path, out: str | Path, settings: EmbedSettings, *, seed: int, device: str = "auto"
) -> dict[str, int]:
    """Embed fitting images, pool, evaluation sample and canaries with both releases, whole or not at all.

    Args:
        data: folder with a manifest (:mod:`fct.datasets.manifest`); gallery splits are never read.

    Returns:
        counts of rows by part.

    Raises:
        BadInput: no fitting images, no evaluation sample, or a gallery split named as fitting images.
    """
    manifest = read_manifest(data)
    forbidden = [split for split in (*settings.fitting, *settings.pool) if not split.startswith(("train", "fitting", "pool"))]
    if forbidden:
        raise BadInput(
            "these images must not fit h",
            got=", ".join(forbidden),
            where="embed.fitting or embed.pool",
            todo="gallery, validation and canary images stay out of the fit",
        )
    chosen = devices.pick(device)
    numbers = {name: number for number, name in enumerate(new.classes)}
    with whole_folder(out) as part:
        counts = {}
        for name, splits, views in (("fitting", settings.fitting, settings.views), ("pool", settings.pool, settings.pool_views)):
            rows = manifest.rows(*splits)
            if old.fingerprint == new.fingerprint:
                continue  # a first release: there is no h to fit, only a sample and canaries to measure
            if len(rows) == 0:
                if name == "fitting":
                    raise BadInput("there are no fitting images", wanted=" or ".join(splits), where=manifest.root)
                continue
            first, side, second = _both(old, new, rows, views, seed=seed, device=chosen, batch=settings.batch, title=name)
            (part / name).mkdir()
            for file, array in (("old", first), ("side", side), ("new", second)):
                vectors.save(part / name / f"{file}.npy", array)
            labels = np.array([numbers.get(label, -1) for label in rows.label], dtype=np.int64)
            vectors.save(part / name / "labels.npy", np.tile(labels, views))
            vectors.save(part / name / "sources.npy", np.tile(rows.id, views))
            counts[name] = len(first)
        sample = [(population, manifest.rows(split)) for population, split in POPULATIONS.items()]
        if len(sample[0][1]) == 0:
            raise BadInput("there is no evaluation sample", wanted="images of the split validation", where=manifest.root)
        rows = manifest.rows(*POPULATIONS.values())
        first, side, second = _both(old, new, rows, 1, seed=seed, device=chosen, batch=settings.batch, title="evaluation sample")
        populations = np.where(rows.split == POPULATIONS["known"], "known", "unseen")
        (part / "sample").mkdir()
        Sample(rows.id, rows.label, rows.source, populations, first, side, second).save(part / "sample")
        counts["sample"] = len(rows)
        ids, images = old.canaries()
        (part / "canaries").mkdir()
        first, side = programs.embed(old.program(chosen), images, device=chosen)
        second, _ = programs.embed(new.program(chosen), convert(images, old, new), device=chosen)
        for file, array in (("ids", ids), ("old", first), ("side", side), ("new", second)):
            vectors.save(part / "canaries" / f"{file}.npy", array)
            if file != "new":  # the development pipeline's gallery: the sample, then the canaries
                vectors.save(part / "gallery" / f"{file}.npy", np.concatenate([vectors.load(part / "sample" / f"{file}.npy"), array]))
        counts["canaries"] = len(ids)
        write_json(part / "pairs.json", {"counts": counts, "old": old.fingerprint, "new": new.fingerprint, "metric": new.metric})
    return counts


def convert(images: np.ndarray, old: Release, new: Release) -> np.ndarray:
    """Canary images as the new release wants them: its size and mode."""
    x = torch.from_numpy(images).float()
    if new.mode != old.mode:
        x = x.expand(-1, 3, -1, -1) if new.mode == "RGB" else x.mean(dim=1, keepdim=True)
    if new.size != old.size:
        x = torch.nn.functional.interpolate(x, size=(new.size, new.size), mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).to(torch.uint8).numpy()
