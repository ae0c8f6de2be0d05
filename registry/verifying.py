"""``fct status --verify``: every file that the ledger, or a candidate that waits, names is read and compared with its digest.

What differs raises the alarm (:mod:`registry.alarm`), and the sentence says what helps. Where everything is equal the alarm is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fct import forward, tables
from fct import index as indexes
from fct.errors import BadInput, NotPermitted, OperationFailed
from fct.files import read_json
from registry import alarm, kept
from registry.facts import void
from registry.ledger import Entry
from registry.revision import Revision, latest
from registry.workspace import Workspace

TRIES = 5
CURE = "restore it from a backup, then `fct status --verify`"


@dataclass
class Found:
    """What was read, and what is damaged.

    Attributes:
        files, bytes: of tables and indexes that were compared.
        releases: whose newest revision was looked at; candidates that wait are among them.
        damaged: one sentence for each file that differs, with what helps.
    """

    files: int = 0
    bytes: int = 0
    releases: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def verify_all(workspace: Workspace) -> Found:
    """Read and compare everything; raise the alarm where something differs, and end it where nothing does.

    It holds no lock: where the ledger moves on meanwhile, what differed may have been removed rightly, and is looked at again.

    Raises:
        NotPermitted: the ledger itself is damaged.
    """
    for _ in range(TRIES):
        before, entries = alarm.raised(workspace), workspace.ledger.entries()
        found = _look(workspace, entries)
        if not found.damaged or workspace.ledger.head() == (entries[-1] if entries else None):
            break
    if found.damaged:
        alarm.sound(workspace, found.damaged)
    elif alarm.raised(workspace) == before:  # else somebody has just found more
        alarm.clear(workspace)
    return found


def _look(workspace: Workspace, entries: list[Entry]) -> Found:
    found, wanted = Found(), dict[str, str]()
    there = set(workspace.gallery.tables())
    whole = _kept(entries)
    there -= {one["space"] for one in latest(entries).values()} - {one["space"] for one in whole}
    revisions = [one for one in whole if one["space"] in there] + [one for one in _waiting(workspace, entries) if one["space"] in there]
    known = alarm.recorded(workspace)
    for name in sorted(there):
        try:
            wanted |= {file: known[name][file] for file in workspace.gallery.files(name) if file in known.get(name, {})}
        except (BadInput, OperationFailed) as error:
            found.damaged.append(f"the table {name} cannot be opened: {error}; {CURE}")
    for revision in revisions:
        found.releases.append(int(revision["release"]))
        for state in revision["tables"].values():
            wanted |= state["files"]
    for name, how in tables.different(workspace.gallery.root, wanted).items():
        found.damaged.append(f"a file of the gallery {how}: {name}; {CURE}")
    found.files = len(wanted)
    found.bytes = sum(path.stat().st_size for path in (workspace.gallery.root / name for name in wanted) if path.is_file())
    serves = int(entries[-1].serving["release"]) if entries and entries[-1].serving else 0
    for revision in revisions:
        found.damaged += _beside_tables(workspace, revision, later=int(revision["release"]) > serves)
    found.releases = sorted(set(found.releases))
    return found


def _beside_tables(workspace: Workspace, revision: Revision, *, later: bool) -> Iterator[str]:
    """What is wrong with a revision's release, h's and index.

    Args:
        later: than what serves. Its upgrade may be run again and fit another h: that is no damage, and a promotion asks for the h's of its
            verdict.
    """
    number, folder = int(revision["release"]), workspace.upgrade_folder(int(revision["release"]))
    try:
        kept.release(workspace, revision)
    except (BadInput, NotPermitted) as error:
        yield f"{error}"
    for m, digest in revision["forward"].items():
        try:
            whole = forward.load(folder / f"h-v{m}").digest == digest or later
        except (BadInput, NotPermitted):
            whole = False
        if not whole:
            yield f"the h from version {m} to {number} is not the one that was recorded: {folder / f'h-v{m}'}; {CURE}"
    place = workspace.folder / revision["index"]["folder"]
    recorded = {key: value for key, value in revision["index"].items() if key != "folder"}
    for name, how in indexes.different(place, recorded).items():
        yield f"a file of the index of release {number} {how}: {place / name}; {CURE}"


def _kept(entries: Iterable[Entry]) -> list[Revision]:
    """The newest revision of each release, but for those that a deletion found damaged and left behind: nobody can return to them."""
    entries, left = list(entries), set[int]()
    for entry in entries:
        for one in (entry.serving, *entry.detail.get("earlier", [])):
            left -= {int(one["release"])} if one is not None else set()
        left |= {int(one) for one in entry.detail.get("damaged", [])}
    return [revision for release, revision in latest(entries).items() if release not in left]


def _waiting(workspace: Workspace, entries: list[Entry]) -> Iterator[Revision]:
    """Revisions of candidates that have never served, but for those from which a purge took what they were measured with."""
    served = latest(entries)
    for path in sorted((workspace.folder / "upgrades").glob(f"{workspace.settings.model}-v*/revision.json")):
        try:
            said: Any = read_json(path)
            if int(said["release"]) not in served and not void(workspace, int(said["release"]), entries):
                yield said
        except (BadInput, KeyError, TypeError, ValueError):
            continue  # its upgrade writes it anew
