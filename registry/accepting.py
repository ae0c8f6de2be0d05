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
from registry.decisions import ledger_lock
from registry.entering import enter
from registry.ledger import stands
from registry.mark import of_tag
from registry.rollback import current_of
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
    with lock.wait(workspace.locks, ledger_lock(workspace), f"{by}: accept the ledger's head", lease_s=lease) as held:
        entries, lost = ledger.all_there(), set(ledger.lost())
        if entries and lost:
            with suppress(Exception):  # MLflow is away: what its tag names is missed at the next look, and accepted then
                mark = of_tag(workspace.releases.head_tag(), entries[0].digest)
                lost |= {mark} if mark is not None and not stands(mark, entries) else set()
        if not lost:
            raise BadInput("the ledger has lost no entry that anybody knows of", todo="there is nothing to accept")
        head, named = entries[-1] if entries else None, [asdict(one) for one in sorted(lost)]
        serving = None if head is None else head.serving
        with ledger.pardoning(lost):
            if serving is not None and not dry_run:
                try:
                    serving = current_of(workspace, serving, entries)
                except FctError as error:  # its tables are gone or damaged, which every use of it says
                    print(f"what serves is not whole: {error}", file=sys.stderr)
            if not dry_run:
                held.check()
                enter(workspace, head, action="accept", by=by, why=why, serving=serving, detail={"lost": named})
        serves = None if serving is None else {name: serving[name] for name in ("release", "revision")}
        return {"lost": named, "entry": len(entries) + 1, "serving": serves}
