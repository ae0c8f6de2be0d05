"""``fct serve``: search over HTTP in what the ledger says serves, through promotions and rollbacks without a gap.

``POST /search`` with an image file or JSON, ``GET /release``, ``/healthz``, ``/readyz``, ``/metrics`` (Prometheus), ``/docs`` (OpenAPI),
and a page for people at ``/``. A query takes one value, what serves now (:mod:`registry.live`), and answers from that alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline

from fct.errors import BadInput, FctError
from flows.answers import BODY, MOST_BYTES, MOST_JSON, MOST_RESULTS, answer, media_type, query_of, said, thumbnail
from flows.http import TOKEN_DIGITS, Door, Places, Refused, answer_refusals, body_of, is_loopback, problem
from registry import live, running
from registry.live import Live, Now
from registry.revisions.serving import FILTERS
from registry.workspace import Workspace

MOST_WAITING = 256  # queries that arrive or wait for a thread; more are sent away at once
EVERY_S = 0.25  # between two looks at the ledger
SWITCH_S = 0.0001  # Python's own turns between threads
SAMPLE = 24
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
PAGE = Path(__file__).with_name("serve.html")
POLICY = "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'"

K = Annotated[int, Query(description=f"How many answers, 1 to {MOST_RESULTS}.")]
One = Annotated[list[str] | None, Query(description="Only answers with this value; given several times, with one of them.")]
Of = Annotated[
    str, Query(description="`serving`, or `candidate` for the version that waits to be promoted.", pattern="^(serving|candidate)$")
]


class Asked:
    """What the requests of one application share: threads, places for those who wait, figures, and what serves."""

    def __init__(self, state: Live, threads: int) -> None:
        self.state, self.figures, self.places = state, Figures(state), Places(MOST_WAITING)
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="search")

    async def in_pool(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def taken(self) -> Now:
        if self.state.now is None:
            raise Refused(503, "not ready", self.state.problem)
        return self.state.now


def build(state: Live, *, threads: int = 1, hosts: Iterable[str] = (), token: str = "") -> FastAPI:
    """The HTTP application. It only reads ``state``; who starts it lets ``state`` follow the ledger.

    Args:
        hosts, token: as for :class:`flows.http.Door`.
    """
    asked = Asked(state, threads)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        asked.pool.shutdown(wait=True)

    app = FastAPIOffline(title="fct serve", description=(__doc__ or "").split("\n\n")[1], lifespan=lifespan, redoc_url=None)
    answer_refusals(app)
    app.add_middleware(Door, hosts=tuple(hosts), token=token)
    _errors(app)
    _about(app, asked)
    _search(app, asked)
    _items(app, asked)
    return app


def _errors(app: FastAPI) -> None:
    """Errors as RFC 9457 has them."""

    @app.exception_handler(FctError)
    async def sentence(_: Request, error: FctError) -> JSONResponse:
        status, title = (422, "bad input") if isinstance(error, BadInput) else (503, "failed")
        return problem(status, title, str(error), code=error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return problem(422, "bad input", f"{first['loc'][-1]}: {first['msg'][0].lower()}{first['msg'][1:]}", code="bad-input")


def _about(app: FastAPI, asked: Asked) -> None:
    """The page for people, and what is said of the server and of what serves."""
    state = asked.state

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": POLICY})

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """The process is alive; nothing more is said."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        """200 while something serves, also while another revision is being opened or cannot be (`behind`, `problem`); 503 before."""
        return JSONResponse(live.describe(state), 200 if state.now is not None else 503)

    @app.get("/release")
    async def release() -> JSONResponse:
        """What serves: release, revision, ledger entry, embedder, rows, and the candidate."""
        asked.taken()
        return JSONResponse(live.describe(state))

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(asked.figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _search(app: FastAPI, asked: Asked) -> None:
    """Queries."""

    @app.post("/search", openapi_extra=BODY)
    async def search(
        request: Request,
        k: K = 10,
        of: Of = "serving",
        label: One = None,
        source: One = None,
        origin: One = None,
        native_version: One = None,
    ) -> JSONResponse:
        """The k nearest items of an image (body: the image file), of a vector, or of an item (body: JSON)."""
        begun = time.perf_counter()
        outcome = "failed"
        try:
            where = {name: wanted for name, wanted in zip(FILTERS, (label, source, origin, native_version), strict=True) if wanted}
            if not 1 <= k <= MOST_RESULTS:
                raise BadInput("k does not fit", wanted=f"1 to {MOST_RESULTS}", got=k)
            with asked.places.take() as place:
                kind = media_type(request)
                body = await body_of(request, MOST_JSON if kind == "application/json" else MOST_BYTES, "a query", place)
                query = query_of(kind, body)
                now = asked.taken()  # once: everything below is of one release
                candidate = now.candidate if of == "candidate" else None
                if of == "candidate" and candidate is None:
                    raise BadInput("there is no candidate to ask", got=asked.state.lacking)
                hits = await asked.in_pool(lambda: answer(now, query, k, where, candidate))
            outcome = "ok"
        except (FctError, Refused):
            outcome = "refused"
            raise
        finally:
            asked.figures.count(outcome, time.perf_counter() - begun)
        return JSONResponse(said(now, hits, candidate, time.perf_counter() - begun))


def _items(app: FastAPI, asked: Asked) -> None:
    """Items of the gallery, to look at."""

    @app.get("/sample")
    async def sample(n: int = SAMPLE, seed: int = 0) -> list[dict[str, str]]:
        """Some items of the gallery, to begin with."""
        now = asked.taken().serving
        rows = np.random.default_rng(abs(seed)).permutation(np.flatnonzero(now.shown))[: max(0, min(n, 200))]
        return [{"id": str(now.columns["id"][row]), "label": str(now.columns["label"][row])} for row in rows]

    @app.get("/image")
    async def image(id: str) -> Response:
        """A small picture of an item, where its image can be read."""
        now = asked.taken().serving
        with asked.places.take():
            picture = await asked.in_pool(lambda: thumbnail(now, id))
        return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


class Figures:
    """What Prometheus reads; gauges are taken from ``state`` when it asks."""

    def __init__(self, state: Live):
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry, self._state = CollectorRegistry(), state
        given: dict[str, Any] = {"registry": self._registry}
        self._queries = Counter("fct_queries", "Queries by outcome.", ["outcome"], **given)
        self._seconds = Histogram("fct_query_seconds", "Seconds of answered queries.", buckets=BUCKETS, **given)
        self._gauges = {
            name: Gauge(f"fct_{name}", text, **given)
            for name, text in {
                "ready": "1 while something serves.",
                "release": "Release that serves.",
                "revision": "Its revision.",
                "ledger_entry": "Ledger entry that is served.",
                "behind": "1 while the ledger names another revision than is served.",
                "rows": "Items that can be answers.",
                "candidate": "Version that waits and can be compared, 0 where there is none.",
                "switches": "Revisions opened since the start.",
            }.items()
        }

    def count(self, outcome: str, seconds: float) -> None:
        self._queries.labels(outcome).inc()
        if outcome == "ok":
            self._seconds.observe(seconds)

    def text(self) -> bytes:
        from prometheus_client import generate_latest

        found = live.describe(self._state)
        values = {name: found.get(name) or 0 for name in ("ready", "release", "revision", "behind", "rows")}
        values |= {"ledger_entry": found.get("entry") or 0, "switches": self._state.switches}
        values |= {"candidate": (found.get("candidate") or {}).get("release", 0)}
        for name, value in values.items():
            self._gauges[name].set(float(value))
        return bytes(generate_latest(self._registry))


def run(workspace: Workspace, *, host: str, port: int, candidate: bool, say: Callable[[str], None]) -> None:
    """Serve until ended. What serves is opened before the port is; from then on the ledger is followed.

    Raises:
        BadInput: others could reach ``host``, and no token is set. OperationFailed: the port is taken.
    """
    import socket

    import uvicorn

    from fct.device import use_threads
    from fct.errors import OperationFailed
    from fct.gallery import index

    token = os.environ.get(running.TOKEN, "")
    if token and (len(token) < TOKEN_DIGITS or not token.isascii() or not token.isprintable() or " " in token):
        raise BadInput(
            f"{running.TOKEN} holds no usable token", wanted=f"at least {TOKEN_DIGITS} printable characters without spaces", got=len(token)
        )
    if not token and not is_loopback(host):
        raise BadInput(
            f"everybody who can reach {host} could search the gallery",
            wanted=f"a token in the environment variable {running.TOKEN}",
            todo=f"`export {running.TOKEN}=$(openssl rand -hex 24)`, and let clients send it as `Authorization: Bearer …`",
        )
    sys.setswitchinterval(SWITCH_S)  # opening the next revision is Python work: queries must not wait 5 ms for each turn
    use_threads(1)  # of one query; several queries are worked on side by side
    index.use_threads(1)
    state = Live(workspace, candidate=candidate)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise OperationFailed(f"nothing can listen on {host}:{port}", got=error.strerror, todo="choose another with --port") from error
        state.look()
        state.compare()
        say(switched(state) if state.now else f"not ready: {state.problem}")
        stop = threading.Event()
        follower = threading.Thread(
            target=state.follow, args=(stop, EVERY_S, lambda: say(switched(state))), name="follow the ledger", daemon=True
        )
        follower.start()
        hosts = (host, *workspace.settings.serve.hosts)
        app = build(state, threads=max(1, os.cpu_count() or 1), hosts=hosts, token=token)
        listening.listen(2048)
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=60))
        asked = "::1" if host == "::" else "127.0.0.1" if host in ("0.0.0.0", "") else host
        try:
            with running.serving(workspace.folder, f"http://{f'[{asked}]' if ':' in asked else asked}:{port}"):
                say(f"http://{host}:{port} (page), /docs (API); Ctrl-C ends it")  # last: who reads it may ask at once, and by any command
                server.run(sockets=[listening])
        finally:
            stop.set()


def switched(state: Live) -> str:
    found = live.describe(state)
    return f"{found['model']} {found['release']}.{found['revision']} serves, {found['rows']} items (ledger entry {found['entry']})"
