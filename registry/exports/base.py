"""What a store needs to be one that a release is exported to, and what all of them share.

A store is one module of this folder with a ``STORE``; nothing else names it. It imports what computes inside its functions: `fct --help`
reads the addresses of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import registry.exports
from fct.errors import BadInput, FctError, NotPermitted, OperationFailed

if TYPE_CHECKING:
    import numpy as np

    from registry.entry import Entry
    from registry.revisions.revision import Revision
    from registry.workspace import Workspace

COLUMNS = ("label", "source", "image_uri", "origin", "native_version")
QUERIES, DEPTH, TIE = 32, 10, 1e-5  # of a comparison with another engine
Said = Callable[[str], None]  # is told what a person should know before anything is written


@dataclass(frozen=True)
class Done:
    """What an export did: ``about`` for --json, a line for people, and what they do next."""

    about: dict[str, Any]
    line: str
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where a release can be exported to.

    ``address``: what one types, as an example; ``schemes``: what such addresses begin with, none for files. ``help``: sentences for
    `fct export --help` and docs/gallery.md. ``export``: (workspace, address, said); run again, it brings what changed. ``extra``: what it
    needs beside `ops`, of pyproject.toml. ``parts``: ``export`` also takes ``release``, ``since`` and ``dry_run``; other stores always
    hold the release that serves.
    """

    address: str
    help: str
    export: Callable[..., Done]
    schemes: tuple[str, ...] = ()
    extra: str = ""
    parts: bool = False


@cache
def stores() -> tuple[Store, ...]:
    """All stores, files first."""
    names = sorted(one.name for one in iter_modules(registry.exports.__path__) if one.name != "base")
    found: list[Store] = [import_module(f"registry.exports.{name}").STORE for name in names]
    return tuple(sorted(found, key=lambda store: bool(store.schemes)))


def store_of(address: str) -> Store:
    """The store that an address names; one without a scheme is a file.

    Raises:
        BadInput: the address has a scheme that no store has.
    """
    files, *engines = stores()
    known = next((one for one in engines if address.startswith(one.schemes)), None)
    families = tuple(scheme.partition("+")[0] + "+" for one in engines for scheme in one.schemes if "+" in scheme)
    if known is None and ("://" in address or address.startswith(families)):
        wanted = " or ".join(one.address for one in engines)
        raise BadInput("the address names no known engine", wanted=f"a file, or {wanted}", got=address)
    return known or files


def checked_there(name: str, about: dict[str, Any]) -> Done:
    """What an engine got and answered; ``name``: what its readers ask."""
    what = f"{about['written']} rows written, {about['deleted']} deleted, {about['checked']} queries answered there as here"
    return Done(about, f"{name}: {about['rows']} items of release {about['release']}.{about['revision']}; {what}")


@dataclass(frozen=True)
class Rows:
    """The items that a revision answers with, sorted by id; canaries and deleted items are not among them.

    Attributes:
        ids: (N,) str. vectors: (N, D) float32 as the space holds them; scale to norm 1 where ``metric`` is cosine. uncertainty: (N,).
        columns: the N values of each of :data:`COLUMNS`.
        entry: number of the newest ledger entry that names the revision. pinned: the revision itself.
    """

    ids: np.ndarray
    vectors: np.ndarray
    uncertainty: np.ndarray
    columns: dict[str, np.ndarray]
    release: int
    revision: int
    entry: int
    metric: str
    fingerprint: str
    pinned: Revision


def name_of(model: str) -> str:
    """Name of a model in another engine: ``fct_``, its letters and digits, and a digest where others had to go."""
    plain = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:40]
    return f"fct_{plain}" if plain == model else f"fct_{plain}_{sha256(model.encode()).hexdigest()[:8]}"


def rows_of(workspace: Workspace, release: int | None = None) -> Rows:
    """Of the release that serves, or of one that has served, at its newest revision. Files are verified first.

    Raises:
        BadInput: nothing serves, or the release never did. NotPermitted: a file of the tables was altered.
        OperationFailed: the revision gave way to a later one, and a gc or a purge took its tables while they were read.
    """
    from registry.revisions import history

    entries = workspace.ledger.entries()
    revision = revision_of(entries, release)
    try:
        return rows_at(workspace, entries, revision)
    except FctError as error:
        if revision in history.latest(workspace.ledger.entries()).values():
            raise
        raise OperationFailed("the gallery changed during the export", todo="run the same command again") from error


def deleted_since(workspace: Workspace, now: Rows) -> np.ndarray:
    """Sorted ids of rows whose items were deleted since they were read, also where the ids came again as other items. All of them where a
    gc or a purge took the tables that were read: nobody can tell any more."""
    import numpy as np

    from registry.revisions.building import still_theirs

    try:
        return np.setdiff1d(now.ids, still_theirs(workspace, now.pinned))
    except FctError:
        return np.unique(now.ids)


def still_there(workspace: Workspace, now: Rows) -> None:
    """To be asked before anybody sees what was exported: whoever slept meanwhile must not bring deleted items back.

    Raises:
        OperationFailed: items that are exported were deleted meanwhile (:func:`deleted_since`).
    """
    import numpy as np

    gone, todo = np.setdiff1d(now.ids, workspace.gallery.item_ids(role="item")), "run the same command again"
    if len(gone):
        raise OperationFailed(f"{len(gone)} items were deleted during the export", todo=todo)
    if len(deleted_since(workspace, now)):
        raise OperationFailed("during the export, items were deleted and came again, or tables were removed", todo=todo)


def searched(now: Rows) -> np.ndarray:
    """(N, D) float32 the vectors as an engine should hold them: scaled to norm 1 where the metric is cosine."""
    from fct.arrays.vectors import normalise

    return normalise(now.vectors) if now.metric == "cosine" else now.vectors


def digests_of(now: Rows, vectors: np.ndarray) -> list[str]:
    """Of each row with all that is known of it: what an engine has that differs is written again."""
    described = zip(*(now.columns[name].tolist() for name in COLUMNS), strict=True)
    texts = ("\0".join(map(str, about)).encode() for about in described)
    return [sha256(row.tobytes() + text).hexdigest()[:32] for row, text in zip(vectors, texts, strict=True)]


def compare(now: Rows, vectors: np.ndarray, ask: Callable[[np.ndarray], list[str]], what: str) -> int:
    """Ask an engine some of the rows as queries and compare with exact search here; equal scores may be told in any order.

    Args:
        ask: (D,) query → ids of the :data:`DEPTH` nearest there, by exact search.

    Returns:
        how many queries were asked.

    Raises:
        NotPermitted: an answer differs.
    """
    import numpy as np

    chosen = np.random.default_rng(0).permutation(len(vectors))[:QUERIES]
    place = {one: row for row, one in enumerate(now.ids.tolist())}
    for row in chosen.tolist():
        query, depth = vectors[row], min(DEPTH, len(vectors))
        ours = -(vectors @ query) if now.metric == "cosine" else ((vectors - query) ** 2).sum(axis=1)
        last = float(np.sort(ours)[depth - 1])
        theirs = [place.get(one, -1) for one in ask(query)]
        if len(set(theirs)) != depth or -1 in theirs or (ours[theirs] > last + TIE * max(1.0, abs(last))).any():
            raise NotPermitted(f"{what} gives other answers to the query {now.ids[row]} than the gallery", todo="readers do not see it")
    return len(chosen)


def revision_of(entries: list[Entry], release: int | None) -> Revision:
    """The newest revision of the release that serves, or of one that has served. Raises: BadInput as :func:`rows_of`."""
    from registry.revisions import history

    serving = history.serving(entries[-1] if entries else None)
    if release is None:
        if serving is None:
            raise BadInput("nothing serves, so there is nothing to export", todo="promote a release first")
        return serving
    known = history.latest(entries)
    if release not in known:
        raise BadInput("this release has never served", wanted=f"one of {sorted(known)}" if known else "one that was promoted", got=release)
    return serving if serving is not None and serving.release == release else known[release]


def rows_at(workspace: Workspace, entries: list[Entry], revision: Revision) -> Rows:
    """Of one revision; files are verified first."""
    import numpy as np

    from registry.revisions import history, kept

    gallery, state, described = workspace.gallery, revision.state, revision.tables["items"]
    for one in (state, described):
        gallery.verify(one)
    rows, items = gallery.read_space(revision.space, at=state.version), gallery.items(at=described.version)
    keep = np.isin(rows.ids, items["id"][items["role"] == "item"])
    place = np.searchsorted(items["id"], rows.ids[keep])
    columns = {name: rows.origin[keep] if name == "origin" else items[name][place] for name in COLUMNS}
    return Rows(
        ids=rows.ids[keep],
        vectors=rows.vectors[keep],
        uncertainty=rows.uncertainty[keep],
        columns=columns,
        release=revision.release,
        revision=revision.number or 0,
        entry=history.newest_entry(entries, revision),
        metric=kept.release(workspace, revision, check=False).metric,
        fingerprint=revision.fingerprint,
        pinned=revision,
    )
