"""The door to Lance: tables whose rows have one unique id, and what it takes to trust one version of them.

A table is created once with its schema and then only gains rows (:func:`insert_new`), loses rows (:func:`delete_rows`)
or is dropped. ``id`` is declared the table's key, and rows are inserted by merging on it: of two writers that race to add
the same id, Lance lets one commit and tells the other to look again, in whatever process it runs. (A plain append would let both in.)
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fct.arrays.files import beside, disk_errors
from fct.errors import BadInput, OperationFailed

if TYPE_CHECKING:
    import pyarrow as pa
    from lance import LanceDataset as Dataset
    from pyarrow import Table as Rows

Chosen = TypeVar("Chosen", "Rows", np.ndarray)
KEY = {"lance-schema:unenforced-primary-key": "true"}
HELP = "`fct status --verify` says what helps: `fct repair`, or a backup"
ATTEMPTS = 12


def path_of(root: Path, name: str) -> Path:
    """Folder of the table ``name``, for example ``features/v1``."""
    return root / f"{name}.lance"


def names(root: Path) -> list[str]:
    """Names of the tables below ``root``, sorted."""
    found = [path for pattern in ("*.lance", "*/*.lance") for path in root.glob(pattern) if (path / "_versions").is_dir()]
    return sorted(path.relative_to(root).as_posix().removesuffix(".lance") for path in found if not path.name.startswith("."))


@contextmanager
def lance_errors(where: Path) -> Iterator[None]:
    """Turn what Lance raises for a full disk or a damaged file into one sentence (:class:`OperationFailed`).

    Lance reports the system's error number in its message only, so it is read from there.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and type(error).__module__ != "pyarrow.lib":
            raise
        text = str(error)
        number = re.search(r"os error (\d+)", text)
        code = getattr(error, "errno", None) or (int(number[1]) if number else errno.ENOSPC if "No space left" in text else None)
        with disk_errors(where):
            if code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise OSError(code, os.strerror(code)) from error
        reason = os.strerror(code) if code else text.split(", /")[0]
        raise OperationFailed(
            "a table could not be read or written", got=reason, where=where, todo="every commit is atomic, so no row is half-written"
        ) from error


def schema_of(columns: Mapping[str, tuple[str, int | None]], metadata: Mapping[str, str]) -> pa.Schema:
    """Schema with the key ``id`` and ``columns``: name → (Arrow type name, length of a fixed-size list or None)."""
    import pyarrow as pa

    fields = [pa.field("id", pa.string(), nullable=False, metadata=KEY)]
    for name, (kind, length) in columns.items():
        scalar = pa.type_for_alias(kind)
        fields.append(pa.field(name, scalar if length is None else pa.list_(scalar, length), nullable=False))
    return pa.schema(fields, metadata=dict(metadata))


def table_of(schema: pa.Schema, columns: Mapping[str, np.ndarray | Sequence[str]]) -> Rows:
    """Arrow table of arrays: strings, (N,) numbers or (N, D) numbers for fixed-size lists."""
    import pyarrow as pa

    arrays = []
    for field in schema:
        values = np.asarray(columns[field.name])
        if values.ndim == 2:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), type=field.type))
        else:
            arrays.append(pa.array(values.tolist() if values.dtype.kind in "OUS" else values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def arrays_of(table: Rows) -> dict[str, np.ndarray]:
    """Numpy arrays of an Arrow table's columns: (N,) str, (N,) numbers or (N, D) numbers."""
    import pyarrow as pa

    arrays = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
            empty = np.empty(0, dtype=column.type.value_type.to_pandas_dtype())
            arrays[name] = np.concatenate([empty, *parts]).reshape(len(column), column.type.list_size)
        else:
            values = column.to_numpy()
            arrays[name] = values.astype(str) if pa.types.is_string(column.type) else values
    return arrays


def open_table(root: Path, name: str, at: int | None = None) -> Dataset:
    """The table at its latest version, or at the Lance version ``at``.

    Raises:
        BadInput: no such table or version; the sentence names those that exist.
    """
    import lance

    path = path_of(root, name)
    if not (path / "_versions").is_dir():
        raise BadInput(f"the gallery has no table {name}", wanted="one of " + (", ".join(names(root)) or "none yet"), where=root)
    with lance_errors(path):
        try:
            return lance.dataset(path, version=at)
        except (ValueError, OverflowError) as error:
            if at is None:
                raise OperationFailed(f"the table {name} cannot be opened", got=str(error).split(", /")[0], where=root) from error
            latest = lance.dataset(path).version
            raise BadInput(f"the table {name} has no version {at}", wanted=f"one kept, at most {latest}", where=root) from error


def create(root: Path, name: str, schema: pa.Schema) -> bool:
    """Create an empty table in one commit. False where the table is there already (also when another writer was faster)."""
    import lance

    path = path_of(root, name)
    if (path / "_versions").is_dir():
        return False
    with lance_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lance.write_dataset(schema.empty_table(), path, schema=schema, mode="create")
        except OSError:
            with suppress(OSError, ValueError):
                lance.dataset(path)
                return False  # another writer was faster
            raise
    return True


def drop(root: Path, name: str) -> bool:
    """Remove a table for good; it leaves the gallery in one rename. False where there was none."""
    path = path_of(root, name)
    if not path.is_dir():
        return False
    going = beside(path, "dropped")
    with disk_errors(path):
        os.replace(path, going)
        shutil.rmtree(going)
    return True


def _conflict(error: OSError) -> bool:
    return any(mark in str(error) for mark in ("commit conflict", "Too many concurrent writers"))


def _commit(root: Path, name: str, choose: Callable[[Dataset], Chosen], write: Callable[[Dataset, Chosen], Any]) -> Chosen:
    """Write what ``choose`` picks, in one commit, and return it.

    ``choose`` is shown the table as it is and asked again when another writer got in between, so what it decides on (which ids are there
    already, what their rows say, whether a lock is still held) holds at the commit: that lands on the rows that ``choose`` was shown or
    not at all, also where an id is there again meanwhile. It may raise; then nothing is written.
    """
    path = path_of(root, name)
    for attempt in range(ATTEMPTS):
        dataset = open_table(root, name)
        with lance_errors(path):
            chosen = choose(dataset)
            try:
                if len(chosen):
                    write(dataset, chosen)  # without retries of Lance's own, which would look for the ids in the table as it is by then
                return chosen
            except OSError as error:
                if not _conflict(error):
                    raise
        time.sleep(0.005 * 2**attempt * (1 + random.random()))  # processes that collided once should not march in step
    raise OperationFailed(f"other writers keep changing the table {name}", where=root, todo="run the same command again")


def insert_new(root: Path, name: str, choose: Callable[[Dataset], Rows]) -> np.ndarray:
    """Add the rows that ``choose`` picks (:func:`_commit`), of ids that are not there, and return their ids."""
    rows = _commit(
        root, name, choose, lambda dataset, new: dataset.merge_insert("id").when_not_matched_insert_all().conflict_retries(0).execute(new)
    )
    return arrays_of(rows.select(["id"]))["id"]


def positions(dataset: Dataset, ids: np.ndarray) -> np.ndarray:
    """Row offset of each id in the table, -1 where it is absent. (N,) int64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = dataset.to_table(columns=["id"])["id"].combine_chunks()
    return pc.index_in(pa.array(ids.tolist(), type=pa.string()), there).fill_null(-1).to_numpy().astype(np.int64)


def take(dataset: Dataset, offsets: np.ndarray, columns: list[str]) -> dict[str, np.ndarray]:
    """Rows at ``offsets`` in that order, as arrays."""
    return arrays_of(dataset.take(offsets.tolist(), columns=columns))


def delete_rows(root: Path, name: str, choose: Callable[[Dataset], np.ndarray]) -> int:
    """Mark the rows of the ids that ``choose`` picks (:func:`_commit`) deleted; all of them are there. Returns how many went.

    The bytes stay in older versions until those are cleaned up.
    """

    def write(dataset: Dataset, ids: np.ndarray) -> None:
        quoted = ", ".join("'" + one.replace("'", "''") + "'" for one in ids.tolist())
        dataset.delete(f"id IN ({quoted})", conflict_retries=0)

    return len(_commit(root, name, choose, write))


def replace_rows(root: Path, name: str, choose: Callable[[Dataset], Rows]) -> np.ndarray:
    """Write the rows that ``choose`` picks (:func:`_commit`) for ids that are there, and return their ids. Older versions keep what they had."""
    rows = _commit(
        root, name, choose, lambda dataset, new: dataset.merge_insert("id").when_matched_update_all().conflict_retries(0).execute(new)
    )
    return arrays_of(rows.select(["id"]))["id"]


def compact(root: Path, name: str) -> None:
    """Rewrite the rows without the deleted ones, as a new version; unchanged where none is deleted and one file holds all."""
    with lance_errors(path_of(root, name)):
        open_table(root, name).optimize.compact_files(materialize_deletions=True, materialize_deletions_threshold=0.0)


def versions(root: Path, name: str) -> list[int]:
    """Versions of a table that are there, ascending; the last is its latest."""
    with lance_errors(path_of(root, name)):
        return sorted(int(one["version"]) for one in open_table(root, name).versions())


def old_versions(root: Path, name: str, wanted: Container[int]) -> list[int]:
    """Versions that may go: not the latest, not ``wanted``, and not those that a reader has pinned by a tag of Lance's."""
    with lance_errors(path_of(root, name)):
        dataset = open_table(root, name)
        pinned = {int(tag["version"]) for tag in dataset.tags.list().values()}
    return [one for one in versions(root, name)[:-1] if one not in wanted and one not in pinned]


def forget_versions(root: Path, name: str, versions: Sequence[int]) -> None:
    """Remove these versions, of those that are there, with the files that only they refer to.

    Others may be writing: their files are not touched, nor what a writer that was cut short has left within seven days (Lance's own rule).
    A version's number and a file's name are used once, so this removes the same whenever it runs.
    """
    with lance_errors(path_of(root, name)):
        dataset = open_table(root, name)
        there = {int(one["version"]) for one in dataset.versions()}
        if chosen := [one for one in versions if one in there]:
            dataset.cleanup_old_versions(versions=chosen, error_if_tagged_old_versions=False)
