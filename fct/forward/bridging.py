"""The query-side bridge: on day 0 new queries search the *untouched* gallery, before anything is carried over.

Legend: N pairs, Q queries, D old, E new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fct.arrays import vectors
from fct.arrays.shapes import Float32
from fct.errors import BadInput
from fct.forward import closed
from fct.forward.rows import pairs_of

KINDS = ("mean-shift", "procrustes", "ridge")
STRENGTH = 1e-3  # of ridge; a bridge is a stopgap and has no validation of its own


@dataclass(frozen=True)
class Bridge:
    """An affine map from the new space to the old one: weight (E, D), bias (D,), float64."""

    weight: np.ndarray
    bias: np.ndarray

    def apply(self, query: np.ndarray) -> Float32[np.ndarray, "Q D"]:
        """(Q, E) queries of the new model → (Q, D) float32, to be searched in the old gallery."""
        vectors.check("query", query, dim=len(self.weight))
        return (np.asarray(query, dtype=np.float64) @ self.weight + self.bias).astype(np.float32)


def bridge(new: np.ndarray, old: np.ndarray, kind: str = "procrustes") -> Bridge:
    """Fit a bridge on pairs: (N, E) new and (N, D) old vectors of the same items.

    Orthogonal as in LORTH (arXiv 2509.16664) or an affine map as in Drift-Adapter, applied to queries in place of the gallery.

    Raises:
        BadInput: unknown kind, rows that do not correspond, or a mean shift between different dimensions.

    Examples:
        >>> import numpy as np
        >>> from fct.forward import bridge
        >>> old = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
        >>> new = old[:, ::-1]  # a rotation of the old space, with a reflection
        >>> bridged = bridge(new, old).apply(new[:10])  # ten queries of the new model, for the old gallery
        >>> bridged.shape, bool(np.allclose(bridged, old[:10], atol=0.001))
        ((10, 4), True)
    """
    if kind not in KINDS:
        raise BadInput("unknown kind of bridge", wanted=", ".join(KINDS), got=kind)
    vectors.check("new", new)
    vectors.check("old", old, rows=len(new))
    if kind == "mean-shift" and new.shape[1] != old.shape[1]:
        raise BadInput("a mean shift needs equal dimensions", wanted=old.shape[1], got=new.shape[1])
    m = closed.moments(pairs_of(new, None, old).blocks())
    dim = new.shape[1]
    if kind == "ridge":
        return Bridge(*closed.Ridge(m, dim).at(STRENGTH))
    return Bridge(*(closed.procrustes if kind == "procrustes" else closed.mean_shift)(m, dim))


def blend(bridged: np.ndarray, old: np.ndarray, weight: float) -> Float32[np.ndarray, "Q D"]:
    """Spherical interpolation between the bridged new query and the old model's own query, while the old model is still loaded.

    SLERP ("Spherical Interpolation for Backward-Compatible Multimodal Representations", 2026), the formula of Shoemake (SIGGRAPH
    1985): sin((1−w)·θ)/sin θ · bridged + sin(w·θ)/sin θ · old, both L2-normalised, θ the angle between them.

    Args:
        bridged, old: (Q, D).
        weight: w, 0 = bridged alone, 1 = old alone.

    Returns:
        (Q, D) float32 of norm 1; where the two are opposite, and no shortest way exists, the nearer of them.

    Raises:
        BadInput: shapes that differ, or a weight outside 0 … 1.

    Examples:
        >>> import numpy as np
        >>> from fct.forward import blend
        >>> blend(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), 0.5).round(3).tolist()  # half the way on the circle
        [[0.707..., 0.707...]]
    """
    vectors.check("bridged", bridged)
    vectors.check("old", old, dim=bridged.shape[1], rows=len(bridged))
    if not 0 <= weight <= 1:
        raise BadInput("the weight is out of range", wanted="0 to 1", got=weight)
    a, b = vectors.normalise(bridged).astype(np.float64), vectors.normalise(old).astype(np.float64)
    theta = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))[:, None]  # exact for small angles too
    sine = np.sin(theta)
    opposite, alike = theta > np.pi - 1e-6, theta < 1e-6
    safe = np.where(opposite | alike, 1.0, sine)
    mixed = np.sin((1 - weight) * theta) / safe * a + np.sin(weight * theta) / safe * b
    mixed = np.where(alike, (1 - weight) * a + weight * b, mixed)
    mixed = np.where(opposite, b if weight > 0.5 else a, mixed)
    return vectors.normalise(mixed)
