"""Which formats are written and read: a number in each kind of file (docs/formats.md).

What older code wrote is read for ever; a file that lacks its number is of format 1. Release and h keep their numbers where they are
written (:mod:`fct.release`, :mod:`fct.forward.storage`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fct.errors import Altered, BadInput

ENTRY = 3  # of the ledger
COVERING = 3  # format of an entry *approve* from which on it names the digest of candidate.json
REVISION = 2
VERDICT = 2


def readable(kind: str, value: Mapping[str, Any], newest: int, where: str | Path | None = None) -> int:
    """The format of a file of ours, 1 where it has no number.

    Raises:
        BadInput: a later version of this package wrote it, or the number is none.
    """
    found = value.get("format", 1)
    if type(found) is not int or not 1 <= found <= newest:
        raise BadInput(
            f"this {kind} was written by a later version of this package, or by something else",
            wanted=f"format 1 to {newest}",
            got=repr(found)[:40],
            where=where,
            todo="use the version that wrote it, or a later one",
            code="newer-format",
        )
    return found


@contextmanager
def unreadable_is_altered(what: str) -> Iterator[None]:
    """What could be read when it was approved and cannot be read now was altered, and is no bad input of the user's.

    For what reads such files, and nothing else: any other error is a fault of ours, and stays one.
    """
    try:
        yield
    except BadInput as error:
        if error.code == "newer-format":
            raise
        raise Altered(f"{what} was altered or deleted since it was measured: {error}") from error
