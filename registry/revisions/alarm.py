"""Damage never becomes official: what the ledger recorded of a file is what it has to be, for ever.

A recorded digest is carried over and never taken anew (:func:`recorded`); who reads rows to make other rows, an index or a merge of them
compares their files first (:func:`compare`). A file that differs raises an alarm, one JSON file in the workspace: from then on nothing is
made from the gallery (:func:`stops`), until `fct status --verify` has found every file equal: restored from a backup, or named no more since
`fct repair` made its rows again (:mod:`registry.damage.repairing`). Deletions and rollbacks are not stopped: they compare what they go on from
themselves, and damage elsewhere must keep neither a person's items nor the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput, Damaged, FctError, NotPermitted
from fct.gallery.state import TableState
from registry.revisions import history
from registry.revisions.revision import readable
from registry.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

P = ParamSpec("P")
T = TypeVar("T")
Recorded = dict[str, dict[str, str]]  # table → file → SHA-256
KEPT = 100  # sentences


def recorded(workspace: Workspace) -> Recorded:
    """What is recorded of the files of each table: by the ledger, and by candidates that wait.

    A table that was dropped, and made again under the same name, is another one: a record whose data files are gone says nothing of it.
    (A version that refers to a missing file cannot be read, so nothing comes of that.)
    """
    states: dict[tuple[str, int], TableState] = {}
    for entry in workspace.ledger.entries():
        states |= {(state.table, state.version): state for state in history.states(entry)}
    for path in sorted((workspace.folder / "upgrades").glob(f"{workspace.settings.model}-v*/revision.json")):
        revision = readable(path)
        for state in () if revision is None else revision.tables.values():
            states.setdefault((state.table, state.version), state)
    found: Recorded = {}
    root, there = workspace.gallery.root, dict[str, bool]()
    for state in states.values():
        data = [file for file in state.files if "/data/" in file]
        if all(there.setdefault(file, (root / file).exists()) for file in data):
            found.setdefault(state.table, {}).update(state.files)
    return found


def compare(workspace: Workspace, known: Recorded, name: str, ids: np.ndarray | None = None) -> None:
    """Compare a table's files, or those that hold rows of ``ids``, with what is recorded. Files that nobody recorded are new.

    Raises:
        Damaged: one is missing or was altered.
    """
    if name in workspace.gallery.tables():
        workspace.gallery.compare(name, known.get(name, {}), ids)


# ---- the alarm ---------------------------------------------------------------------------------------------------


def _file(workspace: Workspace) -> Path:
    return workspace.folder / "alarm" / f"{workspace.settings.model}.json"


def raised(workspace: Workspace) -> list[str]:
    """What is known to be damaged, one sentence each; empty where there is no alarm."""
    path = _file(workspace)
    if not path.exists():
        return []
    try:
        return [str(one) for one in read_json(path)["damaged"]] or ["something"]
    except (BadInput, KeyError, TypeError):
        return ["something; the alarm's own file cannot be read"]


def sound(workspace: Workspace, sentences: Iterable[str]) -> None:
    """Raise the alarm; on a full or read-only disk whoever found the damage refuses all the same."""
    with suppress(FctError):
        write_json(_file(workspace), {"damaged": list(dict.fromkeys([*raised(workspace), *sentences]))[:KEPT]})


def clear(workspace: Workspace) -> None:
    """Every file was found equal."""
    _file(workspace).unlink(missing_ok=True)


def refuse(workspace: Workspace) -> None:
    """Raise NotPermitted while there is an alarm."""
    found = raised(workspace)
    if found:
        raise NotPermitted(
            f"files are not what the ledger recorded ({len(found)} found), and nothing is made from them: {found[0]}",
            where=workspace.folder,
            todo="`fct status --verify` lists them and says what helps: `fct repair` makes again what can be computed, the rest is restored from a"
            " backup. Work goes on once every file is equal",
        )


@contextmanager
def sounding(workspace: Workspace) -> Iterator[None]:
    """Raise the alarm where the block finds damage."""
    try:
        yield
    except Damaged as error:
        sound(workspace, [str(error)])
        raise


def sounds(command: Callable[Concatenate[Workspace, P], T]) -> Callable[Concatenate[Workspace, P], T]:
    """Let damage that a command finds raise the alarm."""

    @wraps(command)
    def sounding_(workspace: Workspace, *args: P.args, **kwargs: P.kwargs) -> T:
        with sounding(workspace):
            return command(workspace, *args, **kwargs)

    return sounding_


def stops(command: Callable[Concatenate[Workspace, P], T]) -> Callable[Concatenate[Workspace, P], T]:
    """Let the alarm stop a command, and let damage that the command finds raise it."""

    @wraps(command)
    def stopped(workspace: Workspace, *args: P.args, **kwargs: P.kwargs) -> T:
        refuse(workspace)
        return sounds(command)(workspace, *args, **kwargs)

    return stopped
