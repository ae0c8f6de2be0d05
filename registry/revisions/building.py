"""A revision n.r: the immutable set that a ledger entry names. Release, h's, every table at one version with its digests, the index.

A revision is plain JSON: format, release, fingerprint, release_digest, forward (native version → digest of h), space, tables (name → state),
index, and, where rows were deleted since the index was built, masked: how many of its rows are answers no more. In the ledger it
also has its number ``revision`` and the digest of the ``verdict`` it was promoted by.

Deleting, backfilling and double embedding change what earlier releases hold too. The ledger entry then lists their new revisions in its
detail as ``earlier``, so that a rollback always finds what it may return to (:func:`registry.revisions.history.latest`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests
from fct.arrays.files import read_json, read_object
from fct.errors import Altered, BadInput
from fct.gallery import index as indexes
from fct.gallery import indexing
from fct.gallery.gallery import Gallery
from fct.gallery.names import BACKFILLED, FEATURES, SpaceRows, features_name
from fct.gallery.state import TableState
from fct.release.folder import Release
from registry import formats
from registry.revisions import alarm, kept, names
from registry.revisions.history import Revision, latest
from registry.steps import keyed
from registry.workspace import Workspace

_KINDS: dict[str, type] = {
    "release": int,
    "fingerprint": str,
    "release_digest": str,
    "forward": dict,
    "space": str,
    "tables": dict,
    "index": dict,
}
_INDEX = {"folder", "identity", "content", "rows", "build"}


def read(path: Path) -> Revision:
    """The revision that an upgrade wrote down. BadInput where the file holds no revision, or one that later code wrote."""
    found = read_object(path, *_KINDS)
    formats.readable("revision", found, formats.REVISION, path)
    whole = all(type(found[name]) is kind for name, kind in _KINDS.items())
    if (
        not whole
        or found["space"] not in found["tables"]
        or not found["index"].keys() >= _INDEX
        or not all(map(str.isdecimal, found["forward"]))
    ):
        raise BadInput("a file is not the revision of an upgrade", where=path)
    for state in found["tables"].values():
        TableState.from_json(state)
    return found


def pin(workspace: Workspace, version: int, space: str, release: Release, forwards: dict[str, str], unfit: Iterable[str] = ()) -> Revision:
    """Build the index of a space, unless a whole one is there, and describe the revision: every table as it is now, and the index.

    Args:
        unfit: folders of indexes, relative to the workspace, that are damaged and stay as they are.

    Raises:
        Damaged: a file of items or of the space is not what was recorded of it. Altered: another release of this number has served.
    """
    entries = workspace.ledger.entries()
    served = latest(entries).get(version)
    if served is not None and served["release_digest"] != release.digest():
        wanted, got = served["release_digest"][:12], release.digest()[:12]
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
    return {
        "format": formats.REVISION,
        "release": version,
        "fingerprint": release.fingerprint,
        "release_digest": release.digest(),
        "forward": forwards,
        "space": space,
        "tables": {name: state.to_json() for name, state in states.items()},
        "index": about | {"folder": str(folder.relative_to(workspace.folder))},
    }


def masked(workspace: Workspace, revision: Revision) -> Revision | None:
    """The revision after rows were deleted: every table as it is now, the index as it was, whose deleted rows are no answers.

    None where the space now holds a row that the revision did not hold, or another vector: its index must be built anew (:func:`pin`).
    """
    space, gallery = revision["space"], workspace.gallery
    states = states_of(workspace, space, list(revision["tables"]))
    earlier = gallery.read_space(space, at=revision["tables"][space]["version"])
    now = gallery.read_space(space, at=states[space].version)
    same = np.isin(earlier.ids, now.ids)
    if digests.of_rows(now.ids, v=now.vectors) != digests.of_rows(earlier.ids[same], v=earlier.vectors[same]):
        return None
    return revision | {
        "tables": {name: state.to_json() for name, state in states.items()},
        "masked": int(revision["index"]["rows"]) - states[space].rows,
    }


def still_theirs(workspace: Workspace, revision: Revision) -> np.ndarray:
    """Sorted ids of the revision's rows that are still rows of their items. Where an id was deleted and came again its row here is of the
    item that was deleted: the space has no row of it now, or another one. Rows that a backfill exchanged are of the same items.
    """
    gallery, space = workspace.gallery, str(revision["space"])
    versions = int(revision["tables"][space]["version"]), gallery.newest_version(space)
    return np.intersect1d(_unchanged(gallery.root, space, *versions), gallery.item_ids())


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
    origin = workspace.gallery.read_space(serving["space"], at=serving["tables"][serving["space"]]["version"]).origin
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
    found = [one["index"] for one in latest(workspace.ledger.entries()).values() if one["index"]["folder"] == place]
    return {key: value for key, value in found[-1].items() if key != "folder"} if found else None


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
    recorded = {key: value for key, value in revision["index"].items() if key != "folder"}
    state, gone = revision["tables"][revision["space"]], int(revision.get("masked", 0))
    content = state["content"] if not gone else recorded["content"]
    if recorded["rows"] != state["rows"] + gone:
        raise Altered("the index is not of the space that serves", wanted=f"{state['rows'] + gone} rows", got=recorded["rows"])
    folder, few = workspace.folder / revision["index"]["folder"], workspace.settings.index.exact_below
    return indexes.open_index(folder, metric, content, recorded, exact_below=few)


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
    formats.readable("revision", revision, formats.REVISION)
    beside = beside or {}
    release = kept.release(workspace, revision)
    for name, state in revision["tables"].items():
        if state != beside.get("tables", {}).get(name):
            workspace.gallery.verify(TableState.from_json(state))
    if revision["index"] != beside.get("index"):
        open_index(workspace, revision, release.metric)
