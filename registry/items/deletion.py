"""People's right to be forgotten: items leave every answer at once, and with ``purge`` their bytes leave the workspace.

*delete* marks rows in every table and appends one ledger entry: the serving release, and each earlier one that a rollback may return
to, get a revision without them. The index stays as it is and masks them, so nothing is built and nobody waits.

*purge* then rewrites what still holds bytes: tables are compacted and their old versions removed, indexes are built anew and the old
ones removed, and reports, evaluated items and rehearsed answers of upgrades lose the rows. At last it looks for the bytes itself
(:mod:`registry.items.traces`) and says where any are left. What it cannot do in MLflow is owed, and the ledger says so (:mod:`registry.items.debts`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from fct.errors import BadInput, NotPermitted, OperationFailed
from registry import lock
from registry.entry import Entry
from registry.items import debts, forgetting, traces
from registry.items.retention import alone, drop
from registry.revisions import alarm, history, kept
from registry.revisions.building import masked, pin, verify
from registry.revisions.entering import enter
from registry.revisions.revision import Revision
from registry.versions.follow import follow_later
from registry.workspace import Workspace


def delete(
    workspace: Workspace, ids: Sequence[str], *, by: str, why: str = "", purge: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Delete items for good. Running it again finishes a deletion that was cut short, and changes nothing else.

    Args:
        ids: of items; one that the gallery does not hold is counted, not refused.
        dry_run: count, and delete nothing.
        purge: also remove their bytes. Waits for nobody: refused while an upgrade or an ingest of the model is at work.

    Returns:
        deleted: items that left the gallery now. unknown: ids it did not hold. entry: number of the ledger entry, None where nothing
        changed; damaged: earlier releases that are not whole any more and cannot be returned to → why. With ``purge`` also left: files that still hold an id or a vector (empty when all is well), and checked: how many
        ids the bytes were searched for. void: versions whose verdict covers rows that are gone, to be measured again.

    Raises:
        BadInput: no ids, or a canary among them. NotPermitted: a file of what serves was altered. LockHeld: somebody works on the gallery.
        OperationFailed: purged, but files of the workspace still hold bytes, or reports in MLflow could not be rewritten.
    """
    gallery, settings = workspace.gallery, workspace.settings
    names = np.unique(np.asarray([one for one in ids if one], dtype=str))
    if not len(names):
        raise BadInput("no ids were given", wanted="ids of items, as `fct search` shows them")
    canaries = np.intersect1d(names, gallery.item_ids(role="canary"))
    if len(canaries):
        raise BadInput("a canary belongs to the release and cannot be deleted", got=canaries[0])
    if dry_run:
        known = len(np.intersect1d(names, gallery.item_ids()))
        return {"deleted": known, "unknown": len(names) - known, "entry": None, "damaged": {}}
    owes: str | None = None
    holder, lease = f"{by}: delete", settings.promote.lock_lease_s
    with ExitStack() as held:
        held.enter_context(alarm.sounding(workspace))
        mine = held.enter_context(
            alone(workspace, holder) if purge else lock.wait(workspace.locks, workspace.ledger_lock, holder, lease_s=lease)
        )
        wanted = traces.of(gallery, names) if purge else traces.Traces(names)
        head, entries = workspace.ledger.head(), workspace.ledger.entries()
        serving = history.serving(head)
        if serving is not None:
            verify(workspace, serving)
        damaged = _damaged(workspace, entries, serving)
        if purge:
            _whole(workspace, entries, damaged)
        known = len(np.intersect1d(names, gallery.item_ids()))
        gallery.fenced(mine.check).delete(names.tolist(), lost=() if purge else _only_of(entries, damaged))
        if purge:
            forgetting.compact(gallery)
        entry = _record(workspace, head, entries, serving, names, known, damaged, by=by, why=why, purge=purge, check=mine.check)
        result: dict[str, Any] = {"deleted": known, "unknown": len(names) - known, "entry": None if entry is None else entry.number}
        result["damaged"] = damaged
        if purge:
            if entry is not None:
                drop(workspace, mine, entry)
            result["void"] = [] if entry is None else sorted(map(int, entry.detail.get("void", {})))
            forgetting.scrub(workspace, names, mine.check)
            owes = debts.settle(workspace, by=by, why=why)
            result["left"], result["checked"] = traces.search(workspace.folder, wanted), len(wanted)
    if entry is not None and not owes:  # else MLflow does not answer, which is said below
        follow_later(workspace)
    if purge and result["left"]:
        raise OperationFailed(
            f"{known} items were deleted, but {len(result['left'])} files of the workspace still hold their bytes",
            got=", ".join(result["left"][:5]),
            todo="remove or rewrite these files; everything else is done" + (f". {debts.SENTENCE}" if owes else ""),
        )
    if purge and owes:
        raise OperationFailed(f"{known} items were deleted and purged here. {debts.SENTENCE}", got=owes)
    return result


def finish(workspace: Workspace, *, by: str, check: Callable[[], None]) -> None:
    """Write the entry of a deletion that was killed before it had one: its items left the tables, and the next entry would take them out unsaid.

    Args:
        workspace: of the holder of the ledger's lock. check: raises where that was taken over.
    """
    head, entries, gallery = workspace.ledger.head(), workspace.ledger.entries(), workspace.gallery
    serving = history.serving(head)
    if serving is None:
        return
    gone = np.setdiff1d(gallery.item_ids(at=serving.tables["items"].version), gallery.item_ids())
    if len(gone):
        damaged = _damaged(workspace, entries, serving)
        gallery.delete(gone, lost=_only_of(entries, damaged))
        why = "finishes a deletion that was killed"
        _record(workspace, head, entries, serving, gone, len(gone), damaged, by=by, why=why, purge=False, check=check)


def _whole(workspace: Workspace, entries: list[Entry], damaged: dict[int, str]) -> None:
    """Every table that a purge is going to rewrite is as it was recorded, but for those that only damaged releases have."""
    known, theirs = alarm.recorded(workspace), _only_of(entries, damaged)
    for name in workspace.gallery.tables():
        if name not in theirs:
            alarm.compare(workspace, known, name)


def _only_of(entries: list[Entry], releases: Collection[int]) -> set[str]:
    """Tables that no other releases than these have."""
    theirs, others = set[str](), set[str]()
    for release, revision in history.latest(entries).items():
        (theirs if release in releases else others).update(revision.tables)
    return theirs - others


def _damaged(workspace: Workspace, entries: list[Entry], serving: Revision | None) -> dict[int, str]:
    """Release → why its newest revision is not whole. What cannot be returned to must not keep a person's items alive."""
    found, there = {}, set(workspace.gallery.tables())
    for release, revision in history.latest(entries).items():
        if revision.space in there and (serving is None or release != serving.release):
            try:
                verify(workspace, revision)
            except (NotPermitted, BadInput) as error:
                found[release] = str(error)
    return found


def _record(
    workspace: Workspace,
    head: Entry | None,
    entries: list[Entry],
    serving: Revision | None,
    names: np.ndarray,
    known: int,
    damaged: dict[int, str],
    *,
    by: str,
    why: str,
    purge: bool,
    check: Callable[[], None],
) -> Entry | None:
    """New revisions of all that served or serves and held the items, and what a purge removes, in one ledger entry. None where there are none."""

    def anew(revision: Revision) -> Revision | None:
        if not purge and not _holds(workspace, revision, names):
            return None
        now = None if purge else masked(workspace, revision)
        if now is None:
            release = kept.release(workspace, revision, check=False)
            now = pin(workspace, revision.release, revision.space, release, revision.forward)
        same = replace(now, number=revision.number, verdict=revision.verdict) == revision
        return None if same else history.numbered(now, entries, revision.verdict)

    there = set(workspace.gallery.tables())
    served = history.latest(entries)
    whole = {release: revision for release, revision in served.items() if release not in damaged and revision.space in there}
    earlier = [anew(revision) for release, revision in whole.items() if serving is None or release != serving.release]
    now = None if serving is None else anew(serving)
    changed = [one for one in earlier if one is not None]
    detail: dict[str, Any] = {"rewritten": forgetting.rewritten(workspace, names, served)} if purge else {}
    whole |= {one.release: one for one in (*changed, now) if one is not None}
    detail |= forgetting.going(workspace, list(whole.values()), served) if purge else {}
    detail = {key: value for key, value in detail.items() if value}
    if now is None and not changed and not detail and not (serving is None and known):
        return None
    check()
    detail |= {"items": known, "purged": purge, "earlier": [one.to_json() for one in changed]}
    detail |= {"damaged": sorted(damaged)} if damaged else {}
    return enter(workspace, head, action="delete", by=by, why=why, serving=now, detail=detail)


def _holds(workspace: Workspace, revision: Revision, names: np.ndarray) -> bool:
    """Whether answers of the revision may still be one of these items."""
    ids = workspace.gallery.space_ids(revision.space, at=revision.state.version)
    items = workspace.gallery.item_ids(at=revision.tables["items"].version)
    return bool(len(np.intersect1d(names, ids)) or len(np.intersect1d(names, items)))
