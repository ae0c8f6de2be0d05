"""Rows of a table lie in fragments, each with files of its own: damage to a file is damage to the rows of its fragment, and to no others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from fct.gallery.tables import arrays_of, lance_errors, open_table, path_of


def referring(root: Path, name: str, files: Collection[str]) -> list[int]:
    """Numbers of the fragments of a table, as it is now, that have one of these files (relative to ``root``). No row is read."""
    path, found = path_of(root, name), []
    with lance_errors(path):
        for fragment in open_table(root, name).get_fragments():
            deletion = fragment.deletion_file()
            theirs = [path / "data" / file.path for file in fragment.data_files()] + ([path / deletion] if deletion else [])
            if any(file.relative_to(root).as_posix() in files for file in theirs):
                found.append(int(fragment.fragment_id))
    return found


def others(root: Path, name: str, fragments: Collection[int], columns: list[str]) -> dict[str, np.ndarray]:
    """Columns (N, …) of the rows that are not in these fragments, sorted by id, which is one of ``columns``."""
    dataset = open_table(root, name)
    with lance_errors(path_of(root, name)):
        whole = [one for one in dataset.get_fragments() if one.fragment_id not in fragments]
        rows = arrays_of(dataset.scanner(columns=columns, fragments=whole).to_table())
    order = np.argsort(rows["id"], kind="stable")
    return {column: values[order] for column, values in rows.items()}


def drop(root: Path, name: str, fragments: Collection[int]) -> None:
    """Take fragments out of a table in one commit, unread. Older versions keep them; nothing is removed from the disk.

    Raises:
        OperationFailed: another writer got in between.
    """
    import lance

    if fragments:
        with lance_errors(path_of(root, name)):
            dataset = open_table(root, name)
            going = lance.LanceOperation.Delete(updated_fragments=[], deleted_fragment_ids=sorted(fragments), predicate="true")
            lance.LanceDataset.commit(dataset.uri, going, read_version=dataset.version)
