"""Canaries: rows with known answers inside the gallery, which show by meaning alone that a space is what it should be.

Canaries are images that belong to no user. Their native vectors in φ_n ship with release n, and their rows were carried into the
space by the same h as every other row. Digests tell that a file is the file that was written; only canaries tell that the right
thing was written: a map applied the wrong way round, shuffled rows, the normalisation of another version or half a table all come
with fresh, valid digests.

Legend: K canaries, N other rows, D dimensions. Ties count against a canary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fct.arrays.vectors import check as check_vectors
from fct.errors import BadInput

BLOCK_ROWS = 16384
TIE = 1e-6
METRICS = ("cosine", "l2")


@dataclass(frozen=True)
class CanaryPromise:
    """What an honest transformation reaches, measured on vectors that were never in a table.

    Attributes:
        rate: share of canaries whose native query finds its own transformed row within the top ``k``.
        mean_cosine: mean cosine of native and transformed vector.
        scale: median ratio of the norms, transformed to native.
        k: depth.
        others: number of other rows the canaries competed with.
    """

    rate: float
    mean_cosine: float
    scale: float
    k: int
    others: int


@dataclass(frozen=True)
class CanaryResult:
    """What the canaries of one space showed.

    Attributes:
        rate, mean_cosine, scale: as in :class:`CanaryPromise`; a missing canary counts as not found, with cosine 0.
        missing: ids of canaries without a row.
        passed: whether the space keeps its promise.
        why: one sentence.
    """

    rate: float
    mean_cosine: float
    scale: float
    missing: tuple[str, ...]
    passed: bool
    why: str


def _similarity(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """(K, N) float64, higher is nearer: cosine, or minus the squared distance over the query's squared norm."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric != "cosine":
        scale = (queries**2).sum(axis=1)[:, None]
        middle = queries.mean(axis=0)  # far from the origin distances would be lost in the squares
        queries, rows = queries - middle, rows - middle
        return -((queries**2).sum(axis=1)[:, None] - 2 * (queries @ rows.T) + (rows**2).sum(axis=1)[None, :]) / scale
    own, other = (queries**2).sum(axis=1)[:, None], (rows**2).sum(axis=1)[None, :]
    return (queries @ rows.T) / np.sqrt(np.maximum(own * other, np.finfo(np.float64).tiny))


def _measure(native: np.ndarray, own: np.ndarray, others: np.ndarray, metric: str, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Found within the top k, cosine, norm ratio: each (K,). ``own`` (K, D) are the canaries' rows, zero where one is missing."""
    among = _similarity(native, own, metric)
    score = np.diagonal(among).copy()
    ahead = (among >= score[:, None] - TIE).sum(axis=1) - 1
    for start in range(0, len(others), BLOCK_ROWS):
        ahead += (_similarity(native, others[start : start + BLOCK_ROWS], metric) >= score[:, None] - TIE).sum(axis=1)
    cosine = np.diagonal(_similarity(native, own, "cosine"))
    return ahead < k, cosine, np.linalg.norm(own, axis=1) / np.linalg.norm(native, axis=1)


def _wanted(metric: str, k: int) -> None:
    if metric not in METRICS or k < 1:
        raise BadInput("canaries cannot be ranked this way", wanted=f"a metric of {', '.join(METRICS)} and k ≥ 1", got=f"{metric}, k {k}")


def promise(native: np.ndarray, transformed: np.ndarray, background: np.ndarray, *, metric: str, k: int) -> CanaryPromise:
    """Measure what the canaries reach when their rows come straight from h, with no table involved.

    Args:
        native: (K, D) vectors of the canaries in φ_n.
        transformed: (K, D) their vectors carried over by h, row for row.
        background: (N, D) other rows of the space to compete with, for example transformed vectors of the evaluation sample; N may be 0.
        metric: ``cosine`` or ``l2``. k: depth.
    """
    _wanted(metric, k)
    check_vectors("native", native)
    check_vectors("transformed", transformed, dim=native.shape[1], rows=len(native))
    if len(background):
        check_vectors("background", background, dim=native.shape[1])
    found, cosine, scale = _measure(native, transformed, background, metric, k)
    return CanaryPromise(float(found.mean()), float(cosine.mean()), float(np.median(scale)), k, len(background))


def check(
    native: np.ndarray,
    ids: Sequence[str] | np.ndarray,
    space_ids: np.ndarray,
    space_vectors: np.ndarray,
    *,
    metric: str,
    k: int,
    promised_rate: float,
    promised_cosine: float,
    margin: float,
    promised_scale: float | None = None,
    others: int | None = None,
    seed: int = 0,
) -> CanaryResult:
    """Ask every canary for its own row in a space, and compare with the promise. A broken space is a result, not an exception.

    Args:
        native: (K, D) vectors of the canaries in φ_n. ids: (K,) their ids.
        space_ids: (M,) ids of all rows of the space, canaries included. space_vectors: (M, D) their vectors.
        margin: how far rate and mean cosine may fall short of the promise.
        promised_scale: median norm ratio of the promise. Used with ``l2`` only (a cosine has no scale); may be off by ``margin``, relatively.
        others: compete with at most this many other rows (:attr:`CanaryPromise.others`), drawn by ``seed``, so that a large gallery
            does not make an honest space look worse than promised. None: with all.

    Raises:
        BadInput: the canaries themselves or the shapes cannot be used.
    """
    _wanted(metric, k)
    check_vectors("native", native, rows=len(ids))
    names, rows = np.asarray(ids, dtype=str), np.asarray(space_ids, dtype=str)
    if space_vectors.ndim != 2 or space_vectors.shape != (len(rows), native.shape[1]) or len(set(names)) < len(names):
        wanted = f"distinct canaries and space vectors of shape {(len(rows), native.shape[1])}"
        raise BadInput("the canaries do not fit the space", wanted=wanted, got=space_vectors.shape)

    order = np.argsort(rows, kind="stable")
    place = np.searchsorted(rows, names, sorter=order)
    at = order[np.minimum(place, len(rows) - 1)] if len(rows) else np.zeros(len(names), dtype=np.int64)
    there = rows[at] == names if len(rows) else np.full(len(names), False)
    missing = tuple(names[~there].tolist())
    twice = np.flatnonzero(rows[order][1:] == rows[order][:-1])
    broken = np.flatnonzero(~(np.isfinite(space_vectors).all(axis=1) & space_vectors.any(axis=1)))

    own = np.zeros(native.shape, dtype=np.float32)
    own[there] = np.nan_to_num(space_vectors[at[there]], posinf=0, neginf=0)
    rest = order[~np.isin(order, at[there])]  # in the order of ids, so that the draw does not depend on how rows are stored
    if others is not None and len(rest) > others:
        rest = np.random.default_rng(seed).choice(rest, others, replace=False)
    rest = np.setdiff1d(rest, broken)
    found, cosine, scales = _measure(native, own, space_vectors[rest], metric, k)
    found &= there
    rate, mean_cosine, scale = float(found.mean()), float(cosine.mean()), float(np.median(scales))

    chance = k / max(len(names) + len(rest), 1)
    reasons = []
    if missing:
        reasons.append(f"{len(missing)} of {len(names)} canaries have no row, the first is {missing[0]}")
    if len(twice):
        reasons.append(f"{len(twice)} rows repeat an id, the first is {rows[order[twice[0]]]}")
    if len(broken):
        reasons.append(f"{len(broken)} rows are zero or not finite, the first is {rows[broken[0]]}")
    if rate < promised_rate - margin:
        reasons.append(f"{rate:.3f} of the canaries find their own row within the top {k} where {promised_rate:.3f} was promised")
    if mean_cosine < promised_cosine - margin:
        reasons.append(f"their mean cosine is {mean_cosine:.3f} where {promised_cosine:.3f} was promised")
    if metric == "l2" and promised_scale is not None and abs(scale / promised_scale - 1) > margin:
        reasons.append(f"their norm is {scale:.3g} of the native one where {promised_scale:.3g} was promised")
    if promised_rate - margin <= chance:
        reasons.append(
            f"a promise of {promised_rate:.3f} with a margin of {margin:.3f} is no more than chance ({chance:.3f}) and shows nothing"
        )
    held = (
        f"{rate:.3f} of {len(names)} canaries find their own row within the top {k}, with a mean cosine of {mean_cosine:.3f}, as promised"
    )
    return CanaryResult(rate, mean_cosine, scale, missing, not reasons, "; ".join(reasons) or held)
