"""The one door for input columns: an ``.npy`` file, or a column of a Parquet file or a Lance table.

``vectors.npy``, ``table.parquet::column``, ``table.lance::column``. A column of lists of one length becomes (N, D), one of numbers or
texts (N,). Legend: N rows, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fct import vectors
from fct.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".parquet", ".lance")
BETWEEN = "::"


def split(spec: str | Path) -> tuple[Path, str | None]:
    """Path and column of ``spec``; the column is None unless what stands before ``::`` is a table."""
    path, between, column = str(spec).rpartition(BETWEEN)
    if between and path.endswith(TABLES):
        return Path(path), column
    return Path(spec), None


def read(spec: str | Path, name: str) -> np.ndarray:
    """The column that ``spec`` names.

    Args:
        spec: a path ending in .npy (memory-mapped, not read), or ``table.parquet::column``, ``table.lance::column`` (read whole).
        name: what the user calls it, for errors.

    Returns:
        (N, D) or (N,), read-only; numbers keep their dtype, texts are numpy str.

    Raises:
        BadInput: no such file, table or column; a table without a column; null values, lists of different lengths, values that are
            neither numbers nor texts; an .npy file that needs pickle or is damaged.
    """
    path, column = split(spec)
    if not str(path).endswith(TABLES):
        return vectors.load(path, name)
    known = names(path, name)
    if column is None or column == "":
        raise BadInput(f"{name}: say which column of the table", wanted=f"{path}{BETWEEN}COLUMN, one of {', '.join(known)}")
    if column not in known:
        raise BadInput(f"{name}: the table has no such column", wanted=f"one of {', '.join(known)}", got=column, where=path)
    with _unreadable(name, path):
        values = _column(path, column)
    return _array(values, name, f"{path}{BETWEEN}{column}")


@contextmanager
def _unreadable(name: str, path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise BadInput(f"{name} cannot be read as a table", got=first.split(", /")[0], where=path) from error


def names(path: Path, name: str) -> list[str]:
    """The columns of a Parquet file or a Lance table; ``name``: what the user calls it, for errors.

    Raises:
        BadInput: there is no such table, or it cannot be read.
    """
    if not path.exists():
        raise BadInput(f"{name}: there is no such table", where=path)
    with _unreadable(name, path):
        return _names(path)


def _names(path: Path) -> list[str]:
    if path.suffix == ".lance":
        import lance

        return list(lance.dataset(str(path)).schema.names)
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def _column(path: Path, column: str) -> pa.Array:
    import pyarrow as pa

    if path.suffix == ".lance":
        import lance

        found = lance.dataset(str(path)).scanner(columns=[column], scan_in_order=True).to_table().column(0)
    else:
        import pyarrow.parquet as pq

        found = pq.read_table(path, columns=[column], partitioning=None).column(0)
    return pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)


def _array(values: pa.Array, name: str, where: str) -> np.ndarray:
    import pyarrow as pa

    _no_nulls(values, 1, name, where)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind, width = values.type, None
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        values = values.flatten()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = values.value_lengths().to_numpy()
        width = int(lengths[0]) if len(lengths) else 0
        if (lengths != width).any():
            row = int(np.argmax(lengths != width))
            raise BadInput(f"{name} has lists of different lengths", wanted=width, got=int(lengths[row]), where=f"{where}, row {row}")
        values = values.flatten()
    if width is not None:
        _no_nulls(values, max(1, width), name, where)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type):
        found = values.to_numpy(zero_copy_only=False)
    elif width is None and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        found = np.array(values.to_pylist(), dtype=np.str_)
    else:
        raise BadInput(f"{name} has a type that cannot be used", wanted="numbers, texts or lists of numbers", got=kind, where=where)
    return found if width is None else found.reshape(-1, width)


def _no_nulls(values: pa.Array, each: int, name: str, where: str) -> None:
    """Refuse null values; ``each`` of them make a row."""
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // each
        raise BadInput(f"{name} has a null value", where=f"{where}, row {row}", todo="fill it or leave the row out")
