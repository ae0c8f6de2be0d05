"""The ledger's head and what MLflow's tag ``fct.head`` says of it."""

from __future__ import annotations

from registry.entry import stands
from registry.mark import Mark, of_tag, to_tag
from registry.workspace import Workspace


def heed(workspace: Workspace, tag: str) -> None:
    """Compare the ledger with the tag ``fct.head`` of the registered model.

    Raises:
        NotPermitted: the entry that it names was lost. From then on every command says so, also without MLflow.
    """
    entries = workspace.ledger.entries()
    mark = of_tag(tag, entries[0].token) if entries else None
    if mark is not None and not stands(mark, entries):
        workspace.ledger.heed(mark)
        workspace.ledger.head()


def tell(workspace: Workspace) -> None:
    """Let MLflow's tag name the ledger's head, after :func:`heed`."""
    releases, entries = workspace.releases, workspace.ledger.entries()
    if entries:
        said = releases.head_tag()
        heed(workspace, said)
        value = to_tag(Mark(entries[-1].number, entries[-1].digest), entries[0].token)
        if said != value:
            releases.set_head_tag(value)
