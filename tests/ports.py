"""Ports for servers of the tests' own."""

from __future__ import annotations

import itertools
import os
import socket

SPAN = 500
FIRST = 20_000 + SPAN * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# below what systems give to outgoing connections, in a range of this worker's own; another run of the suite begins elsewhere in it
_NEXT = (FIRST + (os.getpid() + one) % SPAN for one in itertools.count())


def free_ports(count: int) -> list[int]:
    """``count`` ports of 127.0.0.1 on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = next(_NEXT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found
