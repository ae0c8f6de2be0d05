"""Closed forms: affine maps found by linear algebra alone, from sums over the pairs that are gathered block by block.

Old vectors and side-information are concatenated and *block-scaled*: each of the two weighs the same, however many columns it has
and whatever their unit. Legend: N pairs, D old, P side, C = D + P columns of the input, E new dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, reduce

import numpy as np

from fct.arrays.shapes import Float64

Affine = tuple[Float64[np.ndarray, "C E"], Float64[np.ndarray, " E"]]  # weight (C, E), bias (E,), float64: y ≈ x @ weight + bias


@dataclass(frozen=True)
class Moments:
    """Sums over N pairs: means, and the centred products xx (C, C), xy (C, E) and yy (the trace of yᵀy); float64."""

    n: int
    x_mean: np.ndarray
    y_mean: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: float

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets together (Chan, Golub, LeVeque 1983: exact without a second pass, stable for large means)."""
        n = self.n + other.n
        x, y = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        share = self.n * other.n / n
        return Moments(
            n,
            self.x_mean + x * (other.n / n),
            self.y_mean + y * (other.n / n),
            self.xx + other.xx + share * np.outer(x, x),
            self.xy + other.xy + share * np.outer(x, y),
            self.yy + other.yy + share * float(y @ y),
        )

    @property
    def scale(self) -> float:
        """Root mean square of a new vector's deviation from the mean, per dimension: the unit of σ; 1 where nothing varies."""
        value = (self.yy / (self.n * len(self.y_mean))) ** 0.5
        return value if value > 0 else 1.0


def moments(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Moments:
    """Moments of blocks of (rows, C) inputs and (rows, E) targets, float64."""

    def one(x: Float64[np.ndarray, "rows C"], y: Float64[np.ndarray, "rows E"]) -> Moments:
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        a, b = x - x_mean, y - y_mean
        return Moments(len(x), x_mean, y_mean, a.T @ a, a.T @ b, float((b * b).sum()))

    return reduce(lambda total, more: total + more, (one(x, y) for x, y in blocks))


def none(m: Moments, old_dim: int) -> Affine:
    """The old vectors as they are (D = E): what happens when two versions are simply mixed. Side-information has no part in it."""
    weight = np.zeros((len(m.x_mean), len(m.y_mean)))
    weight[:old_dim] = np.eye(old_dim)
    return weight, np.zeros(len(m.y_mean))


def mean_shift(m: Moments, old_dim: int) -> Affine:
    """The old vectors moved by the difference of the two means (D = E); the first rung of METHODS.md's ladder."""
    return none(m, old_dim)[0], m.y_mean - m.x_mean[:old_dim]


def procrustes(m: Moments, old_dim: int) -> Affine:
    """Orthogonal Procrustes after centring, with one scale (Schönemann 1966; Schönemann & Carroll 1970).

    The (semi-)orthogonal map, times a number, that best takes x to y in the sum of squares. With side-information it is orthogonal
    on the block-scaled concatenation.
    """
    block = np.concatenate([np.full(columns.stop - columns.start, _unit(m, columns)) for columns in _columns(m, old_dim)])
    u, singular, vt = np.linalg.svd(block[:, None] * m.xy, full_matrices=False)
    energy = float((block**2 * np.diag(m.xx)).sum())
    weight = block[:, None] * (u @ vt) * (singular.sum() / energy if energy > 0 else 0.0)
    return weight, m.y_mean - m.x_mean @ weight


def _columns(m: Moments, old_dim: int) -> list[slice]:
    c = len(m.x_mean)
    return [slice(0, old_dim)] + ([slice(old_dim, c)] if c > old_dim else [])


def _unit(m: Moments, columns: slice) -> float:
    """What brings a block to the root mean square length 1."""
    energy = float(np.diag(m.xx)[columns].sum()) / m.n
    return energy**-0.5 if energy > 0 else 1.0


@dataclass(frozen=True)
class Ridge:
    """Ridge regression (Hoerl & Kennard 1970) of every strength and reduced rank from one eigendecomposition.

    Columns are scaled to unit variance and then by block, so that the scaled columns have the mean variance 1 over all, and each
    block half of it. The bias is not penalised.
    """

    m: Moments
    old_dim: int
    _axes: dict[float, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def scale(self) -> Float64[np.ndarray, " C"]:
        """(C,) what each column is multiplied with; a constant column has weight 0 whatever its scale."""
        variance = np.diag(self.m.xx) / self.m.n
        largest = np.maximum(self.m.x_mean**2, variance) * 1e-14  # what rounding leaves of a constant column
        scale = np.where(variance > largest, np.where(variance > largest, variance, 1.0) ** -0.5, 0.0)
        blocks = _columns(self.m, self.old_dim)
        for columns in blocks:
            scale[columns] *= (len(scale) / (len(blocks) * (columns.stop - columns.start))) ** 0.5
        return scale

    @cached_property
    def _spectrum(self) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, "C C"], Float64[np.ndarray, "C E"]]:
        values, vectors = np.linalg.eigh(self.m.xx * np.outer(self.scale, self.scale) / self.m.n)
        return np.maximum(values, 0), vectors, vectors.T @ (self.scale[:, None] * self.m.xy / self.m.n)

    def at(self, strength: float) -> Affine:
        """The map with the penalty strength·N·|w|² on the scaled weights; strength above 0."""
        values, vectors, projected = self._spectrum
        return self._affine(vectors @ (projected / (values + strength)[:, None]))

    def reduced(self, strength: float, rank: int) -> Affine:
        """Reduced-rank ridge regression (Izenman 1975; Mukherjee & Zhu 2011, eq. 2.4): the best map of this rank under the same penalty.

        The ridge map followed by the projection on the first ``rank`` principal axes of its fitted values, the penalty counted as
        additional rows.
        """
        values, vectors, projected = self._spectrum
        first = self._principal(strength)[:, :rank]
        return self._affine(vectors @ (projected / (values + strength)[:, None] @ first) @ first.T)

    def _principal(self, strength: float) -> np.ndarray:
        """(E, min(C, E)) principal axes of the ridge map's fitted values, penalty rows included, the first one first.

        They are the right singular vectors of ``half`` (C, E), found on its shorter side; every rank of one strength shares them.
        """
        if strength not in self._axes:
            values, _, projected = self._spectrum
            half = projected / np.sqrt(values + strength)[:, None]
            if len(half) >= half.shape[1]:
                self._axes[strength] = np.linalg.eigh(half.T @ half)[1][:, ::-1]
            else:
                energy, left = (part[..., ::-1] for part in np.linalg.eigh(half @ half.T))
                real = energy > energy[0] * 1e-12  # beyond these the fitted values have no direction left
                self._axes[strength] = half.T @ left * np.where(real, np.where(real, energy, 1.0) ** -0.5, 0.0)
        return self._axes[strength]

    def _affine(self, scaled: Float64[np.ndarray, "C E"]) -> Affine:
        weight = self.scale[:, None] * scaled
        return weight, self.m.y_mean - self.m.x_mean @ weight
