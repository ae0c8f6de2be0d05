"""Preview: what the new embedder sees in the side-information, where that is a picture.

Side-information of the kind ``picture`` is the image in very few bits. It can be drawn again, coarsely (:mod:`fct.side.picture`), and the
new embedder can look at the drawing: φ_new(drawing) is a first guess of the item's new vector, and h corrects it with all that φ_old
and ψ say. No image is read. It costs one run of the new embedder an item, from bytes that lie beside the vector.

Legend: N items, P dimensions of ψ, S side in pixels, E new dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fct.errors import BadInput
from fct.program import programs
from fct.side import picture

if TYPE_CHECKING:
    from fct.forward import Forward
    from fct.release.folder import Release

BLOCK = 512


def with_preview(
    drawer: picture.Drawer,
    psi: np.ndarray,
    program: programs.Embed,
    size: int,
    mode: str,
    *,
    device: torch.device,
    title: str | None = None,
) -> np.ndarray:
    """(N, P) int8 → (N, P + E) float16: ψ, then φ_new of the drawing. A row comes out the same bits in any batch.

    Args:
        program: the new embedder; size, mode: of the images it wants (S; ``L`` or ``RGB``).
    """
    if len(psi) == 0:
        raise BadInput("there is no side-information to draw", got=psi.shape)
    drawn = picture.draw(drawer, psi, size, mode, device=device)
    filled = np.concatenate([drawn, np.full((-len(drawn) % BLOCK, *drawn.shape[1:]), 255, dtype=np.uint8)])
    phi, _ = programs.embed(program, filled, device=device, batch=BLOCK, title=title)
    return np.concatenate([np.asarray(psi, dtype=np.float16), phi[: len(psi)].astype(np.float16)], axis=1)


def side_of(
    old: Release, new: Release, psi: np.ndarray, h: Forward, *, device: torch.device, program: programs.Embed | None = None
) -> np.ndarray:
    """What h is given as side-information: ψ alone, or ψ and preview where its manifest says that it reads one.

    Raises:
        BadInput: h wants a preview and the old release's ψ is no picture, or dimensions that do not fit.
    """
    looks, drawer = h.looks(psi.shape[1]), old.picture()
    if not looks and h.side_dim in (0, psi.shape[1]):
        return psi
    if not looks or drawer is None or h.side_dim != psi.shape[1] + new.dim:
        raise BadInput(
            "the side-information does not fit h",
            wanted=f"{h.side_dim} dimensions",
            got=f"{psi.shape[1]}" + (f", or {psi.shape[1] + new.dim} with the preview" if drawer is not None else ""),
            todo="fit h again",
        )
    return with_preview(drawer, psi, program or new.program(device), new.size, new.mode, device=device)
