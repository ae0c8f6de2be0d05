"""New rows recorded: the entry of an ingest or an adoption, and the serving release with them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fct.errors import BadInput, FctError, NotPermitted, OperationFailed
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
    again = None if twin is None else _extended_if_whole(workspace, history.latest(entries)[twin], entries)
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


def _extended_if_whole(workspace: Workspace, revision: Revision, entries: list[Entry]) -> Revision | None:
    """As :func:`extend`, of the release that a rollback would return to. None also where it is damaged, which a sentence says.

    Raises:
        OperationFailed: something else than a file of it stands in the way, so that the next run can do it.
    """
    problem: FctError | None
    try:
        return extend(workspace, revision, entries)
    except (NotPermitted, BadInput) as error:
        problem = error
    except OperationFailed as error:
        # a full disk, a lost lock and a server that is away have codes of their own
        problem = _damage(workspace, revision) if error.code == "failed" else None
        if problem is None:
            raise
    # what serves must not wait for a release that may never serve again
    print(f"the items were not added to release {revision.release}, which a rollback would return to: {problem}", file=sys.stderr)
    return None


def _damage(workspace: Workspace, revision: Revision) -> FctError | None:
    """What is wrong with the tables of a revision; None where each file is as it was recorded and the space can be read as it is now."""
    try:
        for state in revision.tables.values():
            workspace.gallery.verify(state)
        workspace.gallery.read_space(revision.space)  # with what a run that was killed has left, which nobody has recorded
    except FctError as error:
        return error
    return None
