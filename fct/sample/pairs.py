"""The step *embed*: what h is fitted and judged on, from images, as files (:mod:`fct.sample.folder`).

A view is one random augmentation of an image, the same for both programs. The first view is the image itself.
Legend: N images, V views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fct import device as devices
from fct.arrays import digests, vectors
from fct.arrays.files import whole_folder
from fct.datasets.images import read_images
from fct.datasets.manifest import Manifest, read_manifest
from fct.embedder import augment
from fct.errors import BadInput
from fct.program import programs
from fct.release import preview
from fct.release.folder import Release
from fct.sample.folder import PairsFolder, Sample
from fct.sample.settings import EmbedSettings
from fct.search import copies

SEEN_ALONE = 16  # images of a part that are embedded once more
POPULATIONS = {"known": "validation", "unseen": "validation_unseen"}


@dataclass(frozen=True)
class _Embedder:
    """Both releases, their programs loaded once."""

    old: Release
    new: Release
    device: torch.device
    batch: int

    @property
    def same(self) -> bool:
        """Whether they are one embedder: a first release beside itself."""
        return self.old.fingerprint == self.new.fingerprint

    @cached_property
    def programs(self) -> tuple[programs.Embed, programs.Embed]:
        old = self.old.program(self.device)
        return old, old if self.same else self.new.program(self.device)

    def both(self, part: Manifest, views: int, *, recombined: int = 0, seed: int, title: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """old (V·N, D), ψ (V·N, P), new (V·N, E): all images of view 0, then of view 1, …; recombined views last."""
        found: list[list[np.ndarray]] = [[], [], []]
        count = views + recombined
        both = ((self.old, self.programs[0], (0, 1)), (self.new, self.programs[1], (2,)))
        for release, program, columns in both[: 1 if self.same else 2]:
            if release is self.old or (release.size, release.mode) != (self.old.size, self.old.mode):
                images = torch.from_numpy(read_images(part.files, release.size, release.mode, f"{title}: reading"))
            generator = torch.Generator().manual_seed(seed)  # the same draws for both programs: the views match
            for view in range(count):
                block = augment.recombined(images, generator) if view >= views else images
                block = augment.views(block, generator) if view else block
                outputs = programs.embed(
                    program, block.numpy(), device=self.device, batch=self.batch, title=f"{title}: view {view + 1} of {count}"
                )
                if view == 0:
                    _alone(program, block.numpy(), outputs, self.device, title)
                for column, output in zip(columns, outputs, strict=False):
                    found[column].append(output)
        old, psi = np.concatenate(found[0]), np.concatenate(found[1])
        return old, psi, old if self.same else np.concatenate(found[2])


def _alone(program: programs.Embed, images: np.ndarray, outputs: tuple[np.ndarray, np.ndarray], device: torch.device, title: str) -> None:
    """Embed some images once more, each alone, as a query is: drawn by the vectors' digest, so that no program knows which.

    Raises:
        BadInput: a vector depends on the other images of its batch. The contract sees that on few canaries, which the program may know.
    """
    phi, psi = outputs
    rng = np.random.default_rng(int(digests.of_array(phi)[:16], 16))
    for row in rng.permutation(len(images))[:SEEN_ALONE]:
        own, code = programs.embed(program, images[row : row + 1], device=device)
        same = own.shape[1] == phi.shape[1] and not vectors.differ(own, phi[row : row + 1]).any()
        if not same or (np.abs(code.astype(np.int64) - psi[row]) > 1).any():
            raise BadInput("the program's vectors depend on the other images of the batch, not on their image alone", where=title)


def write_pairs(
    old: Release, new: Release, data: str | Path, out: str | Path, settings: EmbedSettings, *, seed: int, device: str = "auto"
) -> dict[str, int]:
    """Embed fitting images, pool, evaluation sample and canaries with both releases, whole or not at all.

    Fitting and pool images that are copies of evaluated ones (:mod:`fct.search.copies`) are left out of the fit, and counted.

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
            "h must not be fitted on these images",
            got=", ".join(forbidden),
            where="embed.fitting or embed.pool",
            todo="gallery, validation and canary images stay out of the fit",
        )
    chosen = devices.pick(device)
    numbers = {name: number for number, name in enumerate(new.classes)}
    embedder = _Embedder(old, new, chosen, settings.batch)
    first_release = embedder.same  # no h to fit, only a sample and canaries to measure
    drawer = old.picture() if settings.preview and not first_release else None

    def side_of(psi: np.ndarray, title: str | None = None) -> np.ndarray:
        if drawer is None:
            return psi
        return preview.with_preview(drawer, psi, embedder.programs[1], new.size, new.mode, device=chosen, title=title)

    with whole_folder(out) as part:
        folder, copied = PairsFolder(part), dict[str, Any]()
        if len(manifest.rows(POPULATIONS["known"])) == 0:
            raise BadInput("there is no evaluation sample", wanted="images of the split validation", where=manifest.root)
        judging = manifest.rows(*POPULATIONS.values())
        judged = embedder.both(judging, 1, seed=seed, title="evaluation sample")
        populations = np.where(judging.split == POPULATIONS["known"], "known", "unseen")
        sample = Sample(judging.id, judging.label, judging.source, populations, judged[0], side_of(judged[1]), judged[2])
        folder.save_sample(sample, judged[1])
        counts = {"sample": len(judging)}
        for name, splits, views, recombined in (
            ("fitting", settings.fitting, settings.views, 0),
            ("pool", settings.pool, settings.pool_views, settings.pool_recombined),
        ):
            rows = manifest.rows(*splits)
            if first_release:
                continue
            if len(rows) == 0:
                if name == "fitting":
                    raise BadInput("there are no fitting images", wanted=" or ".join(splits), where=manifest.root)
                continue
            found = embedder.both(rows, views, recombined=recombined, seed=seed, title=name)
            fits, copied[name] = _fitting(name, rows, found, judging, judged)
            kept, times = np.tile(fits, views + recombined), views + recombined
            old_rows, psi, new_rows = (array[kept] for array in found)
            labels = np.array([numbers.get(label, -1) for label in rows.label[fits]], dtype=np.int64)
            folder.save(name, old=old_rows, psi=psi, side=side_of(psi, f"{name}: preview"), new=new_rows)
            folder.save(name, labels=np.tile(labels, times), sources=np.tile(rows.id[fits], times))
            counts[name] = len(old_rows)
        counts["canaries"] = _canaries(folder, embedder, side_of)
        described = {"old": old.fingerprint, "new": new.fingerprint, "metric": new.metric, "old_classes": old.classes}
        folder.describe({"counts": counts, "copies": copied} | described)
    return counts


def _fitting(
    name: str, rows: Manifest, found: tuple[np.ndarray, ...], judging: Manifest, judged: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, dict[str, Any]]:
    """(N,) bool: images of a part that fit h, no copy of an evaluated one among them; and what is said of copies."""
    one, two = (np.concatenate([array[: len(rows)], judged[column]]) for array, column in ((found[0], 0), (found[2], 2)))
    names = np.concatenate([rows.label, judging.label])
    same, doubtful = copies.look(one, two, np.where(names == "", -1, np.unique(names, return_inverse=True)[1]))
    fits = ~np.isin(same[: len(rows)], same[len(rows) :])  # what is a copy of an evaluated image does not fit h
    if not fits.any():
        raise BadInput(f"every image of the part {name} is a copy of an evaluated one", todo="give other images")
    return fits, copies.told(copies.share(same), doubtful) | {"of evaluated images, kept from h": int((~fits).sum())}


def _canaries(folder: PairsFolder, embedder: _Embedder, side_of: Callable[[np.ndarray], np.ndarray]) -> int:
    """Write the canaries, and the development pipeline's gallery: the sample, then the canaries. Their number."""
    ids, images = embedder.old.canaries()
    old, psi = programs.embed(embedder.programs[0], images, device=embedder.device)
    new, _ = programs.embed(embedder.programs[1], convert(images, embedder.old, embedder.new), device=embedder.device)
    canaries = {"ids": ids, "old": old, "psi": psi, "side": side_of(psi)}
    folder.save("canaries", **canaries, new=new)
    folder.save("gallery", **{name: np.concatenate([folder.load("sample", name), array]) for name, array in canaries.items()})
    return len(ids)


def convert(images: np.ndarray, old: Release, new: Release) -> np.ndarray:
    """Canary images as the new release wants them: its size and mode."""
    x = torch.from_numpy(images).float()
    if new.mode != old.mode:
        x = x.expand(-1, 3, -1, -1) if new.mode == "RGB" else x.mean(dim=1, keepdim=True)
    if new.size != old.size:
        x = torch.nn.functional.interpolate(x, size=(new.size, new.size), mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).to(torch.uint8).numpy()
