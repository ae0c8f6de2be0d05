"""What may go, and what never does: the rule of ``fct gc``.

Kept: the release that serves, what a rollback returns to from there and so on, ``gc.keep_releases`` in all, each at its newest revision;
every later version that a person may still approve or promote again, with all its work; verdicts, reports, h's and the ledger; and
features and items, always. What goes: spaces, indexes, pairs and measurements of other versions, and old versions of tables that
nothing kept refers to, and that no reader has pinned by a tag of Lance's.

What goes is listed, written into the ledger by name, and then removed by that list alone (:func:`drop`). Names are used once
(:mod:`registry.revisions.names`), so whoever sleeps in between removes what nobody needs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fct.errors import BadInput, OperationFailed
from fct.gallery import tables
from fct.gallery.names import SPACE
from registry import lock
from registry.entry import Entry
from registry.revisions import alarm, names
from registry.revisions.entering import enter
from registry.revisions.history import before, latest
from registry.revisions.revision import Revision, readable
from registry.upgrade_files import REVISION
from registry.versions.facts import statuses
from registry.versions.status import Status
from registry.workspace import Workspace

OVER = (Status.REJECTED, Status.REFUSED, Status.INVALID)
STEPS = ("pairs-v*", "evaluation-*", "rehearsal*")


@dataclass
class Going:
    """What a gc drops.

    Attributes:
        kept: releases and versions that stay whole.
        spaces: names. folders: relative to the workspace (indexes, steps of upgrades). versions: table → old versions.
        bytes: of all this, as the file system counts before it goes; old table versions are counted where they share nothing.
    """

    kept: list[int] = field(default_factory=list)
    spaces: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    versions: dict[str, list[int]] = field(default_factory=dict)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.spaces or self.folders or self.versions)


def plan(workspace: Workspace, entries: list[Entry] | None = None) -> Going:
    """What would go now. Reads only.

    Args:
        entries: of the ledger, where they were read.

    Raises:
        BadInput: ``gc.keep_releases`` is below 1.
        OperationFailed: MLflow does not know the release that serves, so it does not know what waits either.
    """
    gallery, model = workspace.gallery, workspace.settings.model
    if workspace.settings.gc.keep_releases < 1:
        raise BadInput("gc.keep_releases has an unusable value", wanted="at least 1", got=workspace.settings.gc.keep_releases)
    entries = workspace.ledger.entries() if entries is None else entries
    # what is there, before what refers to it: who comes in between refers to what is not listed
    there = {name: tables.old_versions(gallery.root, name, ()) for name in gallery.tables()}
    indexes = [path for path in sorted((workspace.folder / "indexes" / model).glob("*")) if path.is_dir()]
    past = names.gone(entries)
    now = (entries[-1].release if entries else None) or 0
    newest = latest(entries)
    said, upgrades = statuses(workspace), _upgrades(workspace)
    if now and now not in said:
        todo = "restore MLflow's store (docs/operations.md)"
        raise OperationFailed(
            f"MLflow does not know release {now}, which serves, so nobody can say what waits", where=workspace.releases.uri, todo=todo
        )
    # of a version that MLflow does not know (its store was lost, or begun anew) nobody has said that it is over
    later = [v for v in sorted({*said, *upgrades, *newest}) if v > now and said.get(v) not in OVER]
    # a later release that was rolled back may be promoted again, as it served
    served = sorted({*_kept_releases(entries, workspace.settings.gc.keep_releases), *(v for v in later if v in newest)})
    waiting = [v for v in later if v not in newest]
    revisions = [newest[v] for v in served] + [one for v in waiting for one in _candidate(workspace, v)]
    going = Going(kept=sorted({*served, *waiting}))
    spaces = {one.space for one in revisions} | {space for v in waiting for space in _spaces_of(there, v) if space not in past}
    going.spaces = [name for name in there if SPACE.fullmatch(name) and name not in spaces]
    stay = {one.index.folder for one in revisions}
    root = workspace.folder
    folders = [path for path in indexes if path.relative_to(root).as_posix() not in stay]
    for version, path in upgrades.items():
        if version not in going.kept:
            folders += [step for pattern in STEPS for step in sorted(path.glob(pattern))]
        elif version in served:  # asked for its verdict alone, of versions that go
            folders += sorted(path.glob("rehearsal*"))
    folders += [root / name for name in past if not SPACE.fullmatch(name) and (root / name).exists()]  # of a run that was cut short
    going.folders = sorted({path.relative_to(root).as_posix() for path in folders})
    for name, old in there.items():
        wanted = {one.tables[name].version for one in revisions if name in one.tables}
        if name not in going.spaces and (chosen := [version for version in old if version not in wanted]):
            going.versions[name] = chosen
    going.bytes = sum(_size(gallery.table_path(name)) for name in going.spaces) + sum(_size(path) for path in folders)
    return going


def _upgrades(workspace: Workspace) -> dict[int, Path]:
    """Version → folder of its upgrade, of every version that has one."""
    name = re.escape(workspace.settings.model) + r"-v(\d+)"
    there = sorted((workspace.folder / "upgrades").glob("*"))
    return {int(found[1]): path for path in there if (found := re.fullmatch(name, path.name))}


def _kept_releases(entries: list[Entry], count: int) -> list[int]:
    """What serves, then what a rollback from there returns to, and so on: at most ``count`` releases."""
    release = entries[-1].release if entries else None
    kept: list[int] = []
    while release is not None and len(kept) < count and release not in kept:
        kept.append(release)
        returned = before(entries, release)
        release = None if returned is None else returned.release
    return kept


def _candidate(workspace: Workspace, version: int) -> list[Revision]:
    """Revisions that a waiting version refers to: its own, and the one of its rehearsal."""
    own = readable(workspace.upgrade_folder(version) / REVISION)
    asked = readable(names.step(workspace, version, "rehearsal") / "rehearsal.json", "revision")
    return [one for one in (own, asked) if one is not None]


def _spaces_of(spaces: Iterable[str], version: int) -> list[str]:
    return [name for name in spaces if (match := SPACE.fullmatch(name)) and int(match[1]) == version]


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else path.stat().st_size


@contextmanager
def alone(workspace: Workspace, holder: str) -> Iterator[lock.Held]:
    """Hold every lock of the model: while old versions of tables go, nobody may be reading or writing them.

    Raises:
        LockHeld: an upgrade, an ingest or a backfill is at work.
    """
    model = workspace.settings.model
    with ExitStack() as stack:
        for name in (model, f"{model}-ingest", f"{model}-backfill"):
            stack.enter_context(lock.hold(workspace.locks, name, holder, lease_s=workspace.settings.promote.lock_lease_s))
        yield stack.enter_context(
            lock.hold(workspace.locks, workspace.ledger_lock, holder, lease_s=workspace.settings.promote.lock_lease_s)
        )


def collect(workspace: Workspace, *, by: str, why: str = "") -> Going:
    """Drop what :func:`plan` says, after writing it into the ledger. Running it again drops what a run cut short has left.

    Raises:
        LockHeld: somebody works on the gallery. Overtaken: somebody wrote to the ledger meanwhile; nothing was dropped.
        NotPermitted: files are damaged (:mod:`registry.revisions.alarm`), and what would go may be what they are restored from.
    """
    with alone(workspace, f"{by}: gc") as held:
        alarm.refuse(workspace)
        entries = workspace.ledger.entries()
        going, head = plan(workspace, entries), entries[-1] if entries else None
        if not going:
            return going
        held.check()
        entry = enter(workspace, head, action="gc", by=by, why=why, detail=asdict(going))
        drop(workspace, held, entry)
    return going


def drop(workspace: Workspace, held: lock.Held, entry: Entry) -> None:
    """Remove exactly what the entry names: spaces, folders, versions of tables. What is gone already is nothing to do.

    Raises:
        LockHeld: somebody else works on the gallery meanwhile. What is left goes with the next run.
    """
    gallery = workspace.gallery
    for name in entry.detail.get("spaces", []):
        _look(workspace, held, entry, {name})
        gallery.drop_space(name)
    for name in entry.detail.get("folders", []):
        _look(workspace, held, entry, {name})
        path = workspace.folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path) if path.exists() else None
    for name, versions in entry.detail.get("versions", {}).items():
        _look(workspace, held, entry, {f"{name}@{version}" for version in versions})
        if name in gallery.tables():
            tables.forget_versions(gallery.root, name, versions)
    for left in gallery.root.rglob(".*.dropped"):  # of a space, by a drop that was cut short
        shutil.rmtree(left, ignore_errors=True)


def _look(workspace: Workspace, held: lock.Held, entry: Entry, going: set[str]) -> None:
    """Once more before each act: we hold the lock, and no release that is kept names any of this."""
    held.check()
    entries, damaged, there = workspace.ledger.entries(), entry.detail.get("damaged", []), workspace.gallery.tables()
    releases = [one for one in _kept_releases(entries, workspace.settings.gc.keep_releases) if one not in damaged]
    kept = [one for one in (latest(entries)[release] for release in releases) if one.space in there]
    used = {one.space for one in kept} | {one.index.folder for one in kept}
    used |= {f"{name}@{state.version}" for one in kept for name, state in one.tables.items()}
    if going & used:
        raise OperationFailed("what was to be dropped is in use again", got=min(going & used), todo="run the same command again")
