"""Fitting one method on one set of pairs: the closed forms on shared sums, the learned ones by training.

Legend: N pairs, C = D + P columns of the input, E new dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fct import device as devices
from fct.errors import BadInput
from fct.forward.fitting import fit_network
from fct.forward.material import CHOICE_ROWS, Material
from fct.forward.methods import KNOWN
from fct.forward.network import ForwardEnsemble, ForwardNetwork
from fct.forward.settings import FitSettings
from fct.forward.spec import Closed, Learned
from fct.forward.transformation import Forward
from fct.forward.uncertainty import Uncertainty, fit_uncertainty

RESIDUAL_ROWS = 20_000
WIDE = 1024  # columns beyond which residuals come from one fold: every further one costs an eigendecomposition


def fit_candidate(method: str, material: Material, settings: FitSettings, title: str, most_steps: int | None = None) -> Forward:
    """Fit one method; its σ included.

    Raises:
        BadInput: a method for equal dimensions between different ones.
    """
    spec = KNOWN[method]
    old, side, new = material.dims
    if not spec.fits(old, new):
        raise BadInput(f"{method} needs equal dimensions", wanted=f"new of {old} dimensions", got=new, todo="use procrustes or ridge")
    if isinstance(spec, Closed):
        weight, bias = spec.fit(material, -1)
        sigma = _closed_uncertainty(spec, material)
        return Forward(method, old, side, new, weight=weight, bias=bias, uncertainty=sigma, about=spec.about(material))
    assert isinstance(spec, Learned)
    return _learned(spec, material, settings, title, most_steps)


def _learned(spec: Learned, material: Material, settings: FitSettings, title: str, most_steps: int | None) -> Forward:
    old, side, new = material.dims
    head = material.head if settings.head_weight > 0 and bool((material.pairs.labels[material.pairs.rows] >= 0).any()) else None
    pool = material.pool if "pool" in spec.uses and settings.pool_share > 0 else None

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
    h = Forward(spec.name, old, side, new, network=ForwardEnsemble(members).eval())
    if spec.linear and settings.linear_member:
        weight, bias = material.ridge().at(material.strength)
        h = replace(h, weight=weight, bias=bias)
    if spec.sure and settings.uncertainty and head is not None:
        h = replace(h, head=(np.array(head[0], dtype=np.float32), np.array(head[1], dtype=np.float32)))
    if spec.variance and settings.uncertainty:
        return h
    rows = material.rest if len(material.rest) else material.fold_rows(0, CHOICE_ROWS)
    rows = rows.take(np.arange(min(len(rows), CHOICE_ROWS)))
    old_rows, side_rows, new_rows, _ = rows.gather(slice(None))
    carried, _ = h.transform(old_rows, side_rows if side else None)
    x = np.concatenate([old_rows.astype(np.float64), side_rows.astype(np.float64)], axis=1)
    scale = float(members[0].new_scale)
    errors = ((carried.astype(np.float64) - new_rows.astype(np.float64)) ** 2).mean(axis=1) / scale**2
    return replace(h, uncertainty=fit_uncertainty(x, errors, material.seed))


def _closed_uncertainty(spec: Closed, material: Material) -> Uncertainty:
    """σ from residuals of every fold under the map of the other folds; of one source alone, from the fit's own residuals."""
    folds = len(material.sums)
    asked = range(folds) if folds > 1 and sum(material.dims[:2]) <= WIDE else range(1)
    unit = material.total().scale ** 2
    inputs, errors = [], []
    for number in asked:
        weight, bias = spec.fit(material, number if folds > 1 else -1)
        for x, y in material.fold_rows(number, RESIDUAL_ROWS // len(asked)).blocks():
            inputs.append(x)
            errors.append(((x @ weight + bias - y) ** 2).mean(axis=1) / unit)
    return fit_uncertainty(np.concatenate(inputs), np.concatenate(errors), material.seed)
