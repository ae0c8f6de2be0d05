"""`fct init`: a folder becomes a project.

Its texts lie in flows/project/, where docs/reference.py writes them from the repository's own params.yaml and dvc.yaml.
"""

from __future__ import annotations

import os
from pathlib import Path

from fct.arrays.files import disk_errors
from fct.errors import BadInput

TEXTS = Path(__file__).with_name("project")
NAMES = ("params.yaml", "dvc.yaml")
IGNORED = "/build/\n/workspace/\n"


def begin(folder: Path) -> list[str]:
    """Put params.yaml, dvc.yaml and, where there is none, .gitignore into a folder, which is made where it is missing.

    Returns:
        the names of what was written.

    Raises:
        BadInput: a params.yaml or a dvc.yaml lies there already, or the folder is a file. Nothing was changed.
        OperationFailed: the place cannot be written; what was begun is taken back.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput("the project is a folder, but a file has that name", where=folder, todo="choose another folder")
    there = [name for name in NAMES if os.path.lexists(folder / name)]
    if there:
        raise BadInput(
            "a project has begun here already",
            got=" and ".join(there),
            where=folder.absolute(),
            todo="nothing was changed; edit what is there, or choose another folder",
        )
    texts = {name: (TEXTS / name).read_bytes() for name in NAMES}
    if not os.path.lexists(folder / ".gitignore"):
        texts[".gitignore"] = IGNORED.encode()
    made: list[Path] = []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in texts.items():
                with (folder / name).open("xb") as file:  # never over what somebody else has just put there
                    made.append(folder / name)
                    file.write(text)
        except BaseException:
            for path in made:
                path.unlink(missing_ok=True)
            raise
    return list(texts)


def repository(folder: Path) -> str | None:
    """The command that makes the folder what DVC needs, a part of a git repository with DVC in it; None where it is that."""
    places = [whole := folder.resolve(), *whole.parents]
    if any((place / ".dvc").is_dir() for place in places):
        return None
    if not any((place / ".git").exists() for place in places):
        return "git init && dvc init"
    return "dvc init" if (whole / ".git").exists() else "dvc init --subdir"
