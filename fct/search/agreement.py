"""Neighbourhood agreement: how many of the ten nearest items that new/new finds are found, too. It needs no labels.

It says how faithful a gallery is to one embedded again, never which model is better.
Legend: V rows that are query and gallery, R queries, D dimensions.
"""

from __future__ import annotations

import numpy as np
import torch

from fct.arrays import vectors
from fct.search import metrics

NEIGHBOURS = 10


def neighbours(ids: np.ndarray, sources: np.ndarray, query: np.ndarray, gallery: np.ndarray, metric: str, rows: np.ndarray) -> np.ndarray:
    """(R, 10) places of the nearest items of the query rows, nearest first, −1 where fewer can be seen; itself and its source hidden.

    Args:
        ids, sources: (V,) equal ids are one item; an empty source hides nothing. query, gallery: (V, D) rows in one space.
        rows: (R,) the query rows.
    """
    prepare = vectors.normalise if metric == "cosine" else (lambda a: np.asarray(a, dtype=np.float32))
    q, g = torch.from_numpy(prepare(query[rows])), torch.from_numpy(prepare(gallery))
    ids = np.unique(ids, return_inverse=True)[1]
    names, sources = np.unique(sources.astype(str), return_inverse=True)
    sources = np.where(names[sources] == "", -1 - np.arange(len(sources)), sources)
    found = []
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        score = metrics.scores(q[start : start + 512], g, metric)
        hidden = (ids[part, None] == ids[None]) | (sources[part, None] == sources[None])
        score.masked_fill_(torch.from_numpy(hidden), float("-inf"))
        best = score.topk(min(NEIGHBOURS, len(gallery)), dim=1)
        found.append(torch.where(best.values > float("-inf"), best.indices, -1).numpy())
    return np.concatenate(found)


def agreement(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(R,) share of the ``wanted`` (R, 10) neighbours that are among the ``found`` (R, 10), in any order; NaN where none is wanted.

    Example: wanted 3, 7, 9 and found 7, 4, 3 → 2/3.
    """
    real = wanted >= 0
    hits = ((wanted[:, :, None] == found[:, None, :]) & real[:, :, None]).any(axis=2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / real.sum(axis=1))


def kinship(old: np.ndarray, new: np.ndarray) -> float:
    """Median cosine of an item's old (V, D) and new (V, E) vector, both around their means; NaN where D and E differ.

    Two networks, also two that differ by their seed alone, give about 0. One network gives more whose images were prepared otherwise
    (resized without anti-aliasing: 0.94), and so does one that was fine-tuned from the other.
    """
    if old.shape[1] != new.shape[1]:
        return float("nan")
    a, b = (vectors.normalise(one.astype(np.float32) - one.mean(axis=0, dtype=np.float64).astype(np.float32)) for one in (old, new))
    return float(np.median((a * b).sum(axis=1)))
