"""Names are used once. What an entry of the ledger said goes, a gc's or a purge's, is never made or referred to again.

Whoever removes it may have slept since, on a suspended machine or behind a disk that hung: what it finds under that name when it wakes is
still what the entry named.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from fct.errors import NotPermitted
from registry.entry import Entry
from registry.revisions.revision import Revision
from registry.workspace import Workspace


def gone(entries: Iterable[Entry]) -> frozenset[str]:
    """Spaces, and paths relative to the workspace, that entries have named."""
    found: set[str] = set()
    for entry in entries:
        folders = entry.detail.get("folders")
        if isinstance(folders, list):  # earlier code counted them, and made spaces again under their names
            found.update(folders, entry.detail.get("spaces", []))
    return frozenset(found)


def unused(name: str, past: frozenset[str]) -> str:
    """The name, or where it is used up the first of ``name-2``, ``name-3``, … that is not."""
    return next(one for one in (name if number == 1 else f"{name}-{number}" for number in count(1)) if one not in past)


def step(workspace: Workspace, version: int, name: str, past: frozenset[str] | None = None) -> Path:
    """The folder of a step of an upgrade: pairs, measurements, the rehearsal.

    Args:
        past: of :func:`gone`, where it is known.
    """
    past = gone(workspace.ledger.entries()) if past is None else past
    relative = (workspace.upgrade_folder(version) / name).relative_to(workspace.folder).as_posix()
    return workspace.folder / unused(relative, past)


def steps(workspace: Workspace, version: int, pattern: str, past: frozenset[str] | None = None) -> list[Path]:
    """What is there of an upgrade's steps by a pattern, sorted; without what goes. ``past`` as for :func:`step`."""
    past = gone(workspace.ledger.entries()) if past is None else past
    found = sorted(workspace.upgrade_folder(version).glob(pattern))
    return [path for path in found if path.relative_to(workspace.folder).as_posix() not in past]


def still_there(revision: Revision, entries: Iterable[Entry]) -> None:
    """Refuse a revision with a space or an index that goes: it was pinned before the entry that names them.

    Raises:
        NotPermitted: which, and what to do.
    """
    for name in {revision.space, revision.index.folder} & gone(entries):
        number = revision.release
        raise NotPermitted(f"{name} of version {number} was dropped meanwhile", todo=f"measure again with `fct upgrade {number}`")
