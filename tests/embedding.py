"""A workspace in which version 2 has a program that embeds images, made without training: an image shows the vector that it is given.

Items are native to version 1 and carried over; version 2 waits (:func:`waiting`), or serves (:func:`serving`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from fct.release.folder import Release
from fct.release.writing import write
from fct.sample import evaluation
from fct.sample.folder import PairsFolder, Sample
from registry.decisions.decisions import approve
from registry.decisions.promotion import promote
from registry.mlflow.store import RELEASE_TAG
from registry.revisions import kept
from registry.revisions.building import pin
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import by_hand, waiting
from tests.no_mlflow import at_door

DIM, SCALE = by_hand.DIM, 32.0  # an image has DIM × DIM pixels, a row for each number
SHARES = np.linspace(0.2, 1.0, 6)  # mAP of the curve, at equally spaced shares
EMPTY, GONE = "i01", "i02"  # an item whose image gives no direction, and one whose image is gone


class Shown(nn.Module):
    """φ (N, 8) is what an image shows, ψ (N, 4) its first half."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phi = (images.float().mean(dim=(1, 3)) - 128) / SCALE
        return phi, (phi[:, :4] * 10).to(torch.int8)


def images_of(phi: np.ndarray) -> np.ndarray:
    """(N, 1, 8, 8) uint8 images of which :class:`Shown` gives φ (N, 8), to 1/64 and as far as 4."""
    return np.rint(128 + SCALE * phi).clip(0, 255).astype(np.uint8)[:, None, :, None].repeat(DIM, axis=3)


def seen(images: np.ndarray) -> np.ndarray:
    """(N, 8) float32 φ of images (N, 1, 8, 8): a naive :class:`Shown`."""
    return ((images[:, 0, :, 0].astype(np.float32) - 128) / np.float32(SCALE)).astype(np.float32)


def new_of(phi: np.ndarray) -> np.ndarray:
    """(N, 8) what version 2 gives the items to which version 1 gives φ: turned, and the larger the less alike."""
    noise = np.random.default_rng(9).normal(size=phi.shape)
    size = np.linalg.norm(phi, axis=1, keepdims=True)
    return seen(images_of(waiting.turned(phi) + 0.12 * size**2 * noise))


def labels_of(new: np.ndarray) -> np.ndarray:
    """(N,) str: of vectors that show the same number largest."""
    return np.char.add("largest ", new.argmax(axis=1).astype(str))


def make(folder: Path) -> None:
    """The release with the program, in ``folder/release``."""
    canaries = images_of(waiting.turned(by_hand.rows(8, 2)))
    write(folder / "release", Shown(), size=DIM, mode="L", canary_ids=[f"c{n}" for n in range(8)], canary_images=canaries)


def made(folder: Path, release: Release) -> Workspace:
    """Version 2 waits: passed and published. Images lie in ``folder/images``, from where they may be read."""
    workspace = by_hand.project(folder)
    workspace = replace(
        workspace, settings=replace(workspace.settings, data=replace(workspace.settings.data, roots=(str(folder / "images"),)))
    )
    door = at_door(workspace)
    one = by_hand.release_of(folder / "given" / "v1", 1)
    for given in (one, release):  # not by `register`, which runs the program in a process of its own
        door._publish("tiny", given.folder, "release", "", {RELEASE_TAG: given.digest()}, {})
    phi = by_hand.rows(len(waiting.IDS), 1)
    labels = labels_of(new_of(phi))
    uris = _draw(folder / "images", images_of(new_of(phi)))
    workspace.gallery.ingest(1, one.fingerprint, waiting.IDS, phi, np.ones((len(phi), 4), np.int8), labels, labels, uris)
    workspace.gallery.create_space("spaces/v1-native", DIM, one.fingerprint, {})
    workspace.gallery.append_space("spaces/v1-native", waiting.IDS, phi, "native", np.zeros(len(phi)))
    by_hand.add_items(workspace, one, waiting.CANARIES, 2, "canary")
    kept.keep(workspace, one)
    by_hand.append(workspace, "promote", pin(workspace, 1, "spaces/v1-native", one, {}))
    fitting = by_hand.rows(400, 3)
    waiting.measured(workspace, 2, phi, fitting, new_of(fitting))
    _evaluated(Upgrade(workspace, 2))
    return workspace


def _draw(folder: Path, images: np.ndarray) -> list[str]:
    folder.mkdir()
    images[waiting.IDS.index(EMPTY)] = 128
    for one, image in zip(waiting.IDS, images, strict=True):
        if one != GONE:
            Image.fromarray(image[0]).save(folder / f"{one}.png")
    return [str(folder / f"{one}.png") for one in waiting.IDS]


def _evaluated(upgrade: Upgrade) -> None:
    """The evaluation sample with labels of the items, and its measurements with a curve."""
    old = by_hand.rows(60, 4)
    ids = np.array([f"s{row:02}" for row in range(len(old))])
    known = np.where(np.arange(len(old)) < 40, "known", "unseen")
    sample = Sample(ids, labels_of(new_of(old)), ids, known, old, np.ones((len(old), 4), np.int8), new_of(old))
    folder = PairsFolder(upgrade.pairs_folder(1))
    folder.save_sample(sample, sample.side)
    h = upgrade.forwards()[1]

    def curve(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"curve_shipped_mAP": SHARES[:, None] + np.array([-0.1, 0.0, 0.1])}

    evaluation.write(sample, h.transform(old)[0], upgrade.new.metric, upgrade.step("evaluation-v1"), seed=0, further=curve)


def serving(workspace: Workspace) -> Workspace:
    """Version 2 is approved and promoted."""
    approve(workspace, 2, by="ana", why="")
    promote(workspace, 2)
    return workspace
