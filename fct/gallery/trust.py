"""What it takes to trust one version of a table: its rows by content, its files by digest."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from fct.arrays.digests import of_file, of_rows
from fct.errors import Altered, BadInput, Damaged, OperationFailed
from fct.gallery.state import TableState

if TYPE_CHECKING:
    from lance import LanceDataset as Dataset
from fct.gallery.tables import HELP, arrays_of, lance_errors, open_table, path_of, positions

HASHING_THREADS = 4


def content_of(dataset: Dataset) -> str:
    """Content digest of the rows of a table version; the schema's metadata is not part of it."""
    columns = arrays_of(dataset.to_table())
    return of_rows(columns.pop("id"), **columns)


def files_of(dataset: Dataset, path: Path, ids: np.ndarray | None = None) -> list[Path]:
    """The manifest, data files and deletion files that a table version refers to; nothing else in the folder counts.

    Args:
        ids: only the manifest and the files that hold rows of these ids.
    """
    # Lance counts manifest names down from 2^64 - 1, so that the latest sorts first.
    found = [path / "_versions" / f"{2**64 - 1 - dataset.version:020d}.manifest"]
    fragments = dataset.get_fragments()
    if ids is not None:
        offsets = positions(dataset, ids)
        ends = np.cumsum([fragment.count_rows() for fragment in fragments])
        fragments = [fragments[place] for place in np.unique(np.searchsorted(ends, offsets[offsets >= 0], side="right"))]
    for fragment in fragments:
        found += [path / "data" / file.path for file in fragment.data_files()]
        deletion = fragment.deletion_file()
        found += [path / deletion] if deletion else []
    return found


def snapshot(
    root: Path, name: str, at: int | None = None, recorded: Mapping[str, str] = MappingProxyType({}), *, content: bool = True
) -> TableState:
    """State of a table now, or at the Lance version ``at``.

    Args:
        recorded: file → digest that is known of it; it is carried over and never taken anew.
        content: also read the rows, for their digest: then the files in ``recorded`` are compared first. Without it, content is ``""``,
            and only files that nobody has recorded are read.

    Raises:
        Damaged: a file that holds the rows is not what was recorded.
    """
    path = path_of(root, name)
    dataset = open_table(root, name, at)
    with lance_errors(path):
        files = [file.relative_to(root).as_posix() for file in files_of(dataset, path)]
        known = {file: recorded[file] for file in files if file in recorded}
        new = [file for file in files if file not in known]
        if content:
            compare(root, known)
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            digests = known | dict(zip(new, pool.map(lambda file: of_file(root / file), new), strict=True))
        said = content_of(dataset) if content else ""
        return TableState(name, dataset.version, dataset.count_rows(), said, dict(sorted(digests.items())))


def different(root: Path, recorded: Mapping[str, str]) -> dict[str, str]:
    """File → ``is missing`` or ``was altered``, for every one of ``recorded`` (path below ``root`` → SHA-256) that is not what it was."""

    def now(name: str) -> str | None:
        try:
            return of_file(root / name)
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        found = zip(recorded.items(), pool.map(now, recorded), strict=True)
        return {name: "is missing" if got is None else "was altered" for (name, wanted), got in found if got != wanted}


def compare(root: Path, recorded: Mapping[str, str], what: str = "the gallery") -> None:
    """Compare files with their digests: before their rows become other rows, an index or a merge of them.

    Args:
        recorded: path below ``root`` → SHA-256. what: whose files they are, for the sentence.

    Raises:
        Damaged: a file is missing or was altered; the sentence names it.
    """
    for name, how in different(root, recorded).items():
        raise Damaged(f"a file of {what} {how}", got=name, where=root, todo=HELP)


def verify(root: Path, state: TableState) -> None:
    """Compare every file of the state with its digest. The table itself is not opened.

    Raises:
        Damaged: a file is missing or was altered; the sentence names file and table.
    """
    with lance_errors(path_of(root, state.table)):
        compare(root, state.files, f"the table {state.table} (version {state.version})")


def verify_content(root: Path, state: TableState) -> None:
    """Read the rows of the state's version and compare their content digest.

    Raises:
        Altered: the rows are not those of the state, or cannot be read.
    """
    try:
        dataset = open_table(root, state.table, state.version)
        with lance_errors(path_of(root, state.table)):
            content = content_of(dataset)
    except (BadInput, OperationFailed) as error:
        raise Altered(f"the rows of {state.table} (version {state.version}) cannot be read", got=str(error), where=root) from error
    if content != state.content:
        raise Altered(f"the rows of {state.table} (version {state.version}) changed", wanted=state.content, got=content, where=root)
