"""``fct status --verify``: every file that the ledger, or a candidate that waits, names is read and compared with its digest.

What differs raises the alarm (:mod:`registry.revisions.alarm`), and the sentence says what helps. Where everything is equal the alarm is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fct import forward
from fct.errors import BadInput, FctError, NotPermitted, OperationFailed
from fct.gallery import index as indexes
from fct.gallery import trust
from fct.gallery.names import FEATURES, ITEMS
from fct.gallery.state import TableState
from fct.release.folder import Release
from registry.entry import Entry
from registry.revisions import alarm, history, kept
from registry.revisions.history import latest, left_behind
from registry.revisions.revision import Revision, readable
from registry.versions.facts import void
from registry.workspace import Workspace

TRIES = 5
CURE = "restore it from a backup, then `fct status --verify`"
REPAIR = "`fct repair` makes it again, or restore it from a backup"


@dataclass(frozen=True)
class Damage:
    """One thing that is not what was recorded.

    Attributes:
        kind: ``table``, ``release``, ``h`` or ``index``. name: of the table, or the number of the release.
        file: relative to the gallery or to the workspace; empty where a table cannot be opened, and of a release.
        sentence: what is wrong, and what helps.
    """

    kind: str
    name: str
    file: str
    sentence: str


@dataclass
class Found:
    """What was read, and what is damaged.

    Attributes:
        files, bytes: of tables and indexes that were compared.
        releases: whose newest revision was looked at; candidates that wait are among them.
        details: what differs. damaged: one sentence for each of them, with what helps.
    """

    files: int = 0
    bytes: int = 0
    releases: list[int] = field(default_factory=list)
    details: list[Damage] = field(default_factory=list)

    @property
    def damaged(self) -> list[str]:
        return [one.sentence for one in self.details]


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
    whole = served(workspace, entries)
    there -= {one.space for one in latest(entries).values()} - {one.space for one in whole}
    revisions = whole + [one for one in waiting(workspace, entries) if one.space in there]
    known = alarm.recorded(workspace)
    for name in sorted(there):
        try:
            wanted |= {file: known[name][file] for file in workspace.gallery.files(name) if file in known.get(name, {})}
        except (BadInput, OperationFailed) as error:
            found.details.append(Damage("table", name, "", f"the table {name} cannot be opened: {error}; {CURE}"))
    for tables_ in (*(one.tables for one in revisions), _first(entries)):
        for state in tables_.values():
            wanted |= state.files
    for name, how in trust.different(workspace.gallery.root, wanted).items():
        table = name.partition(".lance/")[0]
        cure = CURE if irreparable(workspace, table, name) else REPAIR
        found.details.append(Damage("table", table, name, f"a file of the gallery {how}: {name}; {cure}"))
    found.files = len(wanted)
    found.bytes = sum(path.stat().st_size for path in (workspace.gallery.root / name for name in wanted) if path.is_file())
    serves = (entries[-1].release if entries else None) or 0
    for revision in revisions:
        found.details += _beside_tables(workspace, revision, later=revision.release > serves)
    found.releases = sorted({revision.release for revision in revisions})
    return found


def _first(entries: list[Entry]) -> dict[str, TableState]:
    """Table → state of what waits for a first release, while nothing serves."""
    if not entries or entries[-1].serving is not None:
        return {}
    return next((found for entry in reversed(entries) if (found := history.recorded(entry.detail))), {})


def irreparable(workspace: Workspace, table: str, file: str) -> bool:
    """Whether what a damaged file of a table says cannot be computed: nothing gives the items, their descriptions and an adopted release's
    features again, and a manifest alone says which rows there are. What only an older version of the table has is not needed: a new
    revision goes on without it.
    """
    gallery = workspace.gallery
    try:
        if not file or table not in gallery.tables():
            return True
        if "/_versions/" in file:
            return 2**64 - 1 - int(Path(file).stem) >= gallery.newest_version(table)
        if file not in gallery.files(table):
            return False
        return table == ITEMS or (table.startswith(FEATURES) and _release(workspace, int(table.removeprefix(f"{FEATURES}v"))).adopted)
    except FctError:  # the table or the release cannot be opened
        return True


def _release(workspace: Workspace, number: int) -> Release:
    revision = latest(workspace.ledger.entries()).get(number)
    return kept.opened(workspace, number) if revision is None else kept.release(workspace, revision, check=False)


def _beside_tables(workspace: Workspace, revision: Revision, *, later: bool) -> Iterator[Damage]:
    """What is wrong with a revision's release, h's and index.

    Args:
        later: than what serves. Its upgrade may be run again and fit another h: that is no damage, and a promotion asks for the h's of its
            verdict.
    """
    number, folder = revision.release, workspace.upgrade_folder(revision.release)
    try:
        kept.release(workspace, revision)
    except (BadInput, NotPermitted) as error:
        yield Damage("release", str(number), "", f"{error}; restore its files in MLflow, or from a backup")
    for m, digest in revision.forward.items():
        try:
            whole = forward.load(folder / f"h-v{m}").digest == digest or later
        except (BadInput, NotPermitted):
            whole = False
        if not whole:
            place = (folder / f"h-v{m}").relative_to(workspace.folder).as_posix()
            sentence = f"the h from version {m} to {number} is not the one that was recorded: {folder / f'h-v{m}'}; {CURE}"
            yield Damage("h", str(number), place, sentence)
    place = revision.index.folder
    for name, how in indexes.different(workspace.folder / place, dict(revision.index.about)).items():
        sentence = f"a file of the index of release {number} {how}: {workspace.folder / place / name}; {REPAIR}"
        yield Damage("index", str(number), f"{place}/{name}", sentence)


def served(workspace: Workspace, entries: list[Entry]) -> list[Revision]:
    """The newest revision of each release that serves, or that one can return to: its space is there, and it was not left behind."""
    left, there, now = left_behind(entries), set(workspace.gallery.tables()), history.serving(entries[-1] if entries else None)
    there |= set() if now is None else {now.space}
    return [one for release, one in latest(entries).items() if release not in left and one.space in there]


def waiting(workspace: Workspace, entries: list[Entry]) -> Iterator[Revision]:
    """Revisions of candidates that have never served, but for those from which a purge or a repair took what they were measured with."""
    known = latest(entries)
    for path in sorted((workspace.folder / "upgrades").glob(f"{workspace.settings.model}-v*/revision.json")):
        found = readable(path)
        if found is not None and found.release not in known and not void(workspace, found.release, entries):
            yield found
