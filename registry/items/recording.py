"""New rows recorded: the entry of an ingest or an adoption, and the serving release with them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fct.errors import BadInput, NotPermitted
from registry.entry import Entry
from registry.items.deletion import finish
from registry.revisions import history, kept
from registry.revisions.building import pin, states_of
from registry.revisions.entering import enter
from registry.revisions.revision import Revision
from registry.upgrades.carrying import carry, forwards_of, lacking
from registry.workspace import Workspace


def record(
    workspace: Workspace, added: int, number: int, twin: int | None, *, by: str, why: str, check: Any, roots: list[str]
) -> Entry | None:
    """Let the spaces follow, and write the ledger entry. None where nothing is new; by the tables, so that a run cut short is finished.

    Args:
        roots: of :func:`registry.items.arrivals.declared`.
    """
    ledger = workspace.ledger
    finish(workspace, by=by, check=check)
    head, entries = ledger.head(), ledger.entries()
    serving = history.serving(head)
    detail: dict[str, Any] = {"added": added, "version": number, "roots": roots}
    if serving is None:
        if not added:
            return None
        detail["recorded"] = {name: state.to_json() for name, state in states_of(workspace).items()}
        return enter(workspace, head, action="ingest", by=by, why=why, detail=detail)
    now = extend(workspace, serving, entries)
    old = None if twin is None else history.latest(entries)[twin]
    again = None
    if old is not None:
        try:
            again = extend(workspace, old, entries)
        except (NotPermitted, BadInput) as error:  # what serves must not wait for a release that may never serve again
            print(f"the items were not added to release {twin}, which a rollback would return to: {error}", file=sys.stderr)
    if now is None and again is None:
        return None
    check()
    detail |= {"earlier": [again.to_json()]} if again is not None else {}
    return enter(workspace, head, action="ingest", by=by, why=why, serving=now, detail=detail)


def extend(workspace: Workspace, revision: Revision, entries: list[Entry]) -> Revision | None:
    """Missing rows into the space of a release, each from its own native version; a new index; its next revision. None where none is missing.

    Raises:
        NotPermitted: as :func:`registry.upgrades.carrying.forwards_of`.
    """
    number, space = revision.release, revision.space
    there = workspace.gallery.space_ids(space, at=revision.state.version)
    there = np.intersect1d(there, workspace.gallery.space_ids(space))  # an id may have come again after a deletion that was cut short
    if not lacking(workspace, number, there):
        return None
    carry(workspace, space, number, forwards_of(workspace, revision))
    now = pin(workspace, number, space, kept.opened(workspace, number, check=False), revision.forward)
    return history.numbered(now, entries, revision.verdict)
