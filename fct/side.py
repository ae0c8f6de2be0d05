"""Side-information ψ: what is stored beside φ for every gallery item, prepared before the next version is known.

Built-in kinds, all keep the spatial layout (a globally pooled ψ carries half as much), all made from images that the releasing
version had, without their labels:

``simclr``     an encoder trained by SimCLR (Chen et al. 2020, NT-Xent) as FCT proposes (arXiv 2112.02805, section 3.2), projected
               from its flattened feature map.
``vicreg``     the same encoder trained by VICReg (Bardes et al. 2022, arXiv 2105.04906).
``pca``        the embedder's own mid-level map, flattened.
``picture``    the image itself: a PCA of its pixels, and a small network that draws it again (:mod:`fct.picture`).
``thumbnail``  the picture itself, small and grey, in few grey levels: what every learned kind has to beat.

All but the last are projected by a PCA and stored as codes (:mod:`fct.codes`): of 8, 4, 2 or 1 bits each, or within a number of bytes
that the components share by their variance. ψ is int8 in that range.
Legend: N images, C channels, S side in pixels, F flattened map, P dimensions of ψ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fct import augment, codes
from fct import picture as picture_of
from fct.coders import Projection, Thumbnail, enlarge, fit_projection, fit_water_filled
from fct.errors import BadInput
from fct.ssl import nt_xent, train_simclr, train_vicreg, vicreg
from fct.training import unit

__all__ = [
    "KINDS",
    "Program",
    "Projection",
    "SideSettings",
    "Thumbnail",
    "enlarge",
    "fit_projection",
    "fit_water_filled",
    "layout",
    "nt_xent",
    "prepare",
    "train_simclr",
    "train_vicreg",
    "vicreg",
]

ENCODERS = {"simclr": train_simclr, "vicreg": train_vicreg}
KINDS = ("simclr", "vicreg", "pca", "picture", "thumbnail")
PICTURE_SIDE = 32  # pixels: larger images are stored as pictures of this size
PROJECTED_ROWS = 20_000  # maps that a PCA is made from


@dataclass(frozen=True)
class SideSettings:
    """params.yaml, ``train.v1.side``: which kinds, how many dimensions and bits, how SimCLR and VICReg are trained.

    Attributes:
        kinds: any of :data:`KINDS`, each once; their codes stand in ψ in this order.
        dims: of each kind, one number for all or one for each. A thumbnail's is its pixels, a square number.
        simclr_width, simclr_epochs, simclr_batch, simclr_temperature, simclr_learning_rate: of the encoder; VICReg takes all but the
            temperature.
        bits: of every code, 8, 4, 2 or 1.
        bytes: of each kind. The PCA's components share them, and ``dims`` and ``bits`` do not count; 0: dims × bits says how many.
        images: splits of the data that ψ is prepared from, without labels; never validation or gallery.
        drawing_epochs: passes over them that train what draws a picture again.

    Raises:
        BadInput: a value is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid"}

    kinds: tuple[str, ...]
    dims: int | tuple[int, ...]
    simclr_width: int
    simclr_epochs: int
    simclr_batch: int
    simclr_temperature: float
    simclr_learning_rate: float
    bits: int = 8
    bytes: int = 0
    images: tuple[str, ...] = ("train",)
    drawing_epochs: int = 4

    def __post_init__(self) -> None:
        if self.bits not in codes.BITS:
            raise BadInput("side.bits has an unusable value", wanted=" or ".join(map(str, codes.BITS)), got=self.bits)
        if isinstance(self.dims, tuple) and len(self.dims) != len(self.kinds):
            raise BadInput("side.dims does not fit side.kinds", wanted=f"one number, or {len(self.kinds)}", got=list(self.dims))
        if min(self.each, default=1) < 1:
            raise BadInput("side.dims has an unusable value", wanted="at least 1", got=self.dims)
        if self.bytes < 0 or (self.bytes and "thumbnail" in self.kinds):
            wanted = "0 with the kind thumbnail, whose pixels have all as many bits" if self.bytes > 0 else "0 or more"
            raise BadInput("side.bytes has an unusable value", wanted=wanted, got=self.bytes)
        if self.drawing_epochs < 1:
            raise BadInput("side.drawing_epochs has an unusable value", wanted="at least 1", got=self.drawing_epochs)
        wrong = [split for split in self.images if not split.startswith(("train", "fitting", "pool"))]
        if wrong or not self.images:
            raise BadInput("side.images has an unusable value", wanted="train, fitting or pool", got=list(self.images))
        pixels = dict(zip(self.kinds, self.each, strict=True)).get("thumbnail", 1)
        if math.isqrt(pixels) ** 2 != pixels:
            raise BadInput("a thumbnail's dims are its pixels", wanted="a square number such as 64, 144 or 256", got=pixels)

    @property
    def each(self) -> tuple[int, ...]:
        """Dimensions of each kind."""
        return self.dims if isinstance(self.dims, tuple) else (self.dims,) * len(self.kinds)


def layout(maps: Tensor, most: int = 8) -> Tensor:
    """(N, c, h, w) → (N, F): flattened with its layout, pooled to at most ``most`` × ``most`` cells."""
    if maps.shape[-1] > most:
        maps = functional.adaptive_avg_pool2d(maps, most)
    return maps.flatten(1)


class Program(nn.Module):
    """What is exported as one program: uint8 images → (φ, ψ).

    Args:
        encoders: kind → network (N, C, S, S) float → map (N, c, h, w).
        coders: kind → what turns its map into codes; their order is that of the codes in ψ.
    """

    def __init__(self, embedder: nn.Module, encoders: dict[str, nn.Module], coders: dict[str, nn.Module]):
        super().__init__()
        self.embedder = embedder
        self.encoders = nn.ModuleDict(encoders)
        self.coders = nn.ModuleDict(coders)

    def maps(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(N, C, S, S) uint8 → φ (N, D) and what each kind is made from: a flattened map (N, F), or the ink (N, C, S, S)."""
        x = unit(images)
        phi, middle = self.embedder(x)
        found = {"pca": layout(middle), "picture": layout(x, PICTURE_SIDE), "thumbnail": x}
        for kind, encoder in self.encoders.items():
            found[kind] = layout(encoder(x))
        return phi, found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8."""
        phi, found = self.maps(images)
        return phi, torch.cat([coder(found[kind]) for kind, coder in self.coders.items()], dim=1)

    @property
    def bits(self) -> list[int]:
        """Bits of each of the P codes of ψ."""
        return [bits for coder in self.coders.values() for bits in coder.bits]  # type: ignore[union-attr]


def prepare(
    embedder: nn.Module, images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str = "side-information"
) -> Program:
    """Make the program of a release: train what ψ needs on the release's own images and project.

    Args:
        embedder: (N, C, S, S) float in 0–1 → φ (N, D), map (N, c, h, w); eval mode.
        images: (N, C, S, S) uint8, images that the version has; those it was trained on, or more.

    Raises:
        BadInput: unknown, repeated or no kind of side-information; a thumbnail larger than the images.
    """
    unknown = [kind for kind in settings.kinds if kind not in KINDS]
    if unknown or not settings.kinds or len(set(settings.kinds)) < len(settings.kinds):
        raise BadInput("unknown, repeated or no kind of side-information", wanted=" and ".join(KINDS), got=list(settings.kinds))
    dims = dict(zip(settings.kinds, settings.each, strict=True))
    if dims.get("thumbnail", 0) > images.shape[2] ** 2:
        raise BadInput("the thumbnail is larger than the images", wanted=f"at most {images.shape[2] ** 2} pixels", got=dims["thumbnail"])
    encoders: dict[str, nn.Module] = {
        kind: train(images, settings, seed=seed, device=device, title=title) for kind, train in ENCODERS.items() if kind in settings.kinds
    }
    program = Program(embedder, encoders, {}).eval()
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {kind: [] for kind in settings.kinds if kind != "thumbnail"}
    chosen = images[:: -(-len(images) // PROJECTED_ROWS)]
    views = max(1, min(4, PROJECTED_ROWS // len(chosen)))
    with torch.inference_mode():
        for view in range(views) if found else ():  # the first as it is, then random views: a PCA of 1,000 maps alone follows their noise
            for start in range(0, len(chosen), 512):
                block = torch.from_numpy(np.ascontiguousarray(chosen[start : start + 512]))
                _, maps = program.maps(augment.views(block, generator) if view else block)
                for kind in found:
                    found[kind].append(maps[kind])

    def coder(kind: str) -> nn.Module:
        if kind not in found:
            return Thumbnail(math.isqrt(dims[kind]), settings.bits)
        maps = torch.cat(found[kind]).numpy()
        if settings.bytes:
            return fit_water_filled(maps, 8 * settings.bytes)[0]
        return fit_projection(maps, dims[kind], settings.bits)

    return Program(embedder, encoders, {kind: coder(kind) for kind in settings.kinds}).eval()


def fit_drawer(
    program: Program, images: np.ndarray, settings: SideSettings, *, seed: int, device: torch.device, title: str = "drawing"
) -> picture_of.Drawer | None:
    """What draws the images again from ψ; None where no kind is ``picture``.

    Args:
        program: of :func:`prepare`. images: (N, C, S, S) uint8, those it was prepared from.
    """
    if "picture" not in program.coders:
        return None
    projection = program.coders["picture"]
    assert isinstance(projection, Projection)
    side = min(images.shape[2], PICTURE_SIDE)
    before = 0
    for kind, coder in program.coders.items():
        if kind == "picture":
            break
        before += len(coder.bits)  # type: ignore[arg-type]
    half = 0.0 if projection.reach is None else 0.5  # a code of few bits is the middle of its cell
    decode = projection.step[:, None] * projection.components.T
    weight = torch.zeros(len(program.bits), decode.shape[1])
    weight[before : before + len(decode)] = decode
    bias = projection.mean + half * decode.sum(dim=0)
    psi, ink = [], []
    with torch.inference_mode():
        for start in range(0, len(images), 512):
            block = torch.from_numpy(np.ascontiguousarray(images[start : start + 512]))
            psi.append(program(block)[1].numpy())
            ink.append(layout(unit(block), PICTURE_SIDE).numpy())
    shape = (images.shape[1], side, side)
    return picture_of.fit(
        weight.view(-1, *shape),
        bias.view(shape),
        np.concatenate(psi),
        np.concatenate(ink).reshape(-1, *shape),
        epochs=settings.drawing_epochs,
        seed=seed,
        device=device,
        title=title,
    )
