"""The release that serves, in PostgreSQL with the extension pgvector: the door to an engine that people already run.

A schema ``fct_<model>`` holds one table a release (``release_2``: id, vector, label, source, image_uri, origin, native_version), a view
``items`` on the one that serves, and ``serving``, one row: release, revision, ledger entry, metric, fingerprint. Everything, the
switch of the view too, is one transaction, and it is committed only after rows were counted and queries answered on the other side.
So readers of ``items`` see the old release or the new one, whole. The release before stays, so that a rollback only moves the view.

Vectors are scaled to norm 1 where the metric is cosine, so that ``<=>`` and ``<#>`` rank alike; l2 is ``<->``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fct.errors import BadInput, NotPermitted, OperationFailed
from registry.exports.base import (
    COLUMNS,
    DEPTH,
    Done,
    Rows,
    Said,
    Store,
    checked_there,
    compare,
    digests_of,
    name_of,
    rows_of,
    searched,
    still_there,
)

if TYPE_CHECKING:
    import numpy as np

    from registry.workspace import Workspace

OPERATORS = {"cosine": "<=>", "l2": "<->"}
# of pgvector: dimensions that a vector may have, and an HNSW index on vectors and on halves (16 bits a number)
LARGEST, INDEXED, INDEXED_HALVES = 16_000, 2_000, 4_000


def advice(dim: int, table: str, metric: str) -> str | None:
    """How ``dim`` dimensions can be indexed there, where an index on the column as it is would be refused; else None.

    Raises:
        BadInput: pgvector does not hold so many.
    """
    if dim > LARGEST:
        raise BadInput("pgvector does not hold such vectors", wanted=f"at most {LARGEST} dimensions", got=dim, todo="export to Parquet")
    if dim <= INDEXED:
        return None
    if dim > INDEXED_HALVES:
        return f"{dim} dimensions: pgvector has no HNSW index for more than {INDEXED_HALVES}; searches there will compare every row"
    return (
        f"{dim} dimensions: pgvector's HNSW indexes take at most {INDEXED} of type vector, so index {table} as halfvec (pgvector 0.7 or newer): CREATE INDEX ON"
        f" {table} USING hnsw ((vector::halfvec({dim})) halfvec_{metric}_ops), and ask with the same cast"
    )


def push(workspace: Workspace, url: str, said: Said) -> dict[str, Any]:
    """Bring the release that serves to a database, or what changed since the last time; check it there; let the view show it.

    Running it again after a promotion, a rollback, an ingest, a deletion or a backfill brings what changed.

    Args:
        url: ``postgresql://user@host/database``; a password comes from PGPASSWORD or ~/.pgpass.
        said: is told, before anything is written, what to know of an index there (:func:`advice`).

    Returns:
        schema, release, revision, entry, rows, written, deleted, checked (queries answered alike).

    Raises:
        BadInput: nothing serves, or the database has no pgvector. OperationFailed: the database does not answer.
        NotPermitted: what stands there afterwards does not answer as the gallery does; nothing was changed.
        OperationFailed: items were deleted meanwhile; nothing was changed.
    """
    import numpy as np

    found = rows_of(workspace)
    schema, table = name_of(workspace.settings.model), f"release_{found.release}"
    known = advice(found.vectors.shape[1], f"{schema}.{table}", found.metric)
    if known is not None:
        said(known)
    vectors = searched(found)
    digests = digests_of(found, vectors)
    with _connected(url) as cursor:
        _extension(cursor)
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (schema,))  # one push at a time
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {schema}.{table} (id text PRIMARY KEY, vector vector({vectors.shape[1]}) NOT NULL, label text,"
            " source text, image_uri text, origin text, native_version int, digest text NOT NULL)"
        )
        cursor.execute(f"SELECT id, digest FROM {schema}.{table}")
        there = dict(cursor.fetchall())
        wanted = dict(zip(found.ids.tolist(), digests, strict=True))
        changed = np.flatnonzero([there.get(one) != digest for one, digest in wanted.items()])
        gone = [one for one in there if one not in wanted]
        stale = [one for one in found.ids[changed].tolist() if one in there]
        if gone or stale:
            cursor.execute(f"DELETE FROM {schema}.{table} WHERE id = ANY(%s)", (gone + stale,))
        _copy(cursor, f"{schema}.{table}", found, vectors, digests, changed)
        checked = _check(cursor, f"{schema}.{table}", found, vectors)
        cursor.execute(f"DROP VIEW IF EXISTS {schema}.items")
        cursor.execute(f"CREATE VIEW {schema}.items AS SELECT id, vector, {', '.join(COLUMNS)} FROM {schema}.{table}")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {schema}.serving (release int, revision int, entry int, metric text, fingerprint text)")
        cursor.execute(f"SELECT release FROM {schema}.serving")
        before = {int(row[0]) for row in cursor.fetchall()}
        cursor.execute(f"DELETE FROM {schema}.serving")
        values = (found.release, found.revision, found.entry, found.metric, found.fingerprint)
        cursor.execute(f"INSERT INTO {schema}.serving VALUES (%s, %s, %s, %s, %s)", values)
        _drop_older(cursor, schema, before | {found.release})
        for earlier in sorted(before - {found.release}):  # a rollback only moves the view: what was deleted must be gone there too
            cursor.execute(f"DELETE FROM {schema}.release_{earlier} WHERE NOT id = ANY(%s)", (workspace.gallery.item_ids().tolist(),))
        still_there(workspace, found)
    about = {"release": found.release, "revision": found.revision, "entry": found.entry, "rows": len(found.ids)}
    return {"schema": schema, "written": len(changed), "deleted": len(gone), "checked": checked} | about


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    try:
        import psycopg2
    except ModuleNotFoundError as error:
        raise BadInput("the driver for PostgreSQL is not installed", todo="pip install psycopg2-binary (the extra `postgres`)") from error
    try:
        connection = psycopg2.connect(url, connect_timeout=60)
    except psycopg2.Error as error:
        raise OperationFailed(
            "the database does not answer", got=str(error).splitlines()[0], todo="check the address and the server"
        ) from error
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except psycopg2.Error as error:
        raise OperationFailed("the database refused", got=str(error).splitlines()[0], todo="nothing was changed there") from error
    finally:
        connection.close()


def _extension(cursor: Any) -> None:
    cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
    if cursor.fetchone() is None:
        raise BadInput("this PostgreSQL has no pgvector", wanted="the extension vector", todo="install pgvector on the server")
    cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")


def _copy(cursor: Any, table: str, found: Rows, vectors: np.ndarray, digests: list[str], rows: np.ndarray) -> None:
    """COPY the rows, some thousand at a time."""

    import numpy as np

    def text(value: object) -> str:
        return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")

    for start in range(0, len(rows), 4096):
        lines = []
        for row in rows[start : start + 4096].tolist():
            vector = "[" + ",".join(np.format_float_positional(x, unique=True, trim="-") for x in vectors[row]) + "]"
            about = [text(found.columns[name][row]) for name in COLUMNS]
            lines.append("\t".join([text(found.ids[row]), vector, *about, digests[row]]))
        columns = f"id, vector, {', '.join(COLUMNS)}, digest"
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO("\n".join(lines) + "\n"))


def _check(cursor: Any, table: str, found: Rows, vectors: np.ndarray) -> int:
    """Count rows and ask queries there by exact search. NotPermitted, which takes everything back, where an answer differs."""
    cursor.execute(f"SELECT count(*) FROM {table}")
    count = int(cursor.fetchone()[0])
    if count != len(found.ids):
        raise NotPermitted("the database holds another number of rows", wanted=len(found.ids), got=count, todo="nothing was changed there")
    cursor.execute("SET LOCAL enable_indexscan = off")  # exact, whatever index somebody has built

    def ask(query: np.ndarray) -> list[str]:
        literal = "[" + ",".join(map(repr, query.tolist())) + "]"
        cursor.execute(f"SELECT id FROM {table} ORDER BY vector {OPERATORS[found.metric]} %s::vector LIMIT {DEPTH}", (literal,))
        return [str(one) for (one,) in cursor.fetchall()]

    return compare(found, vectors, ask, "the database")


def _drop_older(cursor: Any, schema: str, keep: set[int]) -> None:
    """Tables of releases other than the one that serves and the one before it."""
    cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name LIKE 'release\\_%%'", (schema,))
    for (name,) in cursor.fetchall():
        match = re.fullmatch(r"release_(\d+)", name)
        if match and int(match[1]) not in keep:
            cursor.execute(f"DROP TABLE {schema}.{name}")


def _export(workspace: Workspace, url: str, said: Said) -> Done:
    about = push(workspace, url, said)
    return checked_there(f"{about['schema']}.items", about)


STORE = Store(
    address="postgresql://user@host/database",
    schemes=("postgresql://", "postgres://"),
    extra="postgres",
    help="PostgreSQL with pgvector gets one table for each release, and a view of the release that serves.",
    export=_export,
)
