"""Parts of a gallery that are searched at once: *old* (what serves), *carried* (h(φ, ψ)) and *side* (ψ itself).

The score of an item is Σ wᵢ · its score in part i, wᵢ > 0, Σ wᵢ = 1. For cosine an item's row holds unit rows side by side, and the weights
are on the query alone: other weights need no new index. For l2 both sides are scaled: part i is divided by its unit (the median distance of a
row to its nearest neighbour, so that parts weigh alike) and multiplied by √wᵢ; then squared distances add up with the weights.

A joined gallery of one part is that part: its rows and queries are passed on as they are, bit for bit.

Legend: N rows, D old, P side, E new dimensions, J the sum of the dimensions of the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fct.arrays import vectors
from fct.errors import BadInput

OLD, CARRIED, SIDE = PARTS = ("old", "carried", "side")
METRICS = ("cosine", "l2")  # those of fct.search, on which carrying rows over does not depend


@dataclass(frozen=True)
class Joined:
    """Which parts are searched, and how they weigh.

    Attributes:
        parts: some of ``old``, ``carried``, ``side``, in this order. weights: one each, above 0, their sum 1.
        metric: ``cosine`` or ``l2``. units: for l2 what each part is divided by, above 0; for cosine all 1.

    Raises:
        BadInput: anything else.
    """

    parts: tuple[str, ...]
    weights: tuple[float, ...]
    metric: str = "cosine"
    units: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units) or (1.0,) * len(self.parts))
        if not self.parts or list(self.parts) != [part for part in PARTS if part in self.parts]:
            raise BadInput("a joined gallery has other parts", wanted=f"some of {', '.join(PARTS)}, in this order", got=list(self.parts))
        numbers = [*self.weights, *self.units]
        if not all(isinstance(number, int | float) and np.isfinite(number) and number > 0 for number in numbers):
            raise BadInput("a joined gallery needs weights and units above 0", got=numbers)
        if not len(self.parts) == len(self.weights) == len(self.units) or abs(sum(self.weights) - 1) > 1e-6:
            raise BadInput(
                "a joined gallery needs one weight a part, their sum 1", wanted=f"{len(self.parts)} weights", got=list(self.weights)
            )
        if self.metric not in METRICS:
            raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=self.metric)

    @classmethod
    def of(cls, given: Any) -> Joined:
        """From what :meth:`to_json` gave. BadInput where it is anything else."""
        keys = ("parts", "weights", "metric", "units")
        if (
            not isinstance(given, Mapping)
            or set(given) != set(keys)
            or not all(isinstance(given[key], list) for key in keys if key != "metric")
        ):
            raise BadInput("this does not describe a joined gallery", wanted=", ".join(keys), got=given)
        return cls(tuple(given["parts"]), tuple(given["weights"]), given["metric"], tuple(given["units"]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"parts": list(self.parts), "weights": list(self.weights), "metric": self.metric, "units": list(self.units)}

    def rows(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the gallery holds: parts (N, D), (N, E), (N, P) → (N, J) float32; of one part that part, as it is."""
        if len(self.parts) == 1:
            return found[self.parts[0]]
        if self.metric == "cosine":
            return np.concatenate([unit_rows(found[part]) for part in self.parts], axis=1)
        return self._scaled(found)

    def queries(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """What is asked of it: the query in each part → (N, J) float32; of one part that part, as it is."""
        if len(self.parts) == 1:
            return found[self.parts[0]]
        if self.metric == "cosine":
            pairs = zip(self.parts, self.weights, strict=True)
            return np.concatenate([np.float32(weight) * unit_rows(found[part]) for part, weight in pairs], axis=1)
        return self._scaled(found)

    def _scaled(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        sides = zip(self.parts, self.weights, self.units, strict=True)
        return np.concatenate(
            [np.asarray(found[part], np.float32) * np.float32(weight**0.5 / unit) for part, weight, unit in sides], axis=1
        )

    def __str__(self) -> str:
        return " + ".join(f"{weight:.2f} {part}" for part, weight in zip(self.parts, self.weights, strict=True))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """(N, D) → float32 rows of length 1. A row of zeros, which ψ may be, has no direction; it gets the diagonal's: all rows need one length."""
    found = np.asarray(rows, dtype=np.float32)
    empty = np.asarray(~found.any(axis=1))
    if empty.any():
        found = np.where(empty[:, None], np.float32(1), found)
    return vectors.normalise(found)


def unit(rows: np.ndarray, most: int = 1000) -> float:
    """The median distance of a row (N, D) to its nearest neighbour, among at most ``most`` rows spread evenly; 1 where all are equal."""
    part = np.asarray(rows[:: -(-len(rows) // most)], dtype=np.float64)
    part = part - part.mean(axis=0)  # distances far from the origin would be rounded away
    norms = (part**2).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms[None] - 2 * part @ part.T, 0)
    np.fill_diagonal(squares, np.inf)
    nearest = np.sqrt(squares.min(axis=1))
    apart = nearest[np.isfinite(nearest) & (nearest > 0)]
    return float(np.median(apart)) if len(apart) else 1.0
