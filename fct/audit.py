"""Counting, not asserting: which files below a folder a process opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_watched: list[tuple[tuple[str, ...], list[str]]] = []
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not _watched or not isinstance(arguments[0], (str, bytes, os.PathLike)):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    for folders, opened in _watched:
        if path.startswith(folders):
            opened.append(path)


@contextmanager
def opened_below(folders: Iterable[str | Path]) -> Iterator[list[str]]:
    """Within the block, collect the path of every file that Python code of this process tries to open below the folders, once a time.

    Blocks may stand within each other, or in several threads, and watch the same folders.

    Uses an audit hook (PEP 578), which no Python code of the process can bypass or remove.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    found: list[str] = []
    watching = (tuple(os.path.abspath(folder) + os.sep for folder in folders), found)
    _watched.append(watching)
    try:
        yield found
    finally:
        _watched[:] = [one for one in _watched if one[1] is not found]
