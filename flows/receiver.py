"""The webhook receiver: what MLflow's server tells becomes a Prefect event, and nothing more.

A delivery is believed when its signature, its age and its size are right. It is never obeyed: its content only decides whether to look
at the registry, which the flow *reconcile* then reads again. So deliveries that come twice, late, out of order or not at all do no harm.
Signatures follow Standard Webhooks (standardwebhooks.com) with MLflow's own header names.

    python -m flows.receiver --params params.yaml
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from flows.http import Door, Refused, answer_refusals, body_of
from registry.mlflow.store import OURS, plain_name

ID, TIMESTAMP, SIGNATURE = "x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"
WINDOW_S = 300
MOST_BYTES = 256 * 1024
EVENT = "fct.registry.changed"
Emit = Callable[[dict[str, Any]], Awaitable[None]]


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The id of a delivery that was signed with ``secret`` at most :data:`WINDOW_S` seconds from ``now``.

    The signature is ``v1,`` and the base64 of HMAC-SHA256(secret, "id.timestamp.body"); several may stand there, with spaces.

    Raises:
        Refused: 400 where a header lacks or makes no sense, 401 where signature or age are wrong.
    """
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not headers.get(name)]
    if missing:
        raise Refused(400, "not a webhook", f"these headers are missing: {', '.join(missing)}")
    delivery, stamp = headers[ID], headers[TIMESTAMP]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Refused(400, "not a webhook", f"{TIMESTAMP} is not a number of seconds")
    if len(delivery) > 200 or not delivery.isprintable():
        raise Refused(400, "not a webhook", f"{ID} is too long or not printable")
    signed = b".".join([delivery.encode("utf-8", "surrogateescape"), stamp.encode(), body])
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    given = [part.removeprefix("v1,") for part in headers[SIGNATURE].split(" ") if part.startswith("v1,")]
    if not any(hmac.compare_digest(expected, one.encode("utf-8", "surrogateescape")) for one in given):
        raise Refused(401, "signature", "the signature does not fit: another secret, or a body that was changed on the way")
    if abs(now - int(stamp)) > WINDOW_S:
        raise Refused(401, "age", f"the delivery is more than {WINDOW_S} seconds from this machine's time")
    return delivery


def concerns(body: bytes, model: str) -> bool:
    """Whether a delivery tells of something that can need work: of our model, and not a mark that we set ourselves.

    Raises:
        Refused: 400, no JSON of the form that MLflow sends.
    """
    try:
        said = json.loads(body)
        entity, data = said["entity"], said["data"]
        name, key = data["name"], data.get("key")
        if not (isinstance(entity, str) and isinstance(name, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(400, "body", "the body is not what MLflow sends") from error
    return name == model and not (entity == "model_version_tag" and key in OURS)


def event_of(delivery: str, model: str) -> dict[str, Any]:
    """The Prefect event of a delivery; the same delivery has the same event id."""
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"fct:{delivery}")),
        "event": EVENT,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": resource_of(model), "prefect.resource.name": model},
        "payload": {"delivery": delivery},
    }


def resource_of(model: str) -> str:
    """Prefect's id for the registered model."""
    return f"fct.model.{plain_name(model)}"


def to_prefect(api: str, password: str | None = None) -> Emit:
    """Hand events to the Prefect server at ``api``; it has them when the call returns. MLflow waits 30 s for our answer.

    Args:
        password: of that server, as ``user:password``.
    """
    import httpx

    headers = {} if password is None else {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}

    async def emit(event: dict[str, Any]) -> None:
        async with httpx.AsyncClient(timeout=25) as client:
            (await client.post(f"{api.rstrip('/')}/events", json=[event], headers=headers)).raise_for_status()

    return emit


def build(secret: str, model: str, emit: Emit, clock: Callable[[], float] = time.time, hosts: Iterable[str] = ()) -> FastAPI:
    """The HTTP application: ``POST /webhook`` and ``GET /healthz``. ``hosts`` as for :class:`flows.http.Door`."""
    app = FastAPI(title="fct webhook receiver", docs_url=None, redoc_url=None, openapi_url=None)
    seen: OrderedDict[str, float] = OrderedDict()  # ids of the last window; what is older is refused by its age

    answer_refusals(app)
    app.add_middleware(Door, hosts=tuple(hosts))  # no token: a signature is worth more

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": model}

    @app.post("/webhook")
    async def webhook(request: Request) -> JSONResponse:
        body = await body_of(request, MOST_BYTES, "a delivery")
        now = clock()
        delivery = verify(secret, request.headers, body, now)
        while seen and next(iter(seen.values())) < now - 2 * WINDOW_S:
            seen.popitem(last=False)
        if delivery in seen:
            return JSONResponse({"status": "seen before"})
        if not concerns(body, model):
            return JSONResponse({"status": "nothing to do"})
        try:
            await emit(event_of(delivery, model))
        except Exception as error:  # whatever is wrong with Prefect: MLflow tries again, and reconcile finds what is lost
            raise Refused(503, "Prefect", "the event cannot be handed to Prefect now; try again") from error
        seen[delivery] = now
        return JSONResponse({"status": "looking at the registry"}, 202)

    return app


def main() -> None:
    """Serve until ended, on loopback unless told otherwise."""
    import argparse
    import os

    import uvicorn

    from flows import passwords
    from registry.workspace import open_workspace

    parser = argparse.ArgumentParser(prog="python -m flows.receiver", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--url", default="", help="where MLflow reaches this receiver; given, the webhook is registered there at the start")
    options = parser.parse_args()
    workspace = open_workspace(options.params)
    settings = workspace.settings
    if options.url:
        workspace.releases.webhook(options.url, passwords.secret(workspace))
    api = os.environ.get("PREFECT_API_URL")
    if api is None:
        parser.error("PREFECT_API_URL is not set: where does the Prefect server answer?")
    hosts = (*settings.serve.hosts, *([urlsplit(options.url).hostname or ""] if options.url else []))
    app = build(passwords.secret(workspace), settings.model, to_prefect(api, os.environ.get(passwords.PREFECT_PASSWORD)), hosts=hosts)
    uvicorn.run(app, host=options.host, port=settings.services.receiver_port, log_level="info", access_log=True)


if __name__ == "__main__":
    main()
