"""``fct search``: through a server of this workspace that runs on this machine, else here."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated, Any

import typer

from fct.errors import BadInput, NotPermitted
from flows.cli.common import DEFAULT, Json, Params, give, say, workspace

MOST_SERVED = 1000  # answers that a server gives
PATIENCE_S = 30.0


def search(
    image: Annotated[Path | None, typer.Argument(help="Image file to search for.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Id of a gallery item to search for, instead of an image.")] = None,
    vector: Annotated[Path | None, typer.Option(help="A .npy file with one vector of the serving embedder, instead of an image.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of the embedder that made the vector. If given, it is checked.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", help="Number of answers.")] = 10,
    release: Annotated[
        int | None, typer.Option(help="Answer only from this release. If another release serves, the command refuses.")
    ] = None,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Search the serving gallery for items that are similar to an image, an item or a vector.

    If `fct serve` runs on this machine for this workspace, the command asks that server, which is faster. The answer names the server.

    Example: fct search query.png -k 5; or fct search --id arrows/left.png
    """
    if sum(one is not None for one in (image, id, vector)) != 1:
        raise BadInput("a search takes exactly one query", wanted="an image, --id or --vector", todo="give one of them")
    if fingerprint is not None and vector is None:
        raise BadInput("--fingerprint is only used with --vector", todo="give --vector, or leave out --fingerprint")
    ws = workspace(params)
    query = None if vector is None else _vector(vector)
    found = _served(ws, image, id, query, fingerprint, k, release) or _here(ws, image, id, query, fingerprint, k, release)
    by = f", answered by {found['server']}" if found["server"] else ""
    lines = [f"release {found['release']}.{found['revision']}{by}"]
    lines += [
        f"{rank:>3}  {hit['score']:7.4f}  {hit['label']:<20} {hit['id']:<45} {hit['origin']}" for rank, hit in enumerate(found["hits"], 1)
    ]
    give(found, json, *lines)


def _vector(path: Path) -> Any:
    """(1, E)."""
    from fct.arrays import vectors

    rows = vectors.load(path, "vector")
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != 1 or rows.dtype.kind not in "fiu":
        raise BadInput(
            "the file must hold exactly one vector", wanted="numbers of shape (E,) or (1, E)", got=f"{rows.shape} {rows.dtype}", where=path
        )
    return rows


def _here(ws: Any, image: Path | None, id: str | None, query: Any, fingerprint: str | None, k: int, release: int | None) -> dict[str, Any]:
    from dataclasses import asdict

    from registry.revisions.serving import open_serving

    serving = open_serving(ws, release)
    if image is not None:
        from fct.datasets.images import read_image
        from flows.cli.common import set_threads

        pixels = read_image(image, serving.release.size, serving.release.mode)
        set_threads(ws.settings)
        hits = serving.search(pixels[None], k)[0]
    else:
        asked = serving.vector_of(id) if id is not None else query
        hits = serving.search_vectors(asked, k, fingerprint)[0]
    of = serving.revision
    return {"release": of.release, "revision": of.number, "server": None, "hits": [asdict(hit) for hit in hits]}


def _served(
    ws: Any, image: Path | None, id: str | None, query: Any, fingerprint: str | None, k: int, release: int | None
) -> dict[str, Any] | None:
    """What a server answers; None where none runs here, it is not ready, or it does not take this question."""
    from registry import running

    url = running.server(ws.folder)
    if url is None or not 1 <= k <= MOST_SERVED:
        return None
    from urllib import error, request

    if image is not None:
        try:
            body, kind = image.read_bytes(), "application/octet-stream"
        except OSError:
            return None  # what is wrong with it is said here
    else:
        asked = {"id": id} if id is not None else {"vector": query[0].tolist()}
        body, kind = jsons.dumps(asked | ({"fingerprint": fingerprint} if fingerprint else {})).encode(), "application/json"
    try:
        asking = request.Request(f"{url}/search?k={k}", data=body, headers={"Content-Type": kind} | running.authorization())
        with request.build_opener(request.ProxyHandler({})).open(asking, timeout=PATIENCE_S) as answer:
            said = jsons.load(answer)
    except (error.URLError, OSError, ValueError):
        return None  # the same question, asked here, says what is wrong
    if release is not None and said["release"] != release:
        raise NotPermitted(
            f"release {release} does not serve, release {said['release']} does", todo="queries and gallery must be of the same release"
        )
    head = ws.ledger.head()
    if head is not None and head.serving is not None and (head.release, head.revision) != (said["release"], said["revision"]):
        say(f"note: the ledger says {head.release}.{head.revision}; the server has not followed yet")
    hits = [{key: value for key, value in hit.items() if key != "rank"} for hit in said["hits"]]
    return {"release": said["release"], "revision": said["revision"], "server": url, "hits": hits}
