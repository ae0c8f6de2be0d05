"""Side-information of a benchmark: codes of every part for a number of bytes, and the preview that pictures allow.

Legend: N images, V views, P dimensions of ψ, E dimensions of φ_new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from benchmarks.quality.lab import Lab
from benchmarks.quality.models import ModelSpec, chosen, embed, model
from fct import side
from fct.arrays import digests
from fct.sample import comparison
from fct.side import coders, picture

PICTURE_EPOCHS = 4
CODER = ("mean", "components", "step", "reach")  # a projection's buffers
SSL: dict[str, Any] = {
    "simclr_width": 24, "simclr_epochs": 40, "simclr_batch": 256, "simclr_temperature": 0.2, "simclr_learning_rate": 0.002
}  # fmt: skip
Encode = Callable[[np.ndarray], np.ndarray]  # (N, C, S, S) uint8 → (N, P) int8


@dataclass(frozen=True)
class SideSpec:
    """``kinds``: one or more of fct.side.kinds's, sharing ``bytes``; ``bits`` of a code (a picture shares its bits out as it needs them)."""

    kinds: tuple[str, ...]
    bytes: int
    bits: int = 8

    @property
    def title(self) -> str:
        form = "" if self.kinds == ("picture",) else f" int{self.bits}"
        return f"{' ⊕ '.join(self.kinds)}{form} {self.bytes} B"


PICTURE = SideSpec(("picture",), 128)
SIMCLR = SideSpec(("simclr",), 128)


def codes(lab: Lab, old: ModelSpec, spec: SideSpec, part: str) -> np.ndarray:
    """ψ of all views of a part, (V·N, P) int8."""

    def compute() -> dict[str, np.ndarray]:
        encode = _encoder(lab, old, spec)
        return {"psi": np.concatenate([encode(images) for images in lab.views(part)])}

    return lab.cached("psi", [_key(lab, old, spec), part], compute)["psi"]


def preview(lab: Lab, old: ModelSpec, new: ModelSpec, spec: SideSpec, part: str) -> np.ndarray:
    """φ_new of the picture drawn from ψ, of all views of a part: (V·N, E) float16."""

    def compute() -> dict[str, np.ndarray]:
        drawer, net, psi = drawer_of(lab, old, spec), model(lab, new).net, codes(lab, old, spec, part)
        blocks = [psi[at : at + 8192] for at in range(0, len(psi), 8192)]
        drawn = (picture.draw(drawer, block, lab.data.size, lab.data.mode, device=lab.torch_device) for block in blocks)
        return {"phi": np.concatenate([embed(lab, net, images) for images in drawn])}

    return lab.cached("preview", [_key(lab, old, spec), new.key, part], compute)["phi"]


def drawer_of(lab: Lab, old: ModelSpec, spec: SideSpec) -> picture.Drawer:
    """What draws the pictures of a release whose ψ is of the kind ``picture``."""
    arrays = _picture(lab, old, spec)
    return picture.from_tensors({name[7:]: array for name, array in arrays.items() if name.startswith("drawer.")})


def drawn_ink(lab: Lab, old: ModelSpec, spec: SideSpec, part: str) -> np.ndarray:
    """(V·N, pixels) float32 ink of the drawings: what side-information of the kind ``picture`` says by itself."""
    psi = codes(lab, old, spec, part)
    images = picture.draw(drawer_of(lab, old, spec), psi, lab.data.size, lab.data.mode, device=lab.torch_device)
    return pixels(images)


def pixels(images: np.ndarray) -> np.ndarray:
    """(N, pixels) float32 ink; an empty image still gets a direction."""
    flat = 255.0 - images.reshape(len(images), -1).astype(np.float32)
    flat[~flat.any(axis=1)] = 1.0
    return flat


def best_thumbnail(lab: Lab, budget: int, score: Callable[[np.ndarray], float]) -> comparison.Thumbnail:
    """The thumbnail of so many bytes whose ``score`` (of the validation images as it keeps them) is highest."""
    images = lab.data.parts["validation"].images
    return max(comparison.thumbnails(budget, images.shape[1], images.shape[2]), key=lambda one: score(one.apply(images)))


def _key(lab: Lab, old: ModelSpec, spec: SideSpec) -> list[Any]:
    """A picture depends on the images of the version alone; everything else on the version too."""
    return [asdict(spec), digests.of_array(chosen(lab, old)[0]) if spec.kinds == ("picture",) else old.key]


def _encoder(lab: Lab, old: ModelSpec, spec: SideSpec) -> Encode:
    if spec.kinds == ("picture",):
        arrays = _picture(lab, old, spec)
        coder = coders.Projection(*(torch.from_numpy(arrays[f"coder.{name}"]) for name in CODER if f"coder.{name}" in arrays))
        return _in_blocks(lambda images: coder((1 - images.float() / 255).flatten(1)), lab.torch_device, coder)
    program = _program(lab, old, spec)
    return _in_blocks(lambda images: program(images)[1], lab.torch_device, program)


def _in_blocks(apply: Callable[[torch.Tensor], torch.Tensor], device: torch.device, module: torch.nn.Module) -> Encode:
    module.to(device).eval()

    def encode(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            blocks = [apply(torch.from_numpy(images[at : at + 512]).to(device)).cpu() for at in range(0, len(images), 512)]
        return torch.cat(blocks).numpy()

    return encode


@lru_cache(maxsize=4)
def _program(lab: Lab, old: ModelSpec, spec: SideSpec) -> side.Program:
    rows, _ = chosen(lab, old)
    dims = spec.bytes * 8 // spec.bits // len(spec.kinds)
    settings = side.SideSettings(kinds=spec.kinds, dims=dims, bits=spec.bits, **SSL)
    if lab.effort.epochs < 1:
        settings = replace(settings, simclr_epochs=max(1, round(settings.simclr_epochs * lab.effort.epochs)))
    images = lab.data.parts["fitting"].images[rows]
    return side.prepare(model(lab, old).net, images, settings, seed=old.seed, device=lab.torch_device)


def _picture(lab: Lab, old: ModelSpec, spec: SideSpec) -> dict[str, np.ndarray]:
    """Coder and drawer of a picture, made without labels from the images the old version was trained on and the pool."""
    own = chosen(lab, old)[0]

    def make() -> dict[str, np.ndarray]:
        images = np.concatenate([lab.data.parts["fitting"].images[own], lab.data.parts["pool"].images])
        ink = 1 - images.astype(np.float32) / 255
        flat = ink.reshape(len(ink), -1)
        coder, _ = coders.fit_water_filled(flat, spec.bytes * 8)
        with torch.inference_mode():
            psi = coder(torch.from_numpy(flat)).numpy()
        # a code stands for the middle of its cell: (c + ½) · step; where all have 8 bits (512 B and more), for itself
        half = 0.0 if coder.reach is None else 0.5
        weight = (coder.step[:, None] * coder.components.T).view(-1, *ink.shape[1:])
        bias = (coder.mean + half * coder.step @ coder.components.T).view(ink.shape[1:])
        drawer = picture.fit(weight, bias, psi, ink, epochs=PICTURE_EPOCHS, seed=0, device=lab.torch_device, title="picture")
        arrays = {f"coder.{name}": getattr(coder, name).numpy() for name in CODER if getattr(coder, name) is not None}
        return arrays | {f"drawer.{name}": array for name, array in picture.tensors_of(drawer).items()}

    return lab.cached("picture", _key(lab, old, spec), make)
