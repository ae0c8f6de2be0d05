"""How both sides talk: four bytes of length, a JSON object, then blocks of bytes whose sizes the other side knows or is told."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

MOST_HEADER = 1 << 20
LENGTH = struct.Struct("<I")
PART = 1 << 22


class Nonsense(ValueError):
    """What came is not what the other side sends."""


def send(to: socket.socket, said: dict[str, Any], blocks: list[bytes]) -> None:
    """A header and its blocks; their sizes go along."""
    header = json.dumps(said | {"sizes": [len(block) for block in blocks]}).encode()
    to.sendall(LENGTH.pack(len(header)) + header)
    for block in blocks:
        to.sendall(block)


def receive(of: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes. EOFError where the other side has closed."""
    found = bytearray()
    while len(found) < size:
        part = of.recv(min(PART, size - len(found)))
        if not part:
            raise EOFError("the other side has closed")
        found += part
    return bytes(found)


def receive_header(of: socket.socket) -> dict[str, Any]:
    """The next header. Nonsense where it is none."""
    (length,) = LENGTH.unpack(receive(of, LENGTH.size))
    if length > MOST_HEADER:
        raise Nonsense(f"a header of {length} bytes")
    try:
        said = json.loads(receive(of, length))
    except (ValueError, RecursionError) as error:
        raise Nonsense("no JSON") from error
    if not isinstance(said, dict):
        raise Nonsense("no object")
    return said


def number(said: dict[str, Any], key: str) -> int:
    """A whole number of a header. Nonsense where it is none."""
    found = said.get(key)
    if not isinstance(found, int) or isinstance(found, bool):
        raise Nonsense(f"{key} is no number")
    return found
