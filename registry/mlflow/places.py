"""Where MLflow said that the files of a version are: noted in the workspace, so that a release which serves is found without MLflow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, FctError


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


def noted(workspace: Path, model: str, number: int) -> Path | None:
    """The folder that was noted; None where nothing can be read."""
    said = _read(_note(workspace, model, number))
    return workspace / str(said["folder"]) if isinstance(said, dict) and "folder" in said else None


def _read(note: Path) -> Any:
    try:
        return read_json(note)
    except BadInput:
        return None
