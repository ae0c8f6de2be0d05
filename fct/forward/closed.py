"""Closed forms: maps found by linear algebra alone.

Legend: N pairs, D columns of the input (old, then side-information), E new dimensions.
"""

from __future__ import annotations

import numpy as np


def procrustes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal Procrustes after centring (Schönemann 1966): the rotation (semi-orthogonal where D ≠ E) that best maps x to y.

    Args:
        x: (N, D); y: (N, E), float64.

    Returns:
        weight (D, E) and bias (E,) with y ≈ x @ weight + bias.
    """
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    u, singular, vt = np.linalg.svd((x - x_mean).T @ (y - y_mean), full_matrices=False)
    weight = u @ vt * (singular.sum() / max(float(((x - x_mean) ** 2).sum()), 1e-30))
    return weight, y_mean - x_mean @ weight


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression with an unpenalised bias, on columns scaled to unit variance.

    Args:
        x: (N, D); y: (N, E), float64.
        strength: λ per row: the penalty is λ·N·|w|² of the scaled weights.

    Returns:
        weight (D, E) and bias (E,) for unscaled x.
    """
    x_mean, y_mean, std = x.mean(axis=0), y.mean(axis=0), x.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    scaled = (x - x_mean) / std
    gram = scaled.T @ scaled + strength * len(x) * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, scaled.T @ (y - y_mean)) / std[:, None]
    return weight, y_mean - x_mean @ weight
