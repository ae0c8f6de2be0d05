"""What a release answers with, for an engine that people already run: as one Parquet file, or in their engine
(:mod:`registry.exports.pgvector`, :mod:`registry.exports.qdrant`)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays.files import whole_file
from fct.arrays.vectors import normalise
from fct.errors import BadInput, FctError, NotPermitted, OperationFailed
from fct.gallery.state import TableState
from registry.entry import Entry
from registry.revisions import kept
from registry.revisions.building import still_theirs
from registry.revisions.history import Revision, latest
from registry.workspace import Workspace

COLUMNS = ("label", "source", "image_uri", "origin", "native_version")
QUERIES, DEPTH, TIE = 32, 10, 1e-5  # of a comparison with another engine


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
    entries = workspace.ledger.entries()
    revision = _revision(entries, release)
    try:
        return _rows(workspace, entries, revision)
    except FctError as error:
        if revision in latest(workspace.ledger.entries()).values():
            raise
        raise OperationFailed("what was to be exported has changed while it was read", todo="run the same command again") from error


def deleted_since(workspace: Workspace, now: Rows) -> np.ndarray:
    """Sorted ids of rows whose items were deleted since they were read, also where the ids came again as other items. All of them where a
    gc or a purge took the tables that were read: nobody can tell any more."""
    try:
        return np.setdiff1d(now.ids, still_theirs(workspace, now.pinned))
    except FctError:
        return np.unique(now.ids)


def still_there(workspace: Workspace, now: Rows) -> None:
    """To be asked before anybody sees what was exported: whoever slept meanwhile must not bring deleted items back.

    Raises:
        OperationFailed: items that are exported were deleted meanwhile (:func:`deleted_since`).
    """
    gone, todo = np.setdiff1d(now.ids, workspace.gallery.item_ids(role="item")), "run the same command again"
    if len(gone):
        raise OperationFailed(f"{len(gone)} items were deleted while they were exported", todo=todo)
    if len(deleted_since(workspace, now)):
        raise OperationFailed("while they were exported items were deleted and came again, or their tables went", todo=todo)


def export(
    workspace: Workspace, out: str | Path, *, release: int | None = None, since: int | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """Write one Parquet file, whole or not at all: a row an item, with id, deleted, vector, uncertainty and :data:`COLUMNS`.

    The file's metadata has, under ``fct``, what is returned but the counts.

    Args:
        dry_run: count, and write nothing.
        since: a ledger entry. Then only rows that are new or differ since it, and ids that are gone (``deleted``, the rest null).

    Returns:
        model, release, revision, entry, metric, fingerprint, delta, since, rows, deleted.

    Raises:
        BadInput: as :func:`rows_of`; no such entry, or it is of another space, from which there is no delta.
        NotPermitted: a file of the tables was altered. OperationFailed: as :func:`rows_of` and :func:`still_there`; nothing was written.
    """
    now = rows_of(workspace, release)
    entries = workspace.ledger.entries()
    revision = _revision(entries, release)
    changed, gone = np.arange(len(now.ids)), np.empty(0, dtype=str)
    if since is not None:
        changed, gone = _difference(now, _rows(workspace, entries, _at(entries, since, revision)))
    about = {"model": workspace.settings.model, "delta": since is not None, "since": since}
    about |= {name: getattr(now, name) for name in ("release", "revision", "entry", "metric", "fingerprint")}
    if not dry_run:
        _write(Path(out), now, changed, gone, about, lambda: still_there(workspace, now))
    return about | {"rows": len(changed), "deleted": len(gone)}


def searched(now: Rows) -> np.ndarray:
    """(N, D) float32 the vectors as an engine should hold them: scaled to norm 1 where the metric is cosine."""
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
    chosen = np.random.default_rng(0).permutation(len(vectors))[:QUERIES]
    place = {one: row for row, one in enumerate(now.ids.tolist())}
    for row in chosen.tolist():
        query, depth = vectors[row], min(DEPTH, len(vectors))
        ours = -(vectors @ query) if now.metric == "cosine" else ((vectors - query) ** 2).sum(axis=1)
        last = float(np.sort(ours)[depth - 1])
        theirs = [place.get(one, -1) for one in ask(query)]
        if len(set(theirs)) != depth or -1 in theirs or (ours[theirs] > last + TIE * max(1.0, abs(last))).any():
            raise NotPermitted(f"{what} answers the query {now.ids[row]} otherwise than the gallery", todo="it was not put before readers")
    return len(chosen)


def _revision(entries: list[Entry], release: int | None) -> Revision:
    serving = entries[-1].serving if entries else None
    if release is None:
        if serving is None:
            raise BadInput("nothing serves, so there is nothing to export", todo="promote a release first")
        return serving
    known = latest(entries)
    if release not in known:
        raise BadInput("this release has never served", wanted=f"one of {sorted(known)}" if known else "one that was promoted", got=release)
    return serving if serving is not None and int(serving["release"]) == release else known[release]


def _at(entries: list[Entry], since: int, revision: Revision) -> Revision:
    found = next((e.serving for e in entries if e.number == since), None)
    if found is None:
        raise BadInput(
            "there is no such ledger entry that serves something", wanted=f"1 to {len(entries)}", got=since, todo="see `fct log`"
        )
    if found["space"] != revision["space"]:
        raise BadInput(
            f"entry {since} serves release {found['release']}, whose vectors are of another space",
            todo="export the whole release, without --since",
        )
    return found


def _rows(workspace: Workspace, entries: list[Entry], revision: Revision) -> Rows:
    gallery, space = workspace.gallery, revision["space"]
    for name in (space, "items"):
        gallery.verify(TableState.from_json(revision["tables"][name]))
    rows = gallery.read_space(space, at=revision["tables"][space]["version"])
    items = gallery.items(at=revision["tables"]["items"]["version"])
    keep = np.isin(rows.ids, items["id"][items["role"] == "item"])
    place = np.searchsorted(items["id"], rows.ids[keep])
    columns = {name: rows.origin[keep] if name == "origin" else items[name][place] for name in COLUMNS}
    return Rows(
        ids=rows.ids[keep],
        vectors=rows.vectors[keep],
        uncertainty=rows.uncertainty[keep],
        columns=columns,
        release=int(revision["release"]),
        revision=int(revision["revision"]),
        entry=next(e.number for e in reversed(entries) if revision in (e.serving, *e.detail.get("earlier", []))),
        metric=kept.release(workspace, revision, check=False).metric,
        fingerprint=revision["fingerprint"],
        pinned=revision,
    )


def _difference(now: Rows, before: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``now`` that are new or differ, and ids that are gone."""
    there, place, old = np.intersect1d(now.ids, before.ids, assume_unique=True, return_indices=True)
    same = (now.vectors[place] == before.vectors[old]).all(axis=1)
    for name in COLUMNS:
        same &= now.columns[name][place] == before.columns[name][old]
    unchanged = np.isin(now.ids, there[same])
    return np.flatnonzero(~unchanged), np.setdiff1d(before.ids, now.ids)


def _write(out: Path, now: Rows, rows: np.ndarray, gone: np.ndarray, about: dict[str, Any], check: Callable[[], None]) -> None:
    """``check`` is asked before the file is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dim, none = now.vectors.shape[1], len(gone)
    # lists of one fixed length with nulls can be written to Parquet and not be read back (pyarrow 25), so lists of any length
    flat = pa.array(now.vectors[rows].ravel(), type=pa.float32())
    lists = pa.LargeListArray.from_arrays(pa.array(np.arange(0, dim * len(rows) + 1, dim, dtype=np.int64)), flat)
    columns: dict[str, Any] = {
        "id": pa.array([*now.ids[rows].tolist(), *gone.tolist()], pa.string()),
        "deleted": pa.array([False] * len(rows) + [True] * none),
        "vector": pa.concat_arrays([lists, pa.nulls(none, pa.large_list(pa.float32()))]),
        "uncertainty": pa.array(now.uncertainty[rows].tolist() + [None] * none, pa.float32()),
    }
    for name in COLUMNS:
        kind = pa.int32() if name == "native_version" else pa.string()
        columns[name] = pa.array(now.columns[name][rows].tolist() + [None] * none, kind)
    table = pa.table(columns).replace_schema_metadata({"fct": json.dumps(about)})
    with whole_file(out) as part:
        pq.write_table(table, part)
        check()
