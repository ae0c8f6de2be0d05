"""σ for methods that do not learn one: a small regression on held-out residuals.

Legend: N rows, C = D + P columns of the input (old beside side-information).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fct.arrays.shapes import Float, Float32, Float64

LEAST_UNSURE = 1e-4  # of a softmax that is certain: σ keeps its order there
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
FEWEST = 20  # rows below which only a constant is fitted
BLOCK = 1024


@dataclass(frozen=True)
class Uncertainty:
    """log σ² = bias + z·weight + square·mean(z²), z = (x − mean)·scale, kept between the smallest and largest log residual seen.

    A linear part, because some directions are lost by h more than others, and the squared distance from the centre of the fitting
    set, because far-off rows are carried over worse. ``mean``, ``scale``, ``weight``: (C,) float64; ``numbers``: (4,) square, bias,
    low, high.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    numbers: np.ndarray

    def sigma(self, x: Float[np.ndarray, "N C"]) -> Float32[np.ndarray, " N"]:
        """(N, C) → (N,) float32, larger = less certain; a row's value does not depend on the rows beside it."""
        square, bias, low, high = self.numbers
        z = (x - self.mean) * self.scale
        with np.errstate(over="ignore"):
            log = bias + (z * self.weight).sum(axis=1) + square * (z * z).mean(axis=1)
        return np.exp(0.5 * np.clip(log, low, high)).astype(np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by the names under which they are stored."""
        return {f"uncertainty.{name}": getattr(self, name) for name in ("mean", "scale", "weight", "numbers")}


def unsure(carried: Float[np.ndarray, "N E"], head: tuple[Float[np.ndarray, "K E"], Float[np.ndarray, " K"]]) -> Float32[np.ndarray, " N"]:
    """1 − the highest softmax probability of the new model's head on carried rows (N, E): (N,) float32, at least LEAST_UNSURE.

    A row of which the head is sure is where a search needs it, whatever its distance from the native vector. On classes that the head
    knows this orders a backfill better than σ, on others σ does; their product is shipped (docs/decisions/0006-picture.md).

    Args:
        head: weight (K, E) and bias (K,).
    """
    weight, bias = head
    logits = carried.astype(np.float64) @ weight.T.astype(np.float64) + bias
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (1 - share.max(axis=1) / share.sum(axis=1) + LEAST_UNSURE).astype(np.float32)


def fit_uncertainty(x: np.ndarray, errors: np.ndarray, seed: int) -> Uncertainty:
    """Ridge regression of log squared residuals; its strength is chosen on one half of the rows after fitting on the other.

    This is the log-linear variance model of Harvey (1976, Econometrica 44), regularised. Where no strength predicts the other half
    better than its mean, σ is a constant.

    Args:
        x: (N, C) inputs of rows that h was not fitted on. errors: (N,) mean squared residual per dimension, in units of the new
            space's variance.
    """
    x = np.asarray(x, dtype=np.float64)
    log = np.log(np.maximum(errors, 1e-12))
    mean, std = x.mean(axis=0), x.std(axis=0)
    scale = np.where(std > 1e-7 * np.maximum(np.abs(mean), 1e-30), 1 / np.where(std > 0, std, 1.0), 0.0)
    flat = Uncertainty(mean, scale, np.zeros(x.shape[1]), np.array([0.0, log.mean(), log.min(), log.max()]))
    if len(x) < FEWEST or log.std() < 1e-9:
        return flat
    z = (x - mean) * scale
    features = np.concatenate([z, (z * z).mean(axis=1, keepdims=True)], axis=1)
    half = np.random.default_rng(seed).permutation(len(x)) < len(x) // 2
    scores = []
    for strength in STRENGTHS:
        weights, centre = _solve(features[half], log[half], strength)
        left = log[~half] - (log[half].mean() + (features[~half] - centre) @ weights)
        scores.append(float((left**2).mean()))
    if min(scores) >= float(((log[~half] - log[half].mean()) ** 2).mean()):
        return flat
    weights, centre = _solve(features, log, STRENGTHS[int(np.argmin(scores))])
    return Uncertainty(mean, scale, weights[:-1], np.array([weights[-1], log.mean() - centre @ weights, log.min(), log.max()]))


def _solve(
    features: Float64[np.ndarray, "N C"], target: Float64[np.ndarray, " N"], strength: float
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Weights (C + 1,) and the centre of the features; the penalty is strength · rows · |w|²."""
    centre = features.mean(axis=0)
    a = features - centre
    rows, columns = a.shape
    if columns <= rows:
        return np.linalg.solve(a.T @ a + strength * rows * np.eye(columns), a.T @ (target - target.mean())), centre
    return a.T @ np.linalg.solve(a @ a.T + strength * rows * np.eye(rows), target - target.mean()), centre
