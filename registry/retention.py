"""What may go, and what never does: the rule of ``fct gc``.

Kept: the release that serves, what a rollback returns to from there and so on, ``gc.keep_releases`` in all, each at its newest revision;
every later version that a person may still approve or promote again, with all its work; verdicts, reports, h's and the ledger; and
features and items, always. What goes: spaces, indexes, pairs and measurements of other versions, and old versions of tables that
nothing kept refers to.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fct import tables
from fct.errors import BadInput
from fct.files import read_json
from fct.gallery import SPACE
from registry import lock
from registry.decisions import ledger_lock
from registry.facts import statuses
from registry.ledger import Entry
from registry.revision import Revision, before, latest
from registry.status import Status
from registry.workspace import Workspace

OVER = (Status.REJECTED, Status.REFUSED, Status.INVALID)
STEPS = ("pairs-v*", "evaluation-*", "rehearsal")


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


def plan(workspace: Workspace) -> Going:
    """What would go now. Reads only.

    Raises:
        BadInput: ``gc.keep_releases`` is below 1.
    """
    ledger, gallery, model = workspace.ledger, workspace.gallery, workspace.settings.model
    if workspace.settings.gc.keep_releases < 1:
        raise BadInput("gc.keep_releases has an unusable value", wanted="at least 1", got=workspace.settings.gc.keep_releases)
    entries = ledger.entries()
    serving = entries[-1].serving if entries else None
    now = 0 if serving is None else int(serving["release"])
    newest = latest(entries)
    later = [v for v, status in statuses(workspace).items() if v > now and status not in OVER]
    # a later release that was rolled back may be promoted again, as it served
    served = sorted({*_kept_releases(entries, workspace.settings.gc.keep_releases), *(v for v in later if v in newest)})
    waiting = [v for v in later if v not in newest]
    revisions = [newest[v] for v in served] + [one for v in waiting for one in _candidate(workspace, v)]
    going = Going(kept=sorted({*served, *waiting}))
    spaces = {one["space"] for one in revisions} | {space for v in waiting for space in _spaces_of(gallery.tables(), v)}
    going.spaces = [name for name in gallery.tables() if SPACE.fullmatch(name) and name not in spaces]
    stay = {str(one["index"]["folder"]) for one in revisions}
    root = workspace.folder
    folders = [
        path for path in sorted((root / "indexes" / model).glob("*")) if path.is_dir() and path.relative_to(root).as_posix() not in stay
    ]
    for path in sorted((root / "upgrades").glob(f"{model}-v*")):
        version = re.fullmatch(re.escape(model) + r"-v(\d+)", path.name)
        if version and int(version[1]) not in going.kept:
            folders += [step for pattern in STEPS for step in sorted(path.glob(pattern))]
        elif version and int(version[1]) in served:  # asked for its verdict alone, of versions that go
            folders += sorted(path.glob("rehearsal"))
    going.folders = [path.relative_to(root).as_posix() for path in folders]
    for name in gallery.tables():
        if name in going.spaces:
            continue
        wanted = {int(one["tables"][name]["version"]) for one in revisions if name in one["tables"]}
        old = [version for version in tables.versions(gallery.root, name)[:-1] if version not in wanted]
        if old:
            going.versions[name] = old
    going.bytes = sum(_size(gallery.table_path(name)) for name in going.spaces) + sum(_size(path) for path in folders)
    return going


def _kept_releases(entries: list[Entry], count: int) -> list[int]:
    """What serves, then what a rollback from there returns to, and so on: at most ``count`` releases."""
    serving = entries[-1].serving if entries else None
    kept: list[int] = []
    while serving is not None and len(kept) < count and int(serving["release"]) not in kept:
        kept.append(int(serving["release"]))
        serving = before(entries, kept[-1])
    return kept


def _candidate(workspace: Workspace, version: int) -> list[Revision]:
    """Revisions that a waiting version refers to: its own, and the one of its rehearsal."""
    folder = workspace.upgrade_folder(version)
    found = []
    for path, key in ((folder / "revision.json", None), (folder / "rehearsal" / "rehearsal.json", "revision")):
        try:
            said: dict[str, Any] = read_json(path)
        except BadInput:
            continue
        found.append(said if key is None else said[key])
    return found


def _spaces_of(names: list[str], version: int) -> list[str]:
    return [name for name in names if (match := SPACE.fullmatch(name)) and int(match[1]) == version]


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
            lock.hold(workspace.locks, ledger_lock(workspace), holder, lease_s=workspace.settings.promote.lock_lease_s)
        )


def collect(workspace: Workspace, *, by: str, why: str = "") -> Going:
    """Drop what :func:`plan` says, after writing it into the ledger. Running it again drops what a run cut short has left.

    Raises:
        LockHeld: somebody works on the gallery.
    """
    ledger = workspace.ledger
    with alone(workspace, f"{by}: gc") as held:
        going, head = plan(workspace), ledger.head()
        if not going:
            return going
        held.check()
        detail = {"kept": going.kept, "spaces": going.spaces, "folders": len(going.folders), "tables": len(going.versions)}
        serving = None if head is None else head.serving
        ledger.append(
            head, action="gc", by=by, why=why, model=workspace.settings.model, serving=serving, detail=detail | {"bytes": going.bytes}
        )
        for name in going.spaces:
            workspace.gallery.drop_space(name)
        for folder in going.folders:
            shutil.rmtree(workspace.folder / folder) if (workspace.folder / folder).is_dir() else (workspace.folder / folder).unlink()
        for name, versions in going.versions.items():
            tables.forget_versions(workspace.gallery.root, name, versions)
        for left in workspace.gallery.root.rglob(".*.dropped"):  # by a drop that was cut short
            shutil.rmtree(left, ignore_errors=True)
    return going
