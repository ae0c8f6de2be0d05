"""Which operators a release's program may call: a list that ``python -m benchmarks.operators`` makes, and what params.yaml adds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("operators.txt")

_admitted: frozenset[str] = frozenset()


@cache
def listed() -> frozenset[str]:
    """Names on the list, as archives have them: ``torch.ops.aten.conv2d.default`` …"""
    return frozenset(line for line in FILE.read_text(encoding="ascii").split("\n") if line and not line.startswith("#"))


def admit(names: Iterable[str]) -> None:
    """Let programs of this process call just these besides, as far as :func:`fct.program.graph.objection` has nothing against them."""
    global _admitted
    _admitted = frozenset(names)


def admitted() -> frozenset[str]:
    """What :func:`admit` was told last."""
    return _admitted
