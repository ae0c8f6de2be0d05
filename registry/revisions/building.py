"""Revisions (:mod:`registry.revisions.revision`) are built from the gallery as it is now, opened, and compared with their digests.

Deleting, backfilling and double embedding change what earlier releases hold too. The ledger entry then lists their new revisions in its
detail as ``earlier``, so that a rollback always finds what it may return to (:func:`registry.revisions.history.latest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests
from fct.arrays.files import read_json
from fct.errors import Altered
from fct.gallery import index as indexes
from fct.gallery import indexing
from fct.gallery.gallery import Gallery
from fct.gallery.names import BACKFILLED, FEATURES, SpaceRows, features_name
from fct.gallery.state import TableState
from fct.release.folder import Release
from registry.revisions import alarm, kept, names
from registry.revisions.history import latest
from registry.revisions.revision import IndexState, Revision
from registry.steps import keyed
from registry.workspace import Workspace


def pin(
    workspace: Workspace, version: int, space: str, release: Release, forwards: Mapping[int, str], unfit: Iterable[str] = ()
) -> Revision:
    """Build the index of a space, unless a whole one is there, and describe the revision: every table as it is now, and the index.

    Args:
        forwards: native version → digest of h.
        unfit: folders of indexes, relative to the workspace, that are damaged and stay as they are.

    Raises:
        Damaged: a file of items or of the space is not what was recorded of it. Altered: another release of this number has served.
    """
    entries = workspace.ledger.entries()
    served = latest(entries).get(version)
    if served is not None and served.release_digest != release.digest():
        wanted, got = served.release_digest[:12], release.digest()[:12]
        raise Altered(f"release {version} is not the one that has served", wanted=wanted, got=got, where=release.folder)
    states = states_of(workspace, space)
    content, settings = states[space].content, workspace.settings.index
    made_from = {"content": content, "settings": settings.of_building(), "metric": release.metric}
    folder = workspace.index_folder(digests.of_json(keyed("index", made_from)))
    past = names.gone(entries).union(unfit)
    folder = workspace.folder / names.unused(folder.relative_to(workspace.folder).as_posix(), past)
    about = _whole_index(folder, release.metric, content, _recorded_index(workspace, folder))
    if about is None:
        rows = workspace.gallery.read_space(space, at=states[space].version)
        about = indexing.save(indexing.build(rows.vectors, release.metric, settings), rows.ids, folder, content, settings, release.metric)
    return Revision(
        release=version,
        fingerprint=release.fingerprint,
        release_digest=release.digest(),
        forward=forwards,
        spaces=(space,),
        tables=states,
        indexes=(IndexState(folder.relative_to(workspace.folder).as_posix(), about),),
    )


def masked(workspace: Workspace, revision: Revision) -> Revision | None:
    """The revision after rows were deleted: every table as it is now, the index as it was, whose deleted rows are no answers.

    None where the space now holds a row that the revision did not hold, or another vector: its index must be built anew (:func:`pin`).
    """
    space, gallery = revision.space, workspace.gallery
    states = states_of(workspace, space, list(revision.tables))
    earlier = gallery.read_space(space, at=revision.state.version)
    now = gallery.read_space(space, at=states[space].version)
    same = np.isin(earlier.ids, now.ids)
    if digests.of_rows(now.ids, v=now.vectors) != digests.of_rows(earlier.ids[same], v=earlier.vectors[same]):
        return None
    return replace(revision, tables=states, masked=revision.index.rows - states[space].rows)


def still_theirs(workspace: Workspace, revision: Revision) -> np.ndarray:
    """Sorted ids of the revision's rows that are still rows of their items. Where an id was deleted and came again its row here is of the
    item that was deleted: the space has no row of it now, or another one. Rows that a backfill exchanged are of the same items.
    """
    gallery, space = workspace.gallery, revision.space
    return np.intersect1d(_unchanged(gallery.root, space, revision.state.version, gallery.newest_version(space)), gallery.item_ids())


@lru_cache(maxsize=4)  # a server asks every few seconds
def _unchanged(root: Path, space: str, first: int, second: int) -> np.ndarray:
    """Ids whose row is the same in two versions of a space, which never change."""
    gallery = Gallery(root)
    if first == second:
        return gallery.space_ids(space, at=first)
    then, now = gallery.read_space(space, at=first), gallery.read_space(space, at=second)
    both, here, there = np.intersect1d(then.ids, now.ids, assume_unique=True, return_indices=True)
    return both[(then.vectors[here] == now.vectors[there]).all(axis=1) | (now.origin[there] == BACKFILLED)]


def champion_rows(workspace: Workspace, serving: Revision | None) -> dict[str, int]:
    """What the champion's space holds: ``rows``, and how many of them were ``backfilled``. Old/old was measured on that mix."""
    if serving is None:
        return {}
    origin = workspace.gallery.read_space(serving.space, at=serving.state.version).origin
    return {"rows": len(origin), "backfilled": int((origin == BACKFILLED).sum())}


def states_of(workspace: Workspace, space: str | None = None, tables: list[str] | None = None) -> dict[str, TableState]:
    """Items, features and the space (and ``tables``) as they are now. What is recorded of a file stands as it was recorded.

    Rows of features are not read for it: their content says ``""``, and their files are the same whatever is added.
    """
    gallery, known = workspace.gallery, alarm.recorded(workspace)
    needed = ["items", *(features_name(m) for m in gallery.native_versions()), *([space] if space else []), *(tables or [])]
    there = set(gallery.tables())
    return {
        name: gallery.snapshot(name, recorded=known.get(name, {}), content=not name.startswith(FEATURES))
        for name in dict.fromkeys(needed)
        if name in there
    }


def _recorded_index(workspace: Workspace, folder: Path) -> dict[str, Any] | None:
    """What the ledger says of an index, None where it does not know it."""
    place = str(folder.relative_to(workspace.folder))
    found = [one.index for one in latest(workspace.ledger.entries()).values() if one.index.folder == place]
    return dict(found[-1].about) if found else None


def _whole_index(folder: Path, metric: str, content: str, recorded: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is known of an index that is there and whole, else None: an index that may serve is never built over."""
    if not (folder / "index.json").exists():
        return None
    try:
        indexes.open_index(folder, metric, content, recorded)
    except Altered:
        return None
    return dict(read_json(folder / "index.json"))


def open_index(workspace: Workspace, revision: Revision, metric: str) -> indexes.Searcher:
    """The index of a revision, refused when a file of it was altered or when it is not of the revision's space."""
    index, state, gone = revision.index, revision.state, revision.masked or 0
    content = state.content if not gone else index.content
    if index.rows != state.rows + gone:
        raise Altered("the index is not of the space that serves", wanted=f"{state.rows + gone} rows", got=index.rows)
    folder, few = workspace.folder / index.folder, workspace.settings.index.exact_below
    return indexes.open_index(folder, metric, content, dict(index.about), exact_below=few)


def align(searcher: indexes.Searcher, rows: SpaceRows) -> np.ndarray:
    """Vectors of the space in the order of the index's ids."""
    return rows.vectors[np.searchsorted(rows.ids, searcher.ids)]


def verify(workspace: Workspace, revision: Revision, beside: Revision | None = None) -> None:
    """Compare every file of a revision with its digests: release, tables, index.

    Args:
        beside: a revision that was verified and is open; what the two share is not read again.

    Raises:
        Altered: something was altered or deleted since; nothing was changed.
    """
    release = kept.release(workspace, revision)
    for name, state in revision.tables.items():
        if beside is None or state != beside.tables.get(name):
            workspace.gallery.verify(state)
    if beside is None or revision.index != beside.index:
        open_index(workspace, revision, release.metric)
