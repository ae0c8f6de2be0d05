"""An entry of the ledger is written after everything that it names is on the disk: data before the record.

A power cut between the two leaves the entry before; without the order it could leave an entry whose files are empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fct.arrays.files import flush
from fct.errors import OperationFailed
from registry.entry import Entry
from registry.revisions import alarm, kept, names
from registry.revisions.history import earlier, latest, recorded
from registry.revisions.revision import Revision
from registry.upgrade_files import CANDIDATE, READ
from registry.workspace import Workspace

MADE = ("promote", "ingest", "backfill", "approve")  # from what is in the gallery
READ_BELOW = (("h-v*", "**/*"), ("pairs-v*", "canaries/*"), ("evaluation-*", "**/*"))


def enter(
    workspace: Workspace, head: Entry | None, *, action: str, by: str, why: str, detail: dict[str, Any], serving: Revision | None = None
) -> Entry:
    """Flush what an entry names and none before it did, then append it after ``head``.

    Args:
        detail: plain JSON. serving: what serves from now on; None where that is what served, to the byte.

    Raises:
        NotPermitted: files are damaged (:mod:`registry.revisions.alarm`), and the entry would be made from them. As :meth:`registry.ledger.Ledger.append`.
    """
    if action in MADE:
        alarm.refuse(workspace)
    flush_all(named(workspace, serving, detail), workspace.folder)
    value = serving.to_json() if serving is not None else head.serving if head is not None else None
    return workspace.ledger.append(head, action=action, by=by, why=why, model=workspace.settings.model, serving=value, detail=detail)


def named(workspace: Workspace, serving: Revision | None, detail: dict[str, Any]) -> list[Path]:
    """Files that an entry names, by digest or by the digest of a file that names them, and that the ledger does not name yet."""
    before, found = latest(workspace.ledger.entries()), list[Path]()
    for revision in (one for one in (serving, *earlier(detail)) if one is not None):
        found += _of_revision(workspace, revision, before.get(revision.release))
    for state in recorded(detail).values():
        found += [workspace.gallery.root / name for name in state.files]
    if "candidate" in detail:
        found += candidate_files(workspace, int(detail["version"]))
    return list(dict.fromkeys(found))


def _of_revision(workspace: Workspace, revision: Revision, before: Revision | None) -> Iterator[Path]:
    for name, state in revision.tables.items():
        known = before.tables[name].files if before is not None and name in before.tables else {}
        yield from (workspace.gallery.root / file for file, digest in state.files.items() if known.get(file) != digest)
    if before is None or revision.index != before.index:
        folder = workspace.folder / revision.index.folder
        yield from (folder / name for name in (*revision.index.files, "index.json"))
    if before is None or revision.release_digest != before.release_digest:
        place = kept.release(workspace, revision, check=False).folder
        yield from sorted(path for path in place.rglob("*") if path.is_file())
    if before is None or (revision.forward, revision.verdict) != (before.forward, before.verdict):
        yield from candidate_files(workspace, revision.release)


def candidate_files(workspace: Workspace, version: int) -> list[Path]:
    """Files of an upgrade that its verdict and candidate.json name by digest, and candidate.json: those that are there."""
    folder = workspace.upgrade_folder(version)
    paths = [folder / name for name in (*READ, CANDIDATE)]
    paths += [path for step, below in READ_BELOW for one in names.steps(workspace, version, step) for path in one.glob(below)]
    return [path for path in sorted(paths) if path.is_file()]


def flush_all(files: Iterable[Path], top: Path) -> None:
    """:func:`flush` files, whoever wrote them, then the folders that they are in, up to ``top`` where they lie below it.

    Raises:
        OperationFailed: a file is gone, or the disk has failed.
    """
    folders: dict[Path, None] = {}
    for path in files:
        try:
            flush(path)
        except FileNotFoundError as error:
            raise OperationFailed("a file is gone before it was recorded", got=path.name, where=path.parent) from error
        within = [one for one in path.parents if one.is_relative_to(top)]
        folders.update(dict.fromkeys(within or [path.parent]))
    for folder in sorted(folders, key=lambda one: -len(one.parts)):
        flush(folder)
