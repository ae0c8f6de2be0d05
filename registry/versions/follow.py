"""MLflow follows the ledger: the alias, the status tags and the notes show what the ledger says. They decide nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

from fct.errors import OperationFailed
from registry.mlflow import seen
from registry.mlflow.store import CHAMPION, NOTE_TAG, STATUS_TAG
from registry.revisions import heads
from registry.versions.facts import deleted, ignored, statuses
from registry.workspace import Workspace


def follow_later(workspace: Workspace) -> None:
    """The entry is written, so what serves is decided; MLflow may follow later."""
    try:
        if workspace.releases.nothing_there:
            raise OperationFailed("its store is gone", where=workspace.releases.file)  # to write there would begin an empty one
        follow(workspace)
    except Exception as error:
        print(f"done; MLflow will follow at the next `fct reconcile --once` ({error})", file=sys.stderr)


def follow(workspace: Workspace, notes: Mapping[int, str] = MappingProxyType({})) -> list[str]:
    """Let MLflow show what the ledger says: alias and status tags, and notes. Returns what it corrected, for people.

    Args:
        notes: version → why an approval could not be carried out; shown like decisions that do not count.
    """
    said = []
    heads.tell(workspace)
    now, silent = workspace.ledger.release(), ignored(workspace) | {version: text[:1000] for version, text in notes.items()}
    champion = workspace.releases.champion()
    if now is not None and champion != now and not deleted(workspace):
        workspace.releases.follow(now)
        said.append(f"the alias {CHAMPION} pointed at {champion}, the ledger serves {now}")
    for version, status in statuses(workspace).items():
        tags = workspace.releases.version(version).tags
        if tags.get(STATUS_TAG) != status.value:
            workspace.releases.mark(version, status.value)
            said.append(f"version {version} is now {status.value}")
        if tags.get(NOTE_TAG) != silent.get(version):
            if version in silent:
                workspace.releases.tag(version, NOTE_TAG, silent[version])
                said.append(f"version {version}: {silent[version]}")
            else:
                workspace.releases.untag(version, NOTE_TAG)
    seen.ask(workspace.releases)
    return said
