"""Rows are read back from the tables by their ids and computed again: canaries see only the batches that they are in.

After each commit of a transformation some rows of that batch, before a verdict and a promotion rows of the whole space. Which ones is drawn by
a seed from the content's digest, so that two runs read the same. A row computed again stands in another batch, whose products may end in
other bits: it must agree within :data:`fct.gallery.NOISE`. No image is read for any of it. Where images are read anyway, at ingest and
backfill, features are read back and compared with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fct import digests
from fct import index as indexes
from fct.errors import NotPermitted
from fct.gallery import BACKFILLED, NATIVE, Gallery, differ

if TYPE_CHECKING:  # which checks what it carries with this module
    from registry.carrying import Maker

EACH = 8  # rows of each block of so many:
BLOCK = 1024
LEAST = 64  # of a whole space
SURE = 0.95
ADVICE = "nothing was promoted; run the upgrade again, and if it happens again look at memory, disk and h"


def chosen(ids: np.ndarray, content: str, least: int = EACH) -> np.ndarray:
    """Some of (N,) ids: :data:`EACH` of every :data:`BLOCK` of them in their order, at least ``least``, by a seed from ``content``."""
    rng = np.random.default_rng(int(digests.of_json(content)[:16], 16))
    blocks = [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]
    count = max(EACH, -(-least // max(1, len(blocks))))
    parts = [block[np.sort(rng.permutation(len(block))[:count])] for block in blocks]
    return np.concatenate(parts) if parts else ids


def check(maker: Maker, space: str, ids: np.ndarray, searcher: indexes.Searcher | None = None) -> int:
    """Read rows back, make them again from their features, and compare; with ``searcher`` also with what the index holds.

    Items that were deleted meanwhile are left out.

    Returns:
        how many rows were compared.

    Raises:
        NotPermitted: a row is not there, or is not what its item's features give.
    """
    gallery = maker.workspace.gallery
    living = np.intersect1d(ids, gallery.item_ids())
    there = gallery.space_rows(space, living)
    missing = np.setdiff1d(living, there.ids)
    if len(missing):
        raise NotPermitted(f"{len(missing)} rows were written and are not there", got=missing[0], where=space, todo=ADVICE)
    natives, compared = _sources(maker.version, there.origin), 0
    for m in sorted(set(natives.tolist())):
        rows = np.flatnonzero(natives == m)
        for batch in gallery.features(m, ids=there.ids[rows], skip_absent=True):
            made, _, _ = maker.make(m, batch)
            at = rows[np.searchsorted(there.ids[rows], batch.ids)]
            _compare(space, batch.ids, made, there.vectors[at], "is not what its features give: rows were mixed up, or altered")
            compared += len(batch.ids)
    if searcher is not None:
        places = np.array([searcher.row_of(one) for one in there.ids.tolist()], dtype=np.int64)
        if (places < 0).any():
            raise NotPermitted("the index lacks a row of its space", got=there.ids[places < 0][0], where=space, todo=ADVICE)
        held = np.stack([searcher.vector(int(place)) for place in places]) if len(places) else there.vectors
        wanted = indexes.prepared(there.vectors, searcher.metric)
        _compare(space, there.ids, wanted, held, "is another one in the index")
    return compared


def _sources(version: int, origins: np.ndarray) -> np.ndarray:
    """(N,) the native version whose features a row was made from."""
    own = {NATIVE: version, BACKFILLED: version}
    return np.array([own.get(one) or int(one.removeprefix("forward ").partition("→")[0]) for one in origins.tolist()], dtype=np.int64)


def _compare(space: str, ids: np.ndarray, made: np.ndarray, found: np.ndarray, what: str) -> None:
    wrong = differ(made, found)
    if wrong.any():
        raise NotPermitted(f"the row of {ids[wrong][0]} {what}", got=f"{int(wrong.sum())} of {len(ids)} compared", where=space, todo=ADVICE)


def bound(compared: int) -> float:
    """The share of wrong rows that is excluded with 95 % where ``compared`` rows drawn by lot were all right."""
    return float(1 - (1 - SURE) ** (1 / compared)) if compared else 1.0


def check_features(
    gallery: Gallery, version: int, ids: np.ndarray, images: np.ndarray, embed: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> None:
    """Read features of some items back and embed their images again, which are at hand.

    Args:
        ids: (N,) just written to ``features/v{version}``. images: (N, C, S, S) uint8, in their order.

    Raises:
        NotPermitted: φ or ψ of an item is not what its image gives.
    """
    some = chosen(ids, digests.of_rows(ids, v=images.reshape(len(images), -1)))
    some = np.intersect1d(some, gallery.feature_ids(version))  # the others were deleted meanwhile
    if not len(some):
        return
    order = np.argsort(ids, kind="stable")
    phi, psi = embed(images[order[np.searchsorted(ids, some, sorter=order)]])
    (batch,) = gallery.features(version, ids=some, batch_rows=len(some))
    _compare(f"features/v{version}", some, phi, batch.phi, "is not what its image gives")
    steps = np.abs(psi.astype(np.int64) - batch.psi)  # a code may fall to the next one where its number was between two
    wrong = (steps > 1).any(axis=1)
    if wrong.any():
        raise NotPermitted(
            f"the side-information of {some[wrong][0]} is not what its image gives", where=f"features/v{version}", todo=ADVICE
        )
