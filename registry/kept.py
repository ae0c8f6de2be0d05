"""Where the files of a release are on this machine, so that a release that serves or served is opened without MLflow.

MLflow says where a version's artifacts are; whoever asks it notes the folder here. What a file of that folder says is believed only
where the release's digest is the one that the ledger names.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fct.errors import BadInput, FctError, NotPermitted
from fct.files import read_json, write_json
from fct.release import Release, open_release
from registry.workspace import Workspace


def _note(workspace: Path, model: str, number: int) -> Path:
    return workspace / "releases" / f"{model}-v{number}.json"


def remember(workspace: Path, model: str, number: int, folder: Path) -> None:
    """Note the folder of a version, relative to the workspace where it is inside; on a full disk MLflow is asked again."""
    inside = folder.is_relative_to(workspace)
    said = {"folder": str(folder.relative_to(workspace) if inside else folder)}
    note = _note(workspace, model, number)
    with suppress(FctError):
        if workspace.is_dir() and _read(note) != said:
            write_json(note, said)


def _read(note: Path) -> Any:
    try:
        return read_json(note)
    except BadInput:
        return None


def release(workspace: Workspace, revision: dict[str, Any], *, check: bool = True) -> Release:
    """The release of a revision (a dict of the ledger), which names its digest.

    Args:
        check: compare every file with its digest; leave out only where that was done a moment ago. The program is not run: the same bytes
            were, before the verdict.

    Raises:
        NotPermitted: a file was altered or is missing. As :meth:`registry.releases.Releases.release` where MLflow must be asked.
    """
    number = int(revision["release"])
    said = _read(_note(workspace.folder, workspace.settings.model, number))
    folder = workspace.folder / str(said["folder"]) if isinstance(said, dict) and "folder" in said else None
    if folder is None or not folder.is_dir():
        return _opened(workspace, workspace.releases.folder_of(number), revision, check)
    try:
        return _opened(workspace, folder, revision, check)
    except NotPermitted:
        with suppress(Exception):  # a download that was altered here is had anew, where MLflow can give it
            if (again := workspace.releases.folder_of(number)) != folder or again.is_relative_to(workspace.folder / "cache"):
                return _opened(workspace, again, revision, check)
        raise


def _opened(workspace: Workspace, folder: Path, revision: dict[str, Any], check: bool) -> Release:
    number = int(revision["release"])
    try:
        opened = open_release(folder, check=check, run=False)
    except BadInput as error:
        raise NotPermitted(f"release {number} is not whole any more: {error}") from error
    if opened.digest() != revision["release_digest"]:
        raise NotPermitted(
            f"release {number} is not the one that was measured", wanted=revision["release_digest"][:12], got=opened.digest()[:12]
        )
    return replace(opened, approved=workspace.has_served)
