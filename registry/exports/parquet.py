"""What a release answers with, as one Parquet file: whole, or what changed since a ledger entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct.arrays.files import whole_file
from fct.errors import BadInput
from registry.exports.base import COLUMNS, Done, Rows, Said, Store, revision_of, rows_at, rows_of, still_there

if TYPE_CHECKING:
    import numpy as np

    from registry.entry import Entry
    from registry.revisions.history import Revision
    from registry.workspace import Workspace


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
    import numpy as np

    now = rows_of(workspace, release)
    entries = workspace.ledger.entries()
    revision = revision_of(entries, release)
    changed, gone = np.arange(len(now.ids)), np.empty(0, dtype=str)
    if since is not None:
        changed, gone = _difference(now, rows_at(workspace, entries, _at(entries, since, revision)))
    about = {"model": workspace.settings.model, "delta": since is not None, "since": since}
    about |= {name: getattr(now, name) for name in ("release", "revision", "entry", "metric", "fingerprint")}
    if not dry_run:
        _write(Path(out), now, changed, gone, about, lambda: still_there(workspace, now))
    return about | {"rows": len(changed), "deleted": len(gone)}


def _at(entries: list[Entry], since: int, revision: Revision) -> Revision:
    from registry.revisions import history

    found = history.serving(next((entry for entry in entries if entry.number == since), None))
    if found is None:
        raise BadInput(
            "there is no ledger entry of this number at which a release served",
            wanted=f"1 to {len(entries)}",
            got=since,
            todo="see `fct log`",
        )
    if found.space != revision.space:
        raise BadInput(
            f"entry {since} serves release {found.release}, whose vectors are of another space",
            todo="export the whole release, without --since",
        )
    return found


def _difference(now: Rows, before: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``now`` that are new or differ, and ids that are gone."""
    import numpy as np

    there, place, old = np.intersect1d(now.ids, before.ids, assume_unique=True, return_indices=True)
    same = (now.vectors[place] == before.vectors[old]).all(axis=1)
    for name in COLUMNS:
        same &= now.columns[name][place] == before.columns[name][old]
    unchanged = np.isin(now.ids, there[same])
    return np.flatnonzero(~unchanged), np.setdiff1d(before.ids, now.ids)


def _write(out: Path, now: Rows, rows: np.ndarray, gone: np.ndarray, about: dict[str, Any], check: Callable[[], None]) -> None:
    """``check`` is asked before the file is there."""
    import numpy as np
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


def _export(workspace: Workspace, out: str, said: Said, **parts: Any) -> Done:
    about = export(workspace, out, **parts)
    changes = f"{about['rows']} rows changed and {about['deleted']} deleted since entry {about['since']}"
    what = ("would hold " if parts["dry_run"] else "") + (changes if about["delta"] else f"{about['rows']} items")
    line = f"{out}: {what}, {about['model']} {about['release']}.{about['revision']}, ledger entry {about['entry']}"
    return Done(about, line, f"load it; then fct export DELTA.parquet --since {about['entry']}")


STORE = Store(
    address="release-2.parquet",
    help="A Parquet file of a release, or with --since of what changed. Load each release into a collection of its own, because vectors of "
    "two releases must not share an index. If the metric is cosine, scale the vectors to norm 1.",
    parts=True,
    export=_export,
)
