"""What MLflow said when it was asked last, kept in the workspace, so that ``fct status`` need not ask it again.

The copy holds what people and scripts can write there: versions with their tags, and the alias. It is removed before we write to MLflow,
and made anew after. Where MLflow keeps its store in a file of this machine the copy also says how that file looked, and counts only while
it looks the same; of a server nobody can tell but by asking, so there the copy says how old it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fct.arrays import digests
from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, FctError
from registry.mlflow.releases import Releases
from registry.mlflow.store import Version

HEADER_BYTES = 100  # of an SQLite file; they hold a counter that every change raises
MOMENT = "microseconds"


@dataclass(frozen=True)
class Seen:
    """What MLflow said ``at`` (UTC); ``stamp`` of its store's file then, None where it is a server's; ``head``: its tag ``fct.head``."""

    at: datetime
    stamp: str | None
    versions: list[Version]
    champion: int | None
    head: str


def ask(releases: Releases) -> Seen:
    """Ask MLflow, and keep what it says; on a full or read-only disk nobody needs the copy to go on."""
    at, stamp = datetime.now(UTC), _stamp(releases)  # first: what changes while we ask is asked for again
    seen = Seen(at, stamp, releases.versions(), releases.champion(), releases.head_tag())
    said = {"at": at.isoformat(timespec=MOMENT), "stamp": stamp, "champion": seen.champion, "head": seen.head}
    said |= {"store": digests.of_json(releases.uri)}
    if (
        releases.copy.parent.parent.is_dir() and not releases.nothing_there
    ):  # a store that is gone says nothing; where no workspace was begun, looking at it begins none
        with suppress(FctError):
            write_json(releases.copy, said | {"versions": [asdict(version) for version in seen.versions]})
    return seen


def last(releases: Releases, *, changed: bool = False) -> Seen | None:
    """The copy; None where there is none, it is damaged or of another store, or the store's file has changed since (with ``changed``: also then)."""
    try:
        found: dict[str, Any] = read_json(releases.copy)
        if found["store"] != digests.of_json(releases.uri) or (found["stamp"] != _stamp(releases) and not changed):
            return None
        versions = [Version(**version) for version in found["versions"]]
        return Seen(datetime.fromisoformat(found["at"]), found["stamp"], versions, found["champion"], str(found["head"]))
    except (BadInput, KeyError, TypeError, ValueError):
        return None


def _stamp(releases: Releases) -> str | None:
    """How the store's file looks: its header, size and time of change, and those of what SQLite keeps beside it."""
    file = releases.file
    if file is None:
        return None
    looks: list[Any] = []
    for path in (file, *(Path(f"{file}{ending}") for ending in ("-wal", "-journal"))):
        try:
            with open(path, "rb") as opened:
                looks.append([opened.read(HEADER_BYTES).hex(), path.stat().st_size, path.stat().st_mtime_ns])
        except FileNotFoundError:
            looks.append(None)
    return digests.of_json(looks)
