"""Fitting one method on one set of pairs: the closed forms on shared sums, the learned ones by training.

Legend: N pairs, C = D + P columns of the input, E new dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import torch

from fct import device as devices
from fct.errors import BadInput
from fct.forward import closed
from fct.forward.fitting import fit_network
from fct.forward.network import ForwardEnsemble, ForwardNetwork
from fct.forward.rows import Pairs, parts
from fct.forward.settings import CLOSED, UNCERTAIN, FitSettings
from fct.forward.transformation import Forward
from fct.forward.uncertainty import Uncertainty, fit_uncertainty

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RANK_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
FOLDS = 3
CHOICE_ROWS = 2000
RESIDUAL_ROWS = 20_000
WIDE = 1024  # columns beyond which residuals come from one fold: every further one costs an eigendecomposition


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


def usable(method: str, material: Material) -> bool:
    """Whether the pairs allow a method; ``none`` and ``mean-shift`` need equal dimensions."""
    old, _, new = material.dims
    return old == new or method not in ("none", "mean-shift")


def fit_candidate(method: str, material: Material, settings: FitSettings, title: str, most_steps: int | None = None) -> Forward:
    """Fit one method; its σ included.

    Raises:
        BadInput: ``none`` or ``mean-shift`` between different dimensions.
    """
    old, side, new = material.dims
    about: dict[str, Any] = {}
    if method in CLOSED:
        if not usable(method, material):
            raise BadInput(f"{method} needs equal dimensions", wanted=f"new of {old} dimensions", got=new, todo="use procrustes or ridge")
        weight, bias = _affine(method, material, -1)
        if method in ("ridge", "low-rank"):
            about["ridge_strength"] = material.strength
        if method == "low-rank":
            about["rank"] = material.rank
        return Forward(method, old, side, new, weight=weight, bias=bias, uncertainty=_closed_uncertainty(method, material), about=about)
    head = material.head if settings.head_weight > 0 and bool((material.pairs.labels[material.pairs.rows] >= 0).any()) else None
    pool = material.pool if method == "fastfill-pool" and settings.pool_share > 0 else None

    def member(number: int) -> ForwardNetwork:
        return fit_network(
            material.pairs,
            pool,
            head,
            settings,
            seed=material.seed + 1000 * number,
            device=material.device,
            title=f"{title} {number + 1}/{settings.members}" if settings.members > 1 else title,
            most_steps=most_steps,
        )

    members = list(devices.spread(member, range(settings.members), material.device) if settings.members > 1 else map(member, [0]))
    h = Forward(method, old, side, new, network=ForwardEnsemble(members).eval(), about=about)
    if method == "fastfill-pool" and settings.linear_member:
        weight, bias = _affine("ridge", material, -1)
        h = replace(h, weight=weight, bias=bias)
    if method == "fastfill-pool" and settings.uncertainty and head is not None:
        h = replace(h, head=(np.array(head[0], dtype=np.float32), np.array(head[1], dtype=np.float32)))
    if method in UNCERTAIN and settings.uncertainty:
        return h
    rows = material.rest if len(material.rest) else material.fold_rows(0, CHOICE_ROWS)
    rows = rows.take(np.arange(min(len(rows), CHOICE_ROWS)))
    old_rows, side_rows, new_rows, _ = rows.gather(slice(None))
    carried, _ = h.transform(old_rows, side_rows if side else None)
    x = np.concatenate([old_rows.astype(np.float64), side_rows.astype(np.float64)], axis=1)
    scale = float(members[0].new_scale)
    errors = ((carried.astype(np.float64) - new_rows.astype(np.float64)) ** 2).mean(axis=1) / scale**2
    return replace(h, uncertainty=fit_uncertainty(x, errors, material.seed))


def _affine(method: str, material: Material, without: int) -> closed.Affine:
    if method == "ridge":
        return material.ridge(without).at(material.strength)
    if method == "low-rank":
        return material.ridge(without).reduced(material.strength, material.rank)
    form = {"none": closed.none, "mean-shift": closed.mean_shift, "procrustes": closed.procrustes}[method]
    return form(material.total(without), material.dims[0])


def _closed_uncertainty(method: str, material: Material) -> Uncertainty:
    """σ from residuals of every fold under the map of the other folds; of one source alone, from the fit's own residuals."""
    folds = len(material.sums)
    asked = range(folds) if folds > 1 and sum(material.dims[:2]) <= WIDE else range(1)
    unit = material.total().scale ** 2
    inputs, errors = [], []
    for number in asked:
        weight, bias = _affine(method, material, number if folds > 1 else -1)
        for x, y in material.fold_rows(number, RESIDUAL_ROWS // len(asked)).blocks():
            inputs.append(x)
            errors.append(((x @ weight + bias - y) ** 2).mean(axis=1) / unit)
    return fit_uncertainty(np.concatenate(inputs), np.concatenate(errors), material.seed)
