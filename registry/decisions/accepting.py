"""A person's word that a ledger is to go on without its newest entries, which were lost.

A lost entry may be a deletion, so everything but this stops until somebody restores it or accepts the loss.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fct.errors import BadInput, FctError
from registry import lock
from registry.decisions.rollback import current_of
from registry.entry import Entry, stands
from registry.mark import of_tag
from registry.revisions import kept
from registry.revisions.building import pin
from registry.revisions.entering import enter
from registry.revisions.history import latest, numbered, serving
from registry.revisions.revision import Revision
from registry.workspace import Workspace


def accept(workspace: Workspace, *, by: str, why: str, dry_run: bool = False) -> dict[str, Any]:
    """Let the ledger go on from the highest entry that is there, by an entry that says so.

    What the lost entries promoted, rolled back or decided is given up. What they deleted stays deleted as far as the tables still know it.

    Returns:
        lost: number and digest of each entry that is known to have been there. entry: number of the new one. serving: release and
        revision, or None.

    Raises:
        BadInput: nothing was lost.
    """
    ledger = workspace.ledger
    lease = workspace.settings.promote.lock_lease_s
    with lock.wait(workspace.locks, workspace.ledger_lock, f"{by}: accept the ledger's head", lease_s=lease) as held:
        entries, lost = ledger.all_there(), set(ledger.lost())
        if entries and lost:
            with suppress(Exception):  # MLflow is away: what its tag names is missed at the next look, and accepted then
                mark = of_tag(workspace.releases.head_tag(), entries[0].token)
                lost |= {mark} if mark is not None and not stands(mark, entries) else set()
        if not lost:
            raise BadInput("no lost entry of the ledger is known", todo="there is nothing to accept")
        head, named = entries[-1] if entries else None, [asdict(one) for one in sorted(lost)]
        serves = serving(head)
        with ledger.pardoning(lost):
            if not dry_run:
                now, detail = _anew(workspace.fenced(held.check), None if serves is None else serves.release, entries)
                held.check()
                enter(workspace, head, action="accept", by=by, why=why, serving=now, detail={"lost": named} | detail)
                serves = now or serves
        said = None if serves is None else {"release": serves.release, "revision": serves.number}
        return {"lost": named, "entry": len(entries) + 1, "serving": said}


def _anew(workspace: Workspace, serving: int | None, entries: list[Entry]) -> tuple[Revision | None, dict[str, Any]]:
    """What serves without items that are gone, and what the entry says of other releases. A lost purge or gc has removed versions of tables,
    or an index, that revisions name: those are pinned anew, as the tables are now.

    Returns:
        the revision that serves, None where it is as it was; ``earlier`` and ``damaged``, as an entry of a deletion has them, where there are any.
    """
    served, changed, damaged = None, list[Revision](), list[int]()
    for release, revision in latest(entries).items():
        serves = release == serving
        if revision.space not in workspace.gallery.tables():
            continue
        try:
            now = current_of(workspace, revision, entries) if serves and _there(workspace, revision) else revision
            if not _there(workspace, now):
                now = pin(workspace, release, revision.space, kept.release(workspace, revision, check=False), revision.forward)
                now = numbered(now, entries, revision.verdict)
        except FctError as error:  # damaged, which every use of it says
            print(f"{'what serves' if serves else f'release {release}'} is not whole: {error}", file=sys.stderr)
            damaged += [] if serves else [release]
            continue
        if now == revision:
            continue
        if serves:
            served = now
        else:
            changed.append(now)
    detail = {"earlier": [one.to_json() for one in changed], "damaged": sorted(damaged)}
    return served, {key: value for key, value in detail.items() if value}


def _there(workspace: Workspace, revision: Revision) -> bool:
    """Whether the versions of tables, and the index, that a revision names are there; damage is not looked for."""
    tables = all(workspace.gallery.has_version(name, state.version) for name, state in revision.tables.items())
    return tables and (workspace.folder / revision.index.folder).is_dir()
