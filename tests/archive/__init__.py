"""Workspaces that earlier code has left: ``workspace-N.tar.xz``, made once by :mod:`tests.archive.make`, and how a test takes one out."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import Project, moved

ARCHIVES = sorted(Path(__file__).parent.glob("workspace-*.tar.xz"))


def taken_out(archive: Path, folder: Path) -> tuple[Project, dict[str, Any]]:
    """The project of an archive below ``folder``, and what the code that made it answered."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    project = Project(folder / "project")
    expected: dict[str, Any] = json.loads((project.folder / "expected.json").read_text(encoding="utf-8"))
    moved(Project(Path(expected["folder"])), project)
    return project, expected
