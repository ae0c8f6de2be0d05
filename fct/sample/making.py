"""The step *train*: from labelled images to a release folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fct import device as devices
from fct import side
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.embedder.settings import EmbedderSettings
from fct.embedder.training import train_embedder
from fct.errors import BadInput
from fct.program import programs
from fct.release.folder import Release
from fct.release.writing import write
from fct.sample import evaluation
from fct.sample.folder import Sample
from fct.sample.pairs import POPULATIONS
from fct.side.settings import SideSettings


def known_part(classes: list[str], share: float) -> list[str]:
    """The classes a version is trained on: every k-th by name first, so that half of them are spread over the alphabet."""
    wanted = max(1, round(share * len(classes)))
    order = classes[::2] + classes[1::2]
    return sorted(order[:wanted])


def make_release(
    name: str,
    data: str | Path,
    out: str | Path,
    embedder: EmbedderSettings,
    side_settings: SideSettings,
    *,
    size: int,
    mode: str,
    seed: int,
    device: str = "auto",
    precision: str = "auto",
) -> Release:
    """Train embedder and head on the split ``train``, prepare ψ on the same images, measure, write the release folder.

    Args:
        name: ``v1`` …, for the progress bars.
        data: folder with a manifest. size, mode: of its images.
        out: the release folder; whole or not at all.
        precision: of the training of the embedder and of what draws a picture again (:func:`fct.device.precision`).

    Raises:
        BadInput: fewer than two classes to train on.
    """
    manifest = read_manifest(data)
    train = manifest.rows("train")
    classes = known_part(sorted(set(train.label.tolist())), embedder.classes)
    chosen = devices.pick(device)
    keep = np.isin(train.label, classes)
    if len(classes) < 2:
        raise BadInput("an embedder needs at least two classes", got=classes, where=f"train.{name}.embedder.classes")
    files = [file for file, kept in zip(train.files, keep, strict=True) if kept]
    images = read_images(files, size, mode, f"{name}: reading")
    labels = np.searchsorted(classes, train.label[keep])
    used = devices.precision(precision, chosen)
    network, head = train_embedder(images, labels, embedder, seed=seed, device=chosen, title=f"{name}: embedder", precision=used)
    further = [split for split in side_settings.images if split != "train"]
    own = images if "train" in side_settings.images else images[:0]  # of its own classes
    files = manifest.rows(*further).files if further else []
    unlabelled = np.concatenate([own, read_images(files, size, mode, f"{name}: reading")]) if files else own
    program = side.prepare(network, unlabelled, side_settings, seed=seed, device=chosen, title=f"{name}: side-information")
    drawer = side.fit_drawer(program, unlabelled, side_settings, seed=seed, device=chosen, title=f"{name}: drawing ψ", precision=used)
    measurements = measure(program.to(chosen), data, size=size, mode=mode, device=chosen)
    program = program.cpu()
    canaries = manifest.rows("canary")
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    return write(
        out,
        program,
        size=size,
        mode=mode,
        canary_ids=canaries.id.tolist(),
        canary_images=read_images(canaries.files, size, mode, f"{name}: canaries"),
        head=(weight, bias),
        classes=classes,
        picture=drawer,
        side={"kinds": list(side_settings.kinds), "bits": program.bits, "prepared_from": len(unlabelled), "trained_in": used},
        measurements=measurements,
    )


def measure(
    program: programs.Embed, data: str | Path, *, size: int, mode: str, device: torch.device, metric: str = "cosine"
) -> dict[str, float]:
    """new/new of a program on the evaluation sample: ``known.top1`` … The same numbers an upgrade measures again (gate new_intact)."""
    rows = read_manifest(data).rows(*POPULATIONS.values())
    phi, _ = programs.embed(program, read_images(rows.files, size, mode, "measuring"), device=device)
    populations = np.where(rows.split == POPULATIONS["known"], "known", "unseen")
    sample = Sample(rows.id, rows.label, rows.source, populations, phi, phi, phi)
    found = evaluation.search(sample, phi, phi, metric)
    return {
        f"{population}.{name}": round(float(found.metric(name)[populations[found.rows] == population].mean()), 6)
        for population in sorted(set(populations[found.rows].tolist()))
        for name in evaluation.NAMES
    }
