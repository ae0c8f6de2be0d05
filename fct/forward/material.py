"""What a method is fitted on, and what the closed forms share: sums over folds, their decompositions, and what is chosen by them.

Legend: N pairs, C = D + P columns of the input, E new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add

import numpy as np
import torch

from fct.forward import closed
from fct.forward.rows import Pairs, parts

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RANK_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
FOLDS = 3
CHOICE_ROWS = 2000


@dataclass(frozen=True)
class Material:
    """What a method is fitted on; sums over the folds and their decompositions are made once and shared by all closed forms.

    ``sources`` (N,) belong to the rows in use of ``pairs``; ``rest`` are held-out rows; ``head`` is weight (K, E) and bias (K,).
    """

    pairs: Pairs
    sources: np.ndarray
    rest: Pairs
    pool: Pairs | None
    head: tuple[np.ndarray, np.ndarray] | None
    seed: int
    device: torch.device
    _ridges: dict[int, closed.Ridge] = field(default_factory=dict, repr=False)

    @property
    def dims(self) -> tuple[int, int, int]:
        """D, P, E."""
        return self.pairs.old.shape[1], self.pairs.side.shape[1], self.pairs.new.shape[1]

    @cached_property
    def fold(self) -> np.ndarray:
        """(N,) fold of each row, whole sources only; all 0 where there is one source."""
        return parts(self.sources, min(FOLDS, len(np.unique(self.sources))), self.seed)

    @cached_property
    def sums(self) -> list[closed.Moments]:
        """Moments of each fold."""
        return [closed.moments(self.pairs.take(self.fold == number).blocks()) for number in range(int(self.fold.max()) + 1)]

    @cached_property
    def pool_sums(self) -> list[closed.Moments]:
        """Moments of the pool, if there is one: its pairs need no label and help every closed form."""
        return [closed.moments(self.pool.blocks())] if self.pool is not None else []

    def total(self, without: int = -1) -> closed.Moments:
        """Moments of pool and folds, all or all but one."""
        return reduce(add, [*self.pool_sums, *(m for number, m in enumerate(self.sums) if number != without)])

    def ridge(self, without: int = -1) -> closed.Ridge:
        if without not in self._ridges:
            self._ridges[without] = closed.Ridge(self.total(without), self.dims[0])
        return self._ridges[without]

    def fold_rows(self, number: int, most: int) -> Pairs:
        """Some rows of a fold, chosen by seed."""
        rows = np.flatnonzero(self.fold == number)
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, most, replace=False))
        return self.pairs.take(rows)

    @cached_property
    def strength(self) -> float:
        """Ridge's penalty: the best on one held-out fold. The largest where there is nothing to choose by."""
        if len(self.sums) < 2:
            return STRENGTHS[-1]
        ridge, rows = self.ridge(0), self.fold_rows(0, CHOICE_ROWS)
        return max(STRENGTHS, key=lambda strength: _score(ridge.at(strength), rows, ridge.m))

    @cached_property
    def rank(self) -> int:
        """low-rank's rank, at ridge's penalty: the best on the same held-out fold."""
        most = min(sum(self.dims[:2]), self.dims[2])
        ranks = sorted({max(1, round(share * most)) for share in RANK_SHARES})
        if len(self.sums) < 2:
            return ranks[-1]
        ridge, rows = self.ridge(0), self.fold_rows(0, CHOICE_ROWS)
        return max(ranks, key=lambda rank: _score(ridge.reduced(self.strength, rank), rows, ridge.m))


def _score(affine: closed.Affine, rows: Pairs, m: closed.Moments) -> float:
    """Mean cosine of carried and native rows around the mean of the native ones: what a search in the new space sees of the error."""
    total = 0.0
    for x, y in rows.blocks():
        a, b = x @ affine[0] + affine[1] - m.y_mean, y - m.y_mean
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        total += float(((a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)).sum())
    return total
