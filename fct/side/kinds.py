"""Side-information ψ: what is stored beside φ for every gallery item, prepared before the next version is known.

Built-in kinds, all keep the spatial layout (a globally pooled ψ carries half as much), all made from images that the releasing
version had, without their labels:

``simclr``     an encoder trained by SimCLR (Chen et al. 2020, NT-Xent) as FCT proposes (arXiv 2112.02805, section 3.2), projected
               from its flattened feature map.
``vicreg``     the same encoder trained by VICReg (Bardes et al. 2022, arXiv 2105.04906).
``pca``        the embedder's own mid-level map, flattened.
``picture``    the image itself: a PCA of its pixels, and a small network that draws it again (:mod:`fct.side.picture`).
``thumbnail``  the picture itself, small and grey, in few grey levels: what every learned kind has to beat.

All but the last are projected by a PCA and stored as codes (:mod:`fct.side.codes`): of 8, 4, 2 or 1 bits each, or within a number of bytes
that the components share by their variance. ψ is int8 in that range.
Legend: N images, C channels, S side in pixels, F flattened map, P dimensions of ψ.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fct.device import AUTO
from fct.embedder import augment
from fct.embedder.training import unit
from fct.errors import BadInput
from fct.side import picture as picture_of
from fct.side.coders import Projection, Thumbnail, enlarge, fit_projection, fit_water_filled
from fct.side.settings import KINDS, SideSettings
from fct.side.ssl import nt_xent, train_simclr, train_vicreg, vicreg

__all__ = [
    "Program",
    "Projection",
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
PICTURE_SIDE = 32  # pixels: larger images are stored as pictures of this size
PROJECTED_ROWS = 20_000  # maps that a PCA is made from
WRITTEN = "fct.side"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies


def layout(maps: Tensor, most: int = 8) -> Tensor:
    """(N, c, h, w) → (N, F): flattened with its layout, pooled to at most ``most`` × ``most`` cells.

    Examples:
        >>> import torch
        >>> from fct.side import layout
        >>> layout(torch.zeros(5, 3, 4, 4)).shape, layout(torch.zeros(5, 3, 16, 16)).shape
        (torch.Size([5, 48]), torch.Size([5, 192]))
    """
    if maps.shape[-1] > most:
        maps = functional.adaptive_avg_pool2d(maps, most)
    return maps.flatten(1)


class Program(nn.Module):
    """What is exported as one program: uint8 images → (φ, ψ).

    Args:
        encoders: kind → network (N, C, S, S) float → map (N, c, h, w).
        coders: kind → what turns its map into codes; their order is that of the codes in ψ.

    Examples:
        One kind that needs no encoder and no training: the thumbnail, of 2 × 2 pixels.

        >>> import torch
        >>> from fct.side.coders import Thumbnail
        >>> from fct.side import Program
        >>> class Mean(torch.nn.Module):
        ...     def forward(self, ink):
        ...         return ink.mean((2, 3)), ink
        >>> program = Program(Mean(), {}, {"thumbnail": Thumbnail(2, 8)})
        >>> phi, psi = program(torch.zeros(10, 3, 8, 8, dtype=torch.uint8))
        >>> phi.shape, psi.shape, psi.dtype, program.bits
        (torch.Size([10, 3]), torch.Size([10, 4]), torch.int8, [8, 8, 8, 8])
    """

    __module__ = WRITTEN

    def __init__(self, embedder: nn.Module, encoders: dict[str, nn.Module], coders: dict[str, nn.Module]):
        super().__init__()
        self.embedder = embedder
        self.encoders = nn.ModuleDict(encoders)
        self.coders = nn.ModuleDict(coders)

    def made_from(self, kind: str, ink: Tensor, middle: Tensor | None = None) -> Tensor:
        """What a kind is made from: a flattened map (N, F), or the ink (N, C, S, S) float itself.

        Args:
            middle: the embedder's map of this ink, where the embedder has looked at it already; only ``pca`` needs it.
        """
        if kind == "thumbnail":
            return ink
        if kind == "picture":
            return layout(ink, PICTURE_SIDE)
        if kind == "pca":
            return layout(self.embedder(ink)[1] if middle is None else middle)
        return layout(self.encoders[kind](ink))

    def psi(self, ink: Tensor, middle: Tensor | None = None) -> Tensor:
        """(N, C, S, S) float → ψ (N, P) int8."""
        return torch.cat([coder(self.made_from(kind, ink, middle)) for kind, coder in self.coders.items()], dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8."""
        ink = unit(images)
        phi, middle = self.embedder(ink)
        return phi, self.psi(ink, middle)

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

    Examples:
        ψ of 8 codes for images of 8 × 8 pixels; the kind ``pca`` looks at the embedder's own map.

        >>> import numpy as np, torch
        >>> from fct.side import SideSettings, prepare
        >>> class Embedder(torch.nn.Module):
        ...     def forward(self, ink):
        ...         return ink.flatten(1), ink  # φ, and a map
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
        >>> training = dict(simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002)
        >>> settings = SideSettings(kinds=("pca",), dims=8, **training)
        >>> program = prepare(Embedder(), images, settings, seed=0, device=torch.device("cpu"))
        >>> phi, psi = program(torch.from_numpy(images))
        >>> phi.shape, psi.shape, psi.dtype
        (torch.Size([20, 64]), torch.Size([20, 8]), torch.int8)
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
                dark = unit(augment.views(block, generator) if view else block)
                for kind in found:
                    found[kind].append(program.made_from(kind, dark))

    def coder(kind: str) -> nn.Module:
        if kind not in found:
            return Thumbnail(math.isqrt(dims[kind]), settings.bits)
        maps = torch.cat(found[kind]).numpy()
        if settings.bytes:
            return fit_water_filled(maps, 8 * settings.bytes)[0]
        return fit_projection(maps, dims[kind], settings.bits)

    return Program(embedder, encoders, {kind: coder(kind) for kind in settings.kinds}).eval()


def fit_drawer(
    program: Program,
    images: np.ndarray,
    settings: SideSettings,
    *,
    seed: int,
    device: torch.device,
    title: str = "drawing",
    precision: str = AUTO,
) -> picture_of.Drawer | None:
    """What draws the images again from ψ; None where no kind is ``picture``.

    Args:
        program: of :func:`prepare`.
        images: (N, C, S, S) uint8, those it was prepared from.

    Examples:
        >>> import numpy as np, torch
        >>> from fct.side import SideSettings, fit_drawer, prepare
        >>> class Embedder(torch.nn.Module):
        ...     def forward(self, ink):
        ...         return ink.flatten(1), ink
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
        >>> training = dict(simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002)
        >>> settings = SideSettings(kinds=("picture",), dims=8, drawing_epochs=1, **training)
        >>> program = prepare(Embedder(), images, settings, seed=0, device=torch.device("cpu"))
        >>> drawer = fit_drawer(program, images, settings, seed=0, device=torch.device("cpu"))
        >>> _, psi = program(torch.from_numpy(images))
        >>> drawer(psi.float()).shape  # the images again, in 0–1
        torch.Size([20, 1, 8, 8])
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
            dark = unit(torch.from_numpy(np.ascontiguousarray(images[start : start + 512])))
            psi.append(program.psi(dark).numpy())
            ink.append(layout(dark, PICTURE_SIDE).numpy())
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
        precision=precision,
    )
