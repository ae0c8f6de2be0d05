"""Pairs of corresponding rows, read in blocks or gathered in batches, so that memory-mapped inputs are never copied whole.

Legend: N pairs in use, D old, P side (may be 0), E new dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fct.arrays.shapes import Bool, Int64, Num, Shaped

BLOCK = 8192


@dataclass(frozen=True)
class Pairs:
    """Rows that correspond, in arrays of any numeric dtype (memory maps too); ``rows`` says which of them are in use, ascending.

    ``old`` (A, D), ``side`` (A, P), ``new`` (A, E); ``labels`` (A,) int64, −1 = none; ``rows`` (N,) int64.
    """

    old: np.ndarray
    side: np.ndarray
    new: np.ndarray
    labels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> Pairs:
        """The same arrays with fewer rows in use: (N,) bool, or positions among the rows in use, ascending."""
        return Pairs(self.old, self.side, self.new, self.labels, self.rows[chosen])

    def gather(
        self, positions: Int64[np.ndarray, " N"] | slice
    ) -> tuple[Num[np.ndarray, "N D"], Num[np.ndarray, "N P"], Num[np.ndarray, "N E"], Int64[np.ndarray, " N"]]:
        """old, side, new and labels at these positions among the rows in use; numbers keep their dtype, float64 becomes float32."""
        rows = self.rows[positions]
        old, side, new = (narrow(array[rows]) for array in (self.old, self.side, self.new))
        return old, side, new, self.labels[rows]

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of (rows, D + P) inputs, old beside side, and (rows, E) new, both float64."""
        for start in range(0, len(self), size):
            rows = self.rows[start : start + size]
            at: np.ndarray | slice = rows
            if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
                at = slice(int(rows[0]), int(rows[-1]) + 1)  # a run of rows is read without an index
            x = np.concatenate([np.asarray(self.old[at], dtype=np.float64), np.asarray(self.side[at], dtype=np.float64)], axis=1)
            yield x, np.asarray(self.new[at], dtype=np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use once gathered."""
        return len(self) * sum(array.shape[1] * min(array.dtype.itemsize, 4) for array in (self.old, self.side, self.new))


def narrow(array: np.ndarray) -> np.ndarray:
    """Numbers as torch takes them: float16/32 and int8/uint8 stay, anything else becomes float32."""
    return array if array.dtype in (np.float16, np.float32, np.int8, np.uint8) else array.astype(np.float32)


def pairs_of(old: np.ndarray, side: np.ndarray | None, new: np.ndarray, labels: np.ndarray | None = None) -> Pairs:
    """All rows of these arrays; without side-information P is 0, without labels all are −1."""
    count = len(old)
    return Pairs(
        np.asarray(old),
        np.zeros((count, 0), dtype=np.float32) if side is None else np.asarray(side),
        np.asarray(new),
        np.full(count, -1, dtype=np.int64) if labels is None else np.asarray(labels, dtype=np.int64),
        np.arange(count, dtype=np.int64),
    )


def parts(sources: Shaped[np.ndarray, " N"], count: int, seed: int) -> Int64[np.ndarray, " N"]:
    """(N,) number of the part, 0 … count−1, that each row falls into; rows of one source fall into the same part."""
    values, inverse = np.unique(sources, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(values))
    return (order % count)[inverse]


def held_out(sources: Shaped[np.ndarray, " N"], share: float, most: int | None, seed: int) -> Bool[np.ndarray, " N"]:
    """(N,) bool: about this share of the sources, whole ones only, and where possible not more than ``most`` rows."""
    values, inverse, sizes = np.unique(sources, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return np.zeros(len(sources), dtype=bool)
    chosen = np.random.default_rng(seed).permutation(len(values))[: max(1, round(share * len(values)))]
    if most is not None:
        chosen = chosen[: max(1, int(np.searchsorted(sizes[chosen].cumsum(), most, side="right")))]
    return np.isin(inverse, chosen)
