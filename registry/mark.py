"""What was seen of a ledger: the number and the digest of its highest entry, kept where the loss of that entry leaves them.

The newest entries of a ledger have nothing in it that points at them: without them it is a whole ledger of the day before. So each command
notes what it saw beside the gallery's tables, and MLflow's tag ``fct.head`` says it too. A missing, damaged or older note says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, FctError

_TAG = re.compile(r"(\d{1,18}) ([0-9a-f]{64}) ([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, order=True)
class Mark:
    """A ledger entry: its number, and its digest (:attr:`registry.entry.Entry.digest`)."""

    number: int
    digest: str


def read_mark(path: Path) -> Mark | None:
    try:
        found = read_json(path)
        return Mark(int(found["number"]), str(found["digest"]))
    except (BadInput, OSError, KeyError, TypeError, ValueError):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """On a full or read-only disk nobody needs it to go on."""
    with suppress(FctError, OSError):
        write_json(path, asdict(mark))


def to_tag(mark: Mark, secret: str) -> str:
    """The tag's value: number, digest, and a seal.

    Args:
        secret: the first entry's token, which stands in the ledger alone. Its digest would not do: it is what the first tag says.
    """
    said = f"{mark.number} {mark.digest}"
    return f"{said} {hmac.new(secret.encode(), said.encode(), hashlib.sha256).hexdigest()}"


def of_tag(value: str, secret: str) -> Mark | None:
    """What a tag says; None where it says nothing, or somebody without the ledger has written it."""
    match = _TAG.fullmatch(value)
    if match is None or not hmac.compare_digest(value, to_tag(Mark(int(match[1]), match[2]), secret)):
        return None
    return Mark(int(match[1]), match[2])
