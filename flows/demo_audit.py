"""The demo's audit: the carried gallery beside one that the new model embedded itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fct import device as devices
from fct import forward
from fct.arrays.files import read_json
from fct.datasets.images import read_image, read_images
from fct.datasets.manifest import Manifest, read_manifest
from fct.program import programs
from fct.release import preview
from fct.release.examining import open_release
from fct.sample import comparison, pairs
from fct.sample.folder import PairsFolder, Sample
from registry.items.arrivals import GALLERY_SPLITS
from registry.revisions import kept, serving
from registry.upgrade_files import COSTS
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace


def row_asked(ws: Workspace, manifest: Manifest) -> int:
    """Row of the query that the picture shows: the first validation image of the first class that only version 2 was trained on.

    A rule that looks at no result, and the same in every run.
    """
    one, two = (set(open_release(ws.root / "build/releases" / name, check=False).classes) for name in ("v1", "v2"))
    rows: list[int] = np.flatnonzero(manifest.split == "validation").tolist()
    learned = [row for row in rows if manifest.label[row] in two - one]
    return min(learned or rows, key=lambda row: (str(manifest.label[row]), row))


def answers_to(ws: Workspace, file: Path) -> list[serving.Hit]:
    opened = serving.open_serving(ws)
    return opened.search(read_image(file, opened.release.size, opened.release.mode)[None], 5)[0]


def pictures_of(hits: list[serving.Hit], label: str) -> list[tuple[Path | None, str, bool]]:
    return [(Path(hit.image_uri), hit.label, hit.label == label) for hit in hits]


def audit(ws: Workspace, version: int, old: int) -> tuple[dict[str, Any], dict[str, float | int | str]]:
    """The table on the live gallery, once its images are back, and the costs measured in this run."""
    settings, upgrade = ws.settings, Upgrade(ws, version)
    device = devices.pick(settings.device)
    manifest = read_manifest(ws.data)
    rows = manifest.rows(*GALLERY_SPLITS)
    first, new = kept.opened(ws, old, check=False), kept.opened(ws, version, check=False)
    images = read_images(rows.files, new.size, new.mode, "audit: reading")
    program = new.program(device)
    programs.embed(program, images[:64], device=device)
    started = time.perf_counter()
    native, _ = programs.embed(program, images, device=device, title="audit: embedding natively")
    native_s = time.perf_counter() - started
    features = next(ws.gallery.features(old, ids=rows.id, batch_rows=len(rows)))
    populations = np.where(rows.split == GALLERY_SPLITS[0], "known", "unseen")
    h = forward.load(upgrade.forward_folder(old))
    side = preview.side_of(first, new, features.psi, h, device=device, program=program)
    sample = Sample(rows.id, rows.label, rows.source, populations, features.phi, side, native)
    space = ws.gallery.read_space(upgrade.space)
    shipped = space.vectors[np.searchsorted(space.ids, rows.id)]
    validation = PairsFolder(upgrade.pairs_folder(old)).sample()
    seen = manifest.rows(*pairs.POPULATIONS.values())

    def published() -> forward.Forward:
        folder = upgrade.pairs_folder(old)
        return comparison.fct_as_published(folder, settings.fit, settings.embed.views, seed=settings.seed, device=settings.device)

    def best() -> comparison.Thumbnail:
        looked = read_images(seen.files, new.size, new.mode, "audit: thumbnails")
        return comparison.best_thumbnail(new, program, looked, validation, first.side_bytes, device)

    pieces: list[Callable[[], Any]] = [published, best]  # the threads of one fit would wait for each other beside another process
    fct, thumbnail = devices.spread(lambda piece: piece(), pieces, device)
    ridge = forward.load(upgrade.closed_folder(old))  # on the same pairs and pool as h, which has to beat it
    references = {"ridge": ridge, "fct": fct}
    table = comparison.table(
        sample, features.psi, images, shipped, references, thumbnail, new, program, seed=settings.evaluate.seed, device=device
    )
    costs = read_json(upgrade.folder / COSTS) | {
        "native_us_per_item": round(1e6 * native_s / len(rows), 1),
        "thumbnail": f"{thumbnail.side}×{thumbnail.side} at {thumbnail.bits} bit",
    }
    return table, costs
