"""Confidence intervals by a paired bootstrap over queries, clustered by class.

Queries of one class share their positives and so are not independent: whole classes are drawn. All metrics of one call are
resampled together (paired), so that differences and ratios get honest intervals.

Legend: Q queries, C classes, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fct.errors import BadInput

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its one-sided 95 % lower and upper bounds (together: a 90 % interval). ``n``: queries behind it."""

    value: float
    lower: float
    upper: float
    n: int


class Bootstrap:
    """Resampled means of per-query values.

    Args:
        values: name → (Q,) per-query values, paired: row i is the same query everywhere.
        clusters: (Q,) the class of each query.
        seed: of the resampling.

    Raises:
        BadInput: lengths that differ, or no queries.
    """

    def __init__(self, values: Mapping[str, np.ndarray], clusters: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES):
        lengths = {name: len(value) for name, value in values.items()}
        if set(lengths.values()) != {len(clusters)}:
            raise BadInput("values are not paired", wanted=f"{len(clusters)} each", got=lengths)
        if len(clusters) == 0:
            raise BadInput("there are no queries to resample", wanted="at least one", got=0)
        _, inverse = np.unique(np.asarray(clusters), return_inverse=True)
        count = int(inverse.max()) + 1
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)  # (B, C)
        sizes = np.bincount(inverse, minlength=count).astype(np.float64)
        drawn = weights @ sizes
        self.n = len(clusters)
        self.means = {name: float(np.mean(value)) for name, value in values.items()}
        self.draws = {
            name: weights @ np.bincount(inverse, weights=np.asarray(value, dtype=np.float64), minlength=count) / drawn
            for name, value in values.items()
        }

    def estimate(self, of: Callable[[Mapping[str, float | np.ndarray]], float | np.ndarray]) -> Estimate:
        """Value and bounds of any function of the means, such as ``lambda m: m["nh"] - m["oo"]``. NaN where it is undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(of(self.means))
            draws = np.asarray(of(self.draws), dtype=np.float64)
        if not np.isfinite(value) or not np.isfinite(draws).any():
            return Estimate(float("nan"), float("nan"), float("nan"), self.n)
        finite = np.where(np.isnan(draws), -np.inf, draws)
        lower, upper = np.quantile(finite, [1 - LEVEL, LEVEL], method="inverted_cdf")
        return Estimate(value, float(lower), float(upper), self.n)

    def mean(self, name: str) -> Estimate:
        return self.estimate(lambda m: m[name])


Means = Mapping[str, float | np.ndarray]


def difference(of: str, minus: str) -> Callable[[Means], float | np.ndarray]:
    """The function m → m[of] − m[minus], for :meth:`Bootstrap.estimate`."""
    return lambda m: m[of] - m[minus]


def rho(old: str, carried: str, new: str) -> Callable[[Means], float | np.ndarray]:
    """The function m → recovered fraction of these means, for :meth:`Bootstrap.estimate`."""
    return lambda m: recovered(m, old, carried, new)


def recovered(m: Mapping[str, float | np.ndarray], old: str, carried: str, new: str) -> float | np.ndarray:
    """Recovered fraction ρ = (carried − old) / (new − old) of means; NaN where new ≤ old (ρ is undefined there)."""
    gain = np.asarray(m[new]) - np.asarray(m[old])
    rho = (np.asarray(m[carried]) - np.asarray(m[old])) / np.where(gain > 0, gain, np.nan)
    return float(rho) if rho.ndim == 0 else rho
