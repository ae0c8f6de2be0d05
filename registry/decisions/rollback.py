"""Rollback: back to the release that served before, model and gallery together, by one ledger entry.

Everything before the entry can be done again. A crash at any instant leaves the old entry or the new one, each whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fct.errors import BadInput, Damaged, NotPermitted
from registry import lock
from registry.entry import Entry
from registry.formats import unreadable_is_altered
from registry.revisions import alarm, kept
from registry.revisions.building import masked, pin, still_theirs, verify
from registry.revisions.entering import enter
from registry.revisions.history import before, left_behind, numbered, serving
from registry.revisions.revision import Revision
from registry.workspace import Workspace


def done(entries: list[Entry], leave: int | None) -> Entry | None:
    """The rollback that has left the release already; None where it serves, so that there is something to do.

    A rollback that was killed after its entry is run again: it must find that it is done, and not go one release further back.

    Args:
        leave: the release to leave; by default the one that was promoted last.

    Raises:
        BadInput: nothing serves, or the release to leave neither serves nor was left by a rollback.
    """
    now = entries[-1].release if entries else None
    if now is None:
        raise BadInput("nothing serves, so there is nothing to roll back to")
    switches = [entry for entry in entries if entry.action in ("promote", "rollback") and entry.serving]
    if leave is None:
        leave = next(entry.release for entry in reversed(switches) if entry.action == "promote")
    if now == leave:
        return None
    for entry in reversed(switches):
        if entry.action == "rollback" and int(entry.detail["from"]) == leave:
            return entry
        if entry.action == "promote":
            break
    raise BadInput(f"release {leave} does not serve", wanted=now, got=leave, where="--from")


def _before(workspace: Workspace, entries: list[Entry]) -> tuple[Entry, Revision]:
    """The ledger's head and what a rollback returns to, every file of it verified."""
    head = entries[-1]
    assert head.release is not None  # done() has looked
    target = before(entries, head.release)
    if target is None:
        raise BadInput(f"version {head.release} is the first release that served", todo="there is nothing to roll back to")
    if target.space not in workspace.gallery.tables():
        raise NotPermitted(f"release {target.release} was dropped by `fct gc`", todo="gc.keep_releases in params.yaml says how many stay")
    try:
        with unreadable_is_altered(f"release {target.release}"):
            verify(workspace, target)
    except Damaged as error:
        if target.release not in left_behind(entries):
            raise
        raise NotPermitted(f"release {target.release} is damaged, and was left behind: {error}") from error  # that is known: no alarm
    return head, target


def _missing(workspace: Workspace, head: Entry, target: Revision, without_missing: bool) -> int:
    """How many items serve now and are unknown to ``target``. NotPermitted where there are any and nobody said that they may be missing."""
    gallery = workspace.gallery
    served, known = (gallery.space_ids(one.space, at=one.state.version) for one in (serving(head) or target, target))
    missing = np.setdiff1d(np.intersect1d(served, gallery.item_ids()), known)
    if len(missing) and not without_missing:
        raise NotPermitted(
            f"release {target.release} has no vectors of {len(missing)} items that serve now ({', '.join(missing[:3].tolist())} …)",
            todo="`fct rollback --without-missing` rolls back without them; afterwards `fct ingest` on their images embeds them with"
            f" release {target.release} (with promote.double_embed_days both releases embed new items from the start)",
        )
    return len(missing)


def foresee_rollback(workspace: Workspace, *, leave: int | None = None, without_missing: bool = False) -> dict[str, Any] | Entry:
    """What :func:`rollback` would do, by the same checks: from, to (release and revision), rows, missing. The entry where it is done already."""
    entries = workspace.ledger.entries()
    if (already := done(entries, leave)) is not None:
        return already
    head, target = _before(workspace, entries)
    missing = _missing(workspace, head, target, without_missing)
    return {"from": head.release, "to": target.release, "revision": target.number, "rows": target.state.rows, "missing": missing}


@alarm.sounds
def rollback(workspace: Workspace, *, by: str, why: str, leave: int | None = None, without_missing: bool = False) -> tuple[Entry, bool]:
    """Return to the release that served before, at its last revision, minus every item deleted since.

    Where nothing was deleted its tables and its index were never touched, so the answers are the same bit for bit. MLflow is not asked:
    whoever needs a rollback must not wait for a server, and the alias and tags there follow at the next look at the registry.

    Args:
        leave: the release to leave, as for :func:`done`.
        without_missing: return even though some items that serve now were embedded by the later release alone. They serve again when
            that release does, or when they are ingested anew.

    Returns:
        the ledger entry, and whether it was written now: running it again changes nothing.

    Raises:
        BadInput: nothing served before, or ``leave`` does not serve. NotPermitted: a file of it was altered since, or items would be missing.
    """
    ledger, settings = workspace.ledger, workspace.settings
    with lock.hold(workspace.locks, workspace.ledger_lock, f"{by}: rollback", lease_s=settings.promote.lock_lease_s) as held:
        entries = ledger.entries()
        if (already := done(entries, leave)) is not None:
            return already, False
        head, target = _before(workspace, entries)
        target = current_of(workspace.fenced(held.check), target, entries)
        missing = _missing(workspace, head, target, without_missing)
        held.check()
        detail = {"from": head.release, "to": target.release, "missing": missing}
        entry = enter(workspace, head, action="rollback", by=by, why=why, serving=target, detail=detail)
    return entry, True


def current_of(workspace: Workspace, revision: Revision, entries: list[Entry]) -> Revision:
    """The revision without items that are gone: as it is where none is, else a new one. A deletion that was cut short hides nothing, and an
    id that came again brings no deleted picture back."""
    gallery, space = workspace.gallery, revision.space
    ids = gallery.space_ids(space, at=revision.state.version)
    if not len(np.setdiff1d(ids, still_theirs(workspace, revision))):
        return revision
    gallery.drop_rows(space)
    now = masked(workspace, revision)
    if now is None:
        now = pin(workspace, revision.release, space, kept.release(workspace, revision, check=False), revision.forward)
    return numbered(now, entries, revision.verdict)
