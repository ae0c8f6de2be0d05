"""Embedders of a benchmark: which images they see, how they are trained, and φ of every part.

Legend: N images, V views, D dimensions, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.quality.lab import Lab
from fct import embedder
from fct.embedder.settings import EmbedderSettings
from fct.embedder.training import train_embedder, unit
from fct.sample import making

THIN = 10  # of a subgroup that is under-represented, one image in so many


@dataclass(frozen=True)
class ModelSpec:
    """One version. ``choose``: which training images it sees (:func:`chosen`). ``influence``: the older version that BCT keeps to."""

    settings: EmbedderSettings
    seed: int
    choose: str = "all"
    influence: ModelSpec | None = None

    @property
    def key(self) -> Any:
        return asdict(self)


@dataclass(frozen=True)
class Model:
    """A trained embedder, its head (weight (K, D), bias (K,)) and the classes of the head's rows."""

    net: nn.Module
    head: tuple[np.ndarray, np.ndarray]
    classes: list[str]


V1 = EmbedderSettings(
    architecture="small-cnn", dim=64, classes=0.5, epochs=60, batch=64, learning_rate=3e-3, weight_decay=0.01, label_smoothing=0.1
)
V2 = replace(V1, architecture="small-resnet", dim=128, classes=1.0, weight_decay=0.1, label_smoothing=0.2)


OTHERS = {"emoji": ("small-vit", "resnet18")}  # v1 and v2 of a set that is kept apart by its architectures too


def old_spec(lab: Lab, kind: str, seed: int, **changes: Any) -> ModelSpec:
    """v1: ``strong`` keeps where things are, ``weak`` pools it away; both see half of the known classes."""
    weak = {"architecture": "small-cnn-pooled", "epochs": 40} if kind == "weak" else {}
    named = lab.architecture or OTHERS.get(lab.name, ("",))[0]
    own = {"architecture": named} if named else weak
    return ModelSpec(replace(V1, **(own | changes)), seed)


def new_spec(lab: Lab, seed: int, **changes: Any) -> ModelSpec:
    """v2: a larger network on all known classes."""
    named = lab.architecture or OTHERS.get(lab.name, ("", ""))[1]
    own = {"architecture": named} if named else {}
    return ModelSpec(replace(V2, **(own | changes)), seed)


def chosen(lab: Lab, spec: ModelSpec) -> tuple[np.ndarray, list[str]]:
    """Rows of the part ``fitting`` that a version is trained on, and its classes.

    ``all``, ``half-images`` (every other one of a class), ``first-half`` and ``second-half`` (disjoint classes, and disjoint sources
    where they are known), ``thin-quarter`` (of every fourth class only one image in ten, two at least).
    """
    part = lab.data.parts["fitting"]
    classes = making.known_part(lab.data.classes, spec.settings.classes)
    keep = (part.splits == "train") & np.isin(part.labels, classes)
    if spec.choose in ("first-half", "second-half"):
        at = int(spec.choose == "second-half")
        classes = lab.data.classes[at::2]
        keep &= np.isin(part.labels, classes)
        sources = sorted(set(part.sources[part.splits == "train"].tolist()) - {""})
        if len(sources) > 1:
            keep &= np.isin(part.sources, sources[at::2])
    if spec.choose in ("half-images", "thin-quarter"):
        for number, label in enumerate(classes):
            rows = np.flatnonzero(keep & (part.labels == label))
            if spec.choose == "half-images":
                keep[rows[1::2]] = False
            elif number % 4 == 0:
                keep[rows[max(2, len(rows) // THIN) :]] = False
    rows = np.flatnonzero(keep)
    return rows, sorted(set(part.labels[rows].tolist()))


def model(lab: Lab, spec: ModelSpec) -> Model:
    """The trained version, from the cache where it was trained before."""
    rows, classes = chosen(lab, spec)
    part = lab.data.parts["fitting"]
    settings = replace(spec.settings, epochs=max(1, round(spec.settings.epochs * lab.effort.epochs)))
    channels, size = part.images.shape[1], part.images.shape[-1]

    def train() -> dict[str, np.ndarray]:
        influence = None
        if spec.influence is not None:
            old = model(lab, spec.influence)
            numbers = np.array([classes.index(label) if label in classes else -1 for label in old.classes])
            influence = (*old.head, numbers, 1.0)
        labels = np.searchsorted(classes, part.labels[rows])
        net, head = train_embedder(
            part.images[rows], labels, settings, seed=spec.seed, device=lab.torch_device, title=settings.architecture, influence=influence
        )
        arrays = {f"net.{name}": value.numpy() for name, value in net.state_dict().items()}
        return arrays | {"weight": head.weight.detach().numpy(), "bias": head.bias.detach().numpy()}

    arrays = lab.cached("models", spec.key, train)
    net = embedder.build(settings.architecture, settings.dim, channels, size, spec.seed)
    net.load_state_dict({name[4:]: torch.from_numpy(value) for name, value in arrays.items() if name.startswith("net.")})
    return Model(net.eval(), (arrays["weight"], arrays["bias"]), classes)


def embed(lab: Lab, net: nn.Module, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """(N, C, S, S) uint8 → φ (N, D) float16, as it is kept."""
    net = net.to(lab.torch_device).eval()
    with torch.inference_mode():
        blocks = [net(unit(torch.from_numpy(images[at : at + batch]).to(lab.torch_device)))[0].cpu() for at in range(0, len(images), batch)]
    return torch.cat(blocks).numpy().astype(np.float16)


def phi(lab: Lab, spec: ModelSpec, part: str) -> np.ndarray:
    """φ of all views of a part, (V·N, D) float16: all images of the first view, then of the second, …"""

    def compute() -> dict[str, np.ndarray]:
        net = model(lab, spec).net
        return {"phi": np.concatenate([embed(lab, net, images) for images in lab.views(part)])}

    return lab.cached("phi", [spec.key, part], compute)["phi"]


def head_rows(lab: Lab, spec: ModelSpec) -> np.ndarray:
    """(V·N,) int64: the head's row of every fitting view, −1 where this version's head has no such class."""
    numbers = {label: number for number, label in enumerate(model(lab, spec).classes)}
    labels = np.array([numbers.get(label, -1) for label in lab.data.parts["fitting"].labels], dtype=np.int64)
    return np.tile(labels, sum(lab.counts("fitting")))
