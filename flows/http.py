"""What our HTTP services share: who may ask, refusals with a problem body (RFC 9457), and bodies of bounded size."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBES = ("/healthz", "/readyz")  # answered without a token
BODY_S = 60.0  # for a body to arrive; meanwhile it takes a place
TOKEN_DIGITS = 16  # of a token, at least


class Refused(Exception):
    """A request that is not taken: HTTP status, title and detail of its problem body (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str):
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


def problem(status: int, title: str, detail: str, **more: str) -> JSONResponse:
    """The answer to a request that is not taken; ``more`` are further members of its body."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail} | more
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def answer_refusals(app: FastAPI) -> None:
    """Let ``app`` answer a :class:`Refused` with its problem body."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.title, error.detail)


class Place:
    """A request's own among :class:`Places`."""

    def __init__(self, places: Places):
        self._places, self.held = places, True

    @contextmanager
    def arriving(self, limit: asyncio.Timeout) -> Iterator[None]:
        """While a body arrives; ``limit`` ends that where another request takes the place over."""
        self._places.arriving[self] = limit
        try:
            yield
        finally:
            self._places.arriving.pop(self, None)


class Places:
    """Room for ``most`` requests of one event loop, taken before a body is there. Where none is left, the body that has been arriving for the
    longest time loses its place: who opens connections and sends nothing shuts nobody out.
    """

    def __init__(self, most: int):
        self._most, self._left = most, most
        self.arriving: dict[Place, asyncio.Timeout] = {}

    @contextmanager
    def take(self) -> Iterator[Place]:
        """A place; Refused (503) where others are at work in all of them."""
        if self._left:
            self._left -= 1
        elif self.arriving:
            oldest, limit = next(iter(self.arriving.items()))
            del self.arriving[oldest]
            oldest.held = False
            with suppress(RuntimeError):  # it ends already
                limit.reschedule(asyncio.get_running_loop().time())
        else:
            raise Refused(503, "overloaded", f"more than {self._most} queries wait; try again")
        place = Place(self)
        try:
            yield place
        finally:
            self._left += place.held


async def body_of(request: Request, most: int, what: str, place: Place | None = None) -> bytes:
    """The body, never more than ``most`` bytes of it in memory.

    Refused beyond (413), after :data:`BODY_S` seconds, and where its ``place`` is taken over (408).
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most:
        raise Refused(413, "size", f"{what} has at most {most} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S) as limit:
            with place.arriving(limit) if place is not None else nullcontext():
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise Refused(413, "size", f"{what} has at most {most} bytes")
    except TimeoutError as error:
        late = "in time: others wait" if place is not None and not place.held else f"within {BODY_S:g} s"
        raise Refused(408, "time", f"{what} is sent {late}") from error
    return bytes(body)


class Door:
    """Lets in who may ask; everybody else gets a problem body.

    A page of another site can have its own name lead to this machine and so read what is answered here (DNS rebinding); its browser then
    sends that name. So a request must call us by a bare address, ``localhost``, this machine's name, or one of ``hosts``. With a ``token``
    it must send that, too, as a bearer's or as the password of basic authentication, which browsers ask people for.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str = ""):
        self._app, self._token = app, token.encode()
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            refusal = self._refusal(scope)
            if refusal is not None:
                return await refusal(scope, receive, send)

        async def closed(message: Message) -> None:
            if message["type"] == "http.response.start":  # another site's <img> would show whether an item is there
                message = {**message, "headers": [*message.get("headers", ()), (b"cross-origin-resource-policy", b"same-origin")]}
            await send(message)

        return await self._app(scope, receive, closed)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or not self._is_ours(given[0]):
            return problem(
                421, "host", "this server is not known by that name: ask by its address, or add the name to serve.hosts in params.yaml"
            )
        if self._token and scope["path"] not in PROBES:
            said = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(_password(said), self._token):
                refusal = problem(401, "token", "send the server's token as `Authorization: Bearer TOKEN`")
                refusal.headers["WWW-Authenticate"] = 'Basic realm="fct serve", charset="UTF-8"'
                return refusal
        return None

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name = (name if port.isdigit() else host).lower().rstrip(".")
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
        return name in self._hosts


def _password(header: bytes) -> bytes:
    """What a bearer sends, or the password of basic authentication; empty where there is none."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        with suppress(ValueError):
            return base64.b64decode(value, validate=True).partition(b":")[2]
    return b""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
