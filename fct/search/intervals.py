"""Confidence intervals over classes: the number asked for, in many subsets of the classes.

Queries of one class share their positives and so are not independent: whole classes are left out. All metrics of one call are resampled
together (paired), so that differences and ratios get honest intervals.

The weights of this bootstrap are 0 and 1, a class is in or out, because that holds for few classes, too. Where the classes' effects
scatter evenly around the true value, its place among the values of M subsets is any of the M + 1 with equal chances, however few the
classes and however different their sizes and their noise; the subsets must be a group, so that what two of them do not share is one,
too (Hartigan 1969, "Using subsample values as typical values"). A bootstrap that draws classes with replacement is too narrow: with 5
classes its lower bound of no change lies above 0 in 11 % of the cases instead of 5 (benchmarks/few_classes.py).

Legend: Q queries, C classes, M subsets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fct.arrays.shapes import Float64
from fct.errors import BadInput

LEVEL = 0.95
FEWEST = 5  # classes: of 4, all 4 lie above the true value by chance more often than 5 times in 100
BITS = 11  # 2,047 subsets of more classes than that; all of fewer
BLOCK = 1 << 22  # numbers of one block of subsets
DIGITS = 9  # of a mean that count


@dataclass(frozen=True)
class Estimate:
    """A value with its one-sided 95 % lower and upper bounds (together: a 90 % interval).

    ``n``: queries behind it. ``clusters``: classes behind it, where these were resampled; below :data:`FEWEST` it has no bounds (−inf, inf).
    """

    value: float
    lower: float
    upper: float
    n: int
    clusters: int | None = None

    @property
    def bounds(self) -> list[float | None]:
        """Lower and upper for a file: None where there is none."""
        return [x if np.isfinite(x) else None for x in (self.lower, self.upper)]


def said(bounds: list[float | None], digits: str) -> str:
    """Bounds in words, ``digits`` as a format (``.4f``)."""
    lower, upper = bounds
    if lower is None or upper is None:
        return f"no interval: that needs queries of {FEWEST} classes"
    return f"90 % interval {lower:{digits}} … {upper:{digits}}"


def columns(clusters: int, seed: int) -> np.ndarray:
    """(C,) int16: subset w of a group (1 ≤ w < 2^min(C, BITS)) has class c where w & column c has an odd number of bits.

    The first classes have a bit of their own, so that no subset is empty; with no more than that they are all subsets there are.
    """
    own = min(clusters, BITS)
    drawn = np.random.default_rng(seed).integers(1, 1 << own, clusters - own)  # never 0: a class that is in no subset
    return np.concatenate([1 << np.arange(own), drawn]).astype(np.int16)


def totals(sums: Float64[np.ndarray, "C V"], seed: int) -> Float64[np.ndarray, "M V"]:
    """(M, V) of ``sums`` (C, V) over the classes: what each subset of the classes adds up to."""
    of_class = columns(len(sums), seed)
    words = np.arange(1, 1 << min(len(sums), BITS), dtype=np.int16)
    rows, found = max(1, BLOCK // len(sums)), np.empty((len(words), sums.shape[1]))
    for start in range(0, len(words), rows):
        part = slice(start, start + rows)
        inside = (np.bitwise_count(words[part, None] & of_class) % 2).astype(np.float64)
        for v, column in enumerate(sums.T):  # one by one: equal columns must add up to equal numbers, to the last bit
            found[part, v] = inside @ column
    return found


def lower_bound(draws: Float64[np.ndarray, " M"]) -> float:
    """The one-sided bound below a number by its values in M subsets, ``draws`` (M,); a value that is undefined (not finite) lies below all.

    Equal values share their mean rank, and between two values the bound moves evenly: top-1 moves by whole queries, and a bound at
    the next value below would lie below 0 for one change in seven that a t test sees.
    """
    values, counts = np.unique(np.where(np.isfinite(draws), draws.round(DIGITS), -np.inf), return_counts=True)
    ranks, place = counts.cumsum() - (counts - 1) / 2, (1 - LEVEL) * (len(draws) + 1)
    above = int(np.searchsorted(ranks, place))
    if above == 0 or above == len(values) or not np.isfinite(values[above - 1]):
        return float(values[max(above - 1, 0)])
    part = (place - ranks[above - 1]) / (ranks[above] - ranks[above - 1])
    if place < 2:  # of 5 classes: the least value lies far out, so a truth between it and the next lies mostly near the next
        part = part**0.5
    return float(values[above - 1] + part * (values[above] - values[above - 1]))


class Bootstrap:
    """Means of per-query values in subsets of the classes.

    Args:
        values: name → (Q,) per-query values, paired: row i is the same query everywhere.
        clusters: (Q,) the class of each query.
        seed: of the subsets.

    Raises:
        BadInput: lengths that differ, or no queries.
    """

    def __init__(self, values: Mapping[str, np.ndarray], clusters: np.ndarray, *, seed: int = 0):
        lengths = {name: len(value) for name, value in values.items()}
        if set(lengths.values()) != {len(clusters)}:
            raise BadInput("values are not paired", wanted=f"{len(clusters)} each", got=lengths)
        if len(clusters) == 0:
            raise BadInput("there are no queries to resample", wanted="at least one", got=0)
        _, inverse = np.unique(np.asarray(clusters), return_inverse=True)
        self.n, self.clusters = len(clusters), int(inverse.max()) + 1
        self.means = {name: float(np.mean(value)) for name, value in values.items()}
        weights = [None, *(np.asarray(value, dtype=np.float64) for value in values.values())]  # None: how many queries
        sums = np.stack([np.bincount(inverse, weights=one, minlength=self.clusters) for one in weights], axis=1)
        found = totals(sums, seed)
        self.counts = found[:, 0]
        self.draws = dict(zip(values, (found[:, 1:] / found[:, :1]).T, strict=True))

    def estimate(self, of: Callable[[Mapping[str, float | np.ndarray]], float | np.ndarray]) -> Estimate:
        """Value and bounds of any function of the means, such as ``lambda m: m["nh"] - m["oo"]``. NaN where it is undefined.

        A subset in which it is undefined counts against both bounds.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(of(self.means))
            draws = np.asarray(of(self.draws), dtype=np.float64)
        if not np.isfinite(value):
            return Estimate(float("nan"), float("nan"), float("nan"), self.n, self.clusters)
        if self.clusters < FEWEST:
            return Estimate(value, -np.inf, np.inf, self.n, self.clusters)
        return Estimate(value, lower_bound(draws), -lower_bound(-draws), self.n, self.clusters)

    def mean(self, name: str) -> Estimate:
        return self.estimate(lambda m: m[name])

    def chance(self, names: Sequence[str], bound: float) -> float:
        """One-sided p-value of H0: none of these true means lies below ``bound``; all are judged together, whatever their dependence.

        The largest shortfall is held against what it would be with the signs of some classes' shortfalls turned over, the same classes for all
        names (Westfall and Young 1993, single-step maxT): exact for few classes where the bounds are.
        """
        short = np.array([[bound - self.means[name]] for name in names]) * self.n
        turned = short - 2 * np.array([bound - self.draws[name] for name in names]) * self.counts
        as_large = turned.max(axis=0) >= short.max() - 10.0**-DIGITS * self.n
        return float((1 + as_large.sum()) / (1 + len(as_large)))


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
