"""Coverage: which gallery items lie further from the fitting set than the fitting set's own rows do.

An h is trusted where it was fitted. Distances are Euclidean in (φ_m, ψ_m), each column scaled to unit variance over the fitting
set. Legend: N fitting rows, G gallery rows, D columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fct.arrays.shapes import Float, Int64, Num

PERCENTILE = 99.0
REFERENCE_ROWS = 4000


@dataclass(frozen=True)
class Coverage:
    """``share`` of gallery rows beyond ``radius``; ``far``: (G,) bool, those rows; ``distance``: (G,) to the nearest fitting row."""

    share: float
    radius: float
    far: np.ndarray
    distance: np.ndarray


def _nearest(
    x: Float[torch.Tensor, "G D"], y: Float[torch.Tensor, "N D"], own: Int64[torch.Tensor, " G"] | None = None, block: int = 1024
) -> Float[np.ndarray, " G"]:
    """(len(x),) distance of each row of x to its nearest row in y; ``own``: row of y to leave out."""
    found = []
    for start in range(0, len(x), block):
        part = torch.cdist(x[start : start + block], y)
        if own is not None:
            part.scatter_(1, own[start : start + block, None], float("inf"))
        found.append(part.min(dim=1).values)
    return torch.cat(found).numpy()


def measure(fitting: Num[np.ndarray, "N D"], gallery: Num[np.ndarray, "G D"], *, seed: int = 0) -> Coverage:
    """Compare the gallery's distances with the 99th percentile of the fitting set's own (leave-one-out, on ≤ 4,000 of its rows).

    Args:
        fitting: (N, D) φ and ψ of the clean fitting images side by side, one row an image, N ≥ 2.
        gallery: (G, D) the same of the gallery.
    """
    mean, std = fitting.mean(axis=0, dtype=np.float64), np.maximum(fitting.std(axis=0, dtype=np.float64), 1e-6)

    def scaled(rows: np.ndarray) -> torch.Tensor:
        # centred first: cdist works with squared norms, and a large offset (or a column that never varies) would drown every difference
        return torch.from_numpy(((rows - mean) / std).astype(np.float32))

    y, x = scaled(fitting), scaled(gallery)
    rows = np.random.default_rng(seed).permutation(len(fitting))[:REFERENCE_ROWS]
    own = _nearest(y[rows], y, torch.from_numpy(rows))
    radius = float(np.percentile(own, PERCENTILE))
    distance = _nearest(x, y)
    far = distance > radius
    return Coverage(float(far.mean()), radius, far, distance)
