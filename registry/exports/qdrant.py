"""The release that serves, in Qdrant: a collection a release, and an alias on the one that serves.

Points have as payload id, label, source, image_uri, origin, native_version; their own ids are UUIDs made of the item's. The alias
``fct_<model>`` moves in one request, after points were counted and queries answered there. Changes within one release (ingest, deletion,
backfill) are written into its collection as it serves: Qdrant has no transaction for them. The collection of the release before stays.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fct.errors import BadInput, FctError, NotPermitted, OperationFailed
from registry.exports.base import (
    COLUMNS,
    DEPTH,
    Done,
    Rows,
    Said,
    Store,
    checked_there,
    compare,
    deleted_since,
    digests_of,
    name_of,
    rows_of,
    searched,
    still_there,
)

if TYPE_CHECKING:
    import numpy as np

    from registry.workspace import Workspace

BATCH = 1000
SPACE = uuid.UUID("2f1c6a0e-7a5b-5d52-9c1e-6b2f2f0a5f3d")  # of the points' ids: any fixed one


def push(workspace: Workspace, url: str) -> dict[str, Any]:
    """Bring the release that serves to Qdrant, or what changed since the last time; check it there; let the alias name it.

    Args:
        url: ``qdrant+http://host:6333``, or ``qdrant+file:FOLDER`` for Qdrant's local mode. A key comes from QDRANT_API_KEY.

    Returns:
        alias, collection, release, revision, entry, rows, written, deleted, checked (queries answered alike).

    Raises:
        BadInput: nothing serves, the client is not installed. OperationFailed: the server does not answer.
        NotPermitted: what stands there afterwards does not answer as the gallery does; the alias did not move.
        OperationFailed: items were deleted meanwhile; they are in no collection, and the alias did not move.
    """
    import numpy as np

    found = rows_of(workspace)
    alias, vectors = name_of(workspace.settings.model), searched(found)
    collection = f"{alias}_release_{found.release}"
    with _connected(url) as client:
        from qdrant_client import models

        if not client.collection_exists(collection):
            distance = models.Distance.DOT if found.metric == "cosine" else models.Distance.EUCLID
            client.create_collection(collection, vectors_config=models.VectorParams(size=vectors.shape[1], distance=distance))
        there, wanted = _there(client, collection), digests_of(found, vectors)
        changed = np.flatnonzero([there.get(one) != digest for one, digest in zip(found.ids.tolist(), wanted, strict=True)])
        gone = sorted(set(there) - set(found.ids.tolist()))
        still_there(workspace, found)  # the collection may be the one that answers
        try:
            for start in range(0, len(changed), BATCH):
                rows = changed[start : start + BATCH].tolist()
                points = [
                    models.PointStruct(id=_point(found.ids[row]), vector=vectors[row].tolist(), payload=_payload(found, wanted, row))
                    for row in rows
                ]
                client.upsert(collection, points, wait=True)
            _forget(client, collection, gone)
            checked = _check(client, collection, found, vectors)
            still_there(workspace, found)
            before = {one.alias_name: one.collection_name for one in client.get_aliases().aliases}.get(alias)
            if before != collection:
                moves: list[Any] = (
                    [] if before is None else [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))]
                )
                moves.append(models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)))
                client.update_collection_aliases(moves)
                _drop_older(client, alias, {collection, before})
        finally:  # what was deleted meanwhile goes, also where we have just written it
            _forget(client, collection, np.intersect1d(found.ids[changed], deleted_since(workspace, found)).tolist())
            _forget_deleted(client, alias, set(workspace.gallery.item_ids().tolist()))
    about = {"release": found.release, "revision": found.revision, "entry": found.entry, "rows": len(found.ids)}
    return {"alias": alias, "collection": collection, "written": len(changed), "deleted": len(gone), "checked": checked} | about


def _point(one: str) -> str:
    return str(uuid.uuid5(SPACE, str(one)))


def _payload(found: Rows, digests: list[str], row: int) -> dict[str, Any]:
    about = {name: found.columns[name][row].item() for name in COLUMNS}
    return {"id": str(found.ids[row]), "digest": digests[row]} | about


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    import os

    try:
        from qdrant_client import QdrantClient
    except ModuleNotFoundError as error:
        raise BadInput("the client for Qdrant is not installed", todo="pip install qdrant-client (the extra `qdrant`)") from error
    client = None
    try:
        if url.startswith("qdrant+file:"):
            client = QdrantClient(path=url.removeprefix("qdrant+file:"))
        else:
            client = QdrantClient(url=url.removeprefix("qdrant+"), api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
            client.get_collections()
        yield client
    except FctError:
        raise
    except Exception as error:  # its transports raise errors of their own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OperationFailed(
            "Qdrant could not be written", got=said, where=url, todo="the alias did not move; run the command again"
        ) from error
    finally:
        if client is not None:
            client.close()


def _there(client: Any, collection: str) -> dict[str, str]:
    found: dict[str, str] = {}
    offset: Any = None
    while True:
        points, offset = client.scroll(collection, limit=BATCH, offset=offset, with_payload=["id", "digest"], with_vectors=False)
        found |= {str(one.payload["id"]): str(one.payload["digest"]) for one in points}
        if offset is None:
            return found


def _check(client: Any, collection: str, found: Rows, vectors: np.ndarray) -> int:
    from qdrant_client import models

    count = client.count(collection, exact=True).count
    if count != len(found.ids):
        raise NotPermitted("Qdrant holds another number of points", wanted=len(found.ids), got=count, todo="the alias did not move")
    exact = models.SearchParams(exact=True)

    def ask(query: np.ndarray) -> list[str]:
        answer = client.query_points(collection, query=query.tolist(), limit=DEPTH, search_params=exact, with_payload=["id"])
        return [str(one.payload["id"]) for one in answer.points]

    return compare(found, vectors, ask, "Qdrant")


def _forget(client: Any, collection: str, ids: list[str]) -> None:
    from qdrant_client import models

    if ids:
        client.delete(collection, models.PointIdsList(points=[_point(one) for one in ids]), wait=True)


def _forget_deleted(client: Any, alias: str, living: set[str]) -> None:
    """Deleted items leave the collections of other releases too: a rollback only moves the alias."""
    for one in client.get_collections().collections:
        if re.fullmatch(re.escape(alias) + r"_release_\d+", one.name):
            _forget(client, one.name, [name for name in _there(client, one.name) if name not in living])


def _drop_older(client: Any, alias: str, keep: set[str | None]) -> None:
    """Collections of releases other than the one that serves and the one before it."""
    for one in client.get_collections().collections:
        if re.fullmatch(re.escape(alias) + r"_release_\d+", one.name) and one.name not in keep:
            client.delete_collection(one.name)


def _export(workspace: Workspace, url: str, said: Said) -> Done:
    about = push(workspace, url)
    return checked_there(about["alias"], about)


STORE = Store(
    address="qdrant+http://host:6333",
    schemes=("qdrant+http://", "qdrant+https://", "qdrant+file:"),
    extra="qdrant",
    help="Qdrant gets one collection for each release, and an alias on the release that serves; qdrant+file:FOLDER is its local mode.",
    export=_export,
)
