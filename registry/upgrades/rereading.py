"""Rows are read back from the tables by their ids and computed again: canaries see only the batches that they are in.

After each commit of a transformation some rows of that batch, before a verdict and a promotion rows of the whole space. Which ones is drawn by
a seed from the content's digest, so that two runs read the same. A row computed again stands in another batch, whose products may end in
other bits: it must agree within :data:`fct.arrays.vectors.NOISE`. No image is read for any of it. Where images are read anyway, at ingest and
backfill, features are read back and compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fct import device as devices
from fct.arrays import digests
from fct.arrays.vectors import differ
from fct.errors import BadInput, NotPermitted
from fct.gallery import index as indexes
from fct.gallery.gallery import Gallery
from fct.gallery.names import BACKFILLED, NATIVE, SpaceRows
from fct.program import programs
from registry.images import Arrival, admitted
from registry.revisions import kept
from registry.upgrades.maker import Maker
from registry.workspace import Workspace

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
    compared = 0
    for at, made in _again(maker, there):
        _compare(space, there.ids[at], made, there.vectors[at], "is not what its features give: rows were mixed up, or altered")
        compared += len(at)
    if searcher is not None:
        places = np.array([searcher.row_of(one) for one in there.ids.tolist()], dtype=np.int64)
        if (places < 0).any():
            raise NotPermitted("the index lacks a row of its space", got=there.ids[places < 0][0], where=space, todo=ADVICE)
        held = np.stack([searcher.vector(int(place)) for place in places]) if len(places) else there.vectors
        wanted = indexes.prepared(there.vectors, searcher.metric)
        _compare(space, there.ids, wanted, held, "is another one in the index")
    return compared


def others(maker: Maker, space: str, ids: np.ndarray) -> np.ndarray:
    """Those of (N,) ids whose row is not what the features of their item give, as it is now. Items that were deleted are left out."""
    gallery = maker.workspace.gallery
    there = gallery.space_rows(space, np.intersect1d(ids, gallery.item_ids()))
    other = gallery.native_version_of(there.ids) != sources(maker.version, there.origin)  # the row stays where features alone are gone
    for at, made in _again(maker, there):
        other[at] = differ(made, there.vectors[at])
    return there.ids[other]


def _again(maker: Maker, there: SpaceRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Offsets (M,) of rows, and (M, D) what their features give; without rows whose features are not there."""
    natives = sources(maker.version, there.origin)
    for m in sorted(set(natives.tolist())):
        rows = np.flatnonzero(natives == m)
        for batch in maker.workspace.gallery.features(m, ids=there.ids[rows], skip_absent=True):
            yield rows[np.searchsorted(there.ids[rows], batch.ids)], maker.make(m, batch)[0]


def sources(version: int, origins: np.ndarray) -> np.ndarray:
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
    wrong = _other_side(psi, batch.psi)
    if wrong.any():
        raise NotPermitted(
            f"the side-information of {some[wrong][0]} is not what its image gives", where=f"features/v{version}", todo=ADVICE
        )


def _other_side(made: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(N,) whether ψ (N, P) differs by more than one level: a code may fall to the next one where its number was between two."""
    return np.asarray((np.abs(made.astype(np.int64) - found) > 1).any(axis=1))


@dataclass
class Images:
    """What reading images of the gallery again has shown.

    Attributes:
        read: images that were read and embedded. unreadable: (id, why) of those that are not there any more.
        other: (id, why) of items whose features are not what their image gives now.
    """

    read: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    other: list[tuple[str, str]] = field(default_factory=list)


def check_images(workspace: Workspace, count: int, seed: int | None = None) -> Images:
    """Read images of some items again, embed them by their native release, and compare with the features that are stored.

    The one check that an image became its features, and no neighbour's: nothing but ingest, backfill and this reads images.

    Args:
        count: of items, drawn by lot. seed: of the lot; None draws others each time.
    """
    gallery, found, walked = workspace.gallery, Images(), admitted(workspace)
    items = gallery.items()
    mine = np.flatnonzero(items["role"] == "item")
    drawn = np.sort(np.random.default_rng(seed).permutation(mine)[:count])
    for m in np.unique(items["native_version"][drawn]).tolist():
        release = kept.opened(workspace, m)
        rows = drawn[items["native_version"][drawn] == m]
        if release.adopted:
            found.unreadable += [(one, f"version {m} was adopted without its embedder") for one in items["id"][rows].tolist()]
            continue
        device = devices.pick(workspace.settings.device)
        program = release.program(device)
        for start in range(0, len(rows), BLOCK):
            ids, images = [], []
            for one, uri in zip(*(items[name][rows[start : start + BLOCK]].tolist() for name in ("id", "image_uri")), strict=True):
                try:
                    images.append(Arrival(one, "", "", uri, walked=walked).read(release.size, release.mode)[0])
                    ids.append(one)
                except BadInput as error:
                    found.unreadable.append((one, str(error)))
            there = np.isin(ids, gallery.feature_ids(m))  # the others were deleted meanwhile
            names = np.array(ids, dtype=str)[there]
            if not len(names):
                continue
            phi, psi = programs.embed(program, np.stack(images)[there], device=device)
            (batch,) = gallery.features(m, ids=names, batch_rows=len(names))
            found.read += len(names)
            wrong = differ(batch.phi, phi) | _other_side(psi, batch.psi)
            found.other += [(one, f"features/v{m} holds others than its image gives now") for one in names[wrong].tolist()]
    return found
