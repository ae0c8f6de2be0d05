"""What a query of fct serve asks, and what it is answered."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import Request

from fct.datasets.images import MAX_UPLOADED, read_bytes
from fct.errors import BadInput
from flows.http import Refused
from registry import live
from registry.live import Candidate, Now
from registry.revisions.serving import Hit, Serving

MOST_BYTES = 16 * 1024**2  # of an uploaded image
MOST_JSON = 1024**2  # of a vector or an id: while JSON is read nobody else is answered
MOST_RESULTS = 1000
THUMBNAIL = 192
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "vector": {"type": "array", "items": {"type": "number"}, "description": "of the embedder that serves"},
                        "fingerprint": {"type": "string", "description": "of the embedder that made the vector: checked where given"},
                        "id": {"type": "string", "description": "an item of the gallery, in place of a vector"},
                    },
                }
            },
        },
    }
}


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def query_of(kind: str, body: bytes) -> bytes | dict[str, Any]:
    """What is asked: the bytes of an image file, or ``{"vector": …}`` or ``{"id": …}`` as given.

    Raises:
        BadInput: JSON of another form. Refused: 415, another media type.
    """
    if kind.startswith("image/") or kind == "application/octet-stream":
        return body
    if kind != "application/json":
        raise Refused(415, "media type", "send an image file as image/png (or any image/…), or application/json with a vector or an id")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput("the body is not JSON", got=str(error)[:100]) from error
    if not isinstance(said, dict) or ("vector" in said) == ("id" in said) or set(said) - {"vector", "id", "fingerprint"}:
        raise BadInput("the query is not understood", wanted='{"vector": [...], "fingerprint": "..."} or {"id": "..."}')
    if not isinstance(said.get("fingerprint", ""), str) or not isinstance(said.get("id", ""), str):
        raise BadInput("the query is not understood", wanted="id and fingerprint as text")
    return said


def answer(now: Now, query: bytes | dict[str, Any], k: int, where: dict[str, list[str]], candidate: Candidate | None) -> list[Hit]:
    """The answers to one query, all from ``now``: of what serves, or of the candidate.

    Raises:
        BadInput: no image, a vector that does not fit, no such item.
    """
    release = now.serving.release if candidate is None else candidate.release
    if isinstance(query, bytes):
        return by_image(now, read_bytes(query, release.size, release.mode, MAX_UPLOADED), k, where, candidate)
    target = now.serving if candidate is None else candidate.own
    if target is None and "id" in query:  # through a bridge the candidate looks at the item's image, where it can be read
        return by_image(now, now.serving.image_of(query["id"], release.size, release.mode), k, where, candidate)
    if target is None:
        raise BadInput("a candidate that answers through a bridge takes no vector", todo="send the image")
    if "id" in query:
        return target.search_vectors(target.vector_of(query["id"]), k, where=where)[0]
    try:
        vector = np.asarray(query["vector"], dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput("the vector is not a list of numbers", got=str(error)[:100]) from error
    if vector.ndim != 1:
        raise BadInput("the vector is not a list of numbers", wanted=f"{release.dim} numbers", got=f"shape {vector.shape}")
    return target.search_vectors(vector[None], k, query.get("fingerprint"), where)[0]


def by_image(now: Now, image: np.ndarray, k: int, where: dict[str, list[str]], candidate: Candidate | None) -> list[Hit]:
    if candidate is None:
        return now.serving.search(image[None], k, where)[0]
    return live.ask_candidate(now, candidate, image[None], k, where)[0]


def said(now: Now, hits: list[Hit], candidate: Candidate | None, seconds: float) -> dict[str, Any]:
    """The JSON of an answer; it names the release of its query embedder and of its gallery."""
    revision = now.serving.revision
    serving = {"release": revision.release, "revision": revision.number, "entry": now.entry}
    asked: dict[str, Any] = (
        serving if candidate is None else {"release": candidate.version, "through": candidate.through, "serving": serving}
    )
    return asked | {"ms": round(1000 * seconds, 2), "hits": [{"rank": rank} | asdict(hit) for rank, hit in enumerate(hits, 1)]}


def thumbnail(serving: Serving, one: str) -> bytes:
    """PNG of at most :data:`THUMBNAIL` pixels a side. Drawn anew, so that no file is handed out as it is.

    Raises:
        Refused: 404, no such item or its image cannot be read.
    """
    from PIL import Image

    try:
        pixels = serving.image_of(one, THUMBNAIL, "RGB")
    except BadInput as error:
        raise Refused(404, "no picture", str(error)) from error
    out = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(out, format="PNG")
    return out.getvalue()
