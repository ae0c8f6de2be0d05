"""What our HTTP services share: refusals with a problem body (RFC 9457), and bodies of bounded size."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


class Refused(Exception):
    """A request that is not taken: HTTP status, title and detail of its problem body (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str):
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """The answer to a request that is not taken."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def answer_refusals(app: FastAPI) -> None:
    """Let ``app`` answer a :class:`Refused` with its problem body."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.title, error.detail)


async def body_of(request: Request, most: int, what: str) -> bytes:
    """The body, never more than ``most`` bytes of it in memory; Refused (413) beyond."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most:
        raise Refused(413, "size", f"{what} has at most {most} bytes")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Refused(413, "size", f"{what} has at most {most} bytes")
    return bytes(body)
