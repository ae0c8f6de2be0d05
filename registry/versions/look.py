"""What the latest look at the registry came to, kept in the workspace so that people need not search the logs of a worker."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, FctError
from registry.workspace import Workspace

STUCK = ("failed", "cancelled", "not promoted")  # outcomes that people may have to do something about
WAITS = ("waits", "waits for its promotion")


def remember(workspace: Workspace, results: list[dict[str, Any]], failed: Exception | None) -> None:
    """Write it down; on a full disk nobody needs this to go on."""
    said = [{"version": one["version"], "outcome": one["outcome"], "problems": one["problems"]} for one in results]
    look = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "failed": None if failed is None else str(failed), "results": said}
    with suppress(FctError):
        write_json(workspace.folder / "look.json", look)


def last(workspace: Workspace) -> dict[str, Any] | None:
    """``at`` (datetime, UTC), ``failed`` (a sentence or None), ``results`` (``version``, ``outcome``, ``problems``). None before the first."""
    try:
        found = read_json(workspace.folder / "look.json")
        return {"at": datetime.fromisoformat(found["at"]), "failed": found["failed"], "results": list(found["results"])}
    except (BadInput, KeyError, TypeError, ValueError):
        return None


def in_the_way(look: dict[str, Any], outcomes: tuple[str, ...] = STUCK) -> list[str]:
    """What kept it from its work, for people: one clause for a version with one of the ``outcomes``, or what failed as a whole."""
    stuck = [one for one in look["results"] if one["outcome"] in outcomes]
    said = [f"version {one['version']}: {one['outcome']}: {'; '.join(one['problems'])}" for one in stuck]
    return said if said or look["failed"] is None else [f"it failed: {look['failed']}"]
