"""The one door for input columns: an ``.npy`` file, or a column of a Parquet file or a Lance table.

``vectors.npy``, ``table.parquet::column``, ``table.lance::column``. A column of lists of one length becomes (N, D), one of numbers or
texts (N,). Legend: N rows, D dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fct.arrays import flaws, vectors
from fct.arrays import texts as exact
from fct.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".parquet", ".lance")
BETWEEN = "::"
NO_ID = "no id (null or empty)"


def split(spec: str | Path) -> tuple[Path, str | None]:
    """Path and column of ``spec``; the column is None unless what stands before ``::`` is a table."""
    path, between, column = str(spec).rpartition(BETWEEN)
    if between and (path.endswith(TABLES) or Path(path).is_dir()):
        return Path(path), column
    return Path(spec), None


def read(spec: str | Path, name: str, ids: np.ndarray | None = None) -> np.ndarray:
    """The column that ``spec`` names.

    Args:
        spec: a path ending in .npy (memory-mapped, not read), or ``table.parquet::column``, ``table.lance::column`` (read whole).
        name: what the user calls it, for errors. ids: (N,) what its rows are called, if known.

    Returns:
        (N, D) or (N,), read-only; numbers keep their dtype, texts are numpy str.

    Raises:
        BadInput: no such file, table or column; a table without a column; null values, lists of different lengths, values that are
            neither numbers nor texts; an .npy file that needs pickle or is damaged; a folder of Parquet files.
    """
    values, kinds = rows(spec, name)
    if kinds:
        flaws.find(name, values, kinds).refuse(ids) if values.ndim == 2 else flaws.Flaws(name, len(values), kinds).refuse(ids)
    return values


def rows(spec: str | Path, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """As :func:`read`, with kinds of :mod:`fct.arrays.flaws` → rows that hold no such value; their numbers are zeros and mean nothing."""
    path, _ = split(spec)
    if not str(path).endswith(TABLES):
        one_file(path, name)
        return vectors.load(path, name), {}
    from fct.arrays import arrow

    return arrow.array(*_table_column(spec, name))


def texts(spec: str | Path, name: str) -> np.ndarray:
    """(N,) integers or str: a column of sources or the like by the rule of :mod:`fct.arrays.texts`; null becomes "". Raises: as there, and as :func:`read`."""
    if str(split(spec)[0]).endswith(TABLES):
        values = listed(spec, name)
        if None in values:
            return exact.array(name, values)
    return labels(spec, name)


def ids(spec: str | Path, name: str) -> np.ndarray:
    """(N,) integers or str: the same of ids, of which none may be missing (:class:`BadInput`)."""
    found = texts(spec, name)
    absent = np.flatnonzero(found == "") if found.dtype.kind == "U" else np.empty(0, dtype=np.int64)
    flaws.Flaws(name, len(found), {NO_ID: absent} if len(absent) else {}).refuse()
    return found


def labels(spec: str | Path, name: str) -> np.ndarray:
    """(N,) integers, negative = unknown, where labels are whole numbers; else (N,) str, "" = unknown. Null is unknown."""
    path, _ = split(spec)
    if not str(path).endswith(TABLES):
        if not _is_array(path, name):
            return exact.array(name, list(exact.lines(name, path)))
        found = np.asarray(vectors.load(path, name))
        if found.ndim == 1 and found.dtype.kind in "iu":
            return found
        return exact.whole(name, found) if found.ndim == 1 and found.dtype.kind == "f" else exact.of_array(name, found)
    from fct.arrays import arrow

    _, column, where = _table_column(spec, name)
    values = arrow.texts(name, column, where)
    if not arrow.is_number(column.type):
        return exact.array(name, values)
    numbers = [-1 if one is None else int(one) for one in values]
    if max(numbers, default=0) <= np.iinfo(np.int64).max:
        return np.array(numbers, dtype=np.int64)
    return exact.array(name, ["" if one < 0 else str(one) for one in numbers])


def listed(spec: str | Path, name: str) -> list[str | None]:
    """(N,) texts by the rule of :mod:`fct.arrays.texts`, of a table's column, an ``.npy`` file, or a text file with one value a line."""
    path, _ = split(spec)
    if str(path).endswith(TABLES):
        from fct.arrays import arrow

        _, column, where = _table_column(spec, name)
        return arrow.texts(name, column, where)
    if not _is_array(path, name):
        return list(exact.lines(name, path))
    return list(exact.of_array(name, vectors.load(path, name)).tolist())


def _table_column(spec: str | Path, name: str) -> tuple[str, pa.Array, str]:
    """What the user calls the column, its values, and where it is."""
    path, column = split(spec)
    one_file(path, name)
    known = names(path, name)
    if column is None or column == "":
        raise BadInput(f"{name}: say which column of the table", wanted=f"{path}{BETWEEN}COLUMN, one of {', '.join(known)}")
    if column not in known:
        raise BadInput(f"{name}: the table has no such column", wanted=f"one of {', '.join(known)}", got=column, where=path)
    with _unreadable(name, path):
        return name, _column(path, column), f"{path}{BETWEEN}{column}"


def _is_array(path: Path, name: str) -> bool:
    """Whether a file is an ``.npy`` file, by its name or its first bytes; else it is text, one value a line."""
    one_file(path, name)
    if path.suffix == ".npy" or not path.exists():
        return True
    with open(path, "rb") as file:
        return file.read(len(vectors.MAGIC)) == vectors.MAGIC


def one_file(path: Path, name: str) -> None:
    """Refuse a folder (:class:`BadInput`): of part files one would be taken for the whole. And a pipe or a device, which may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadInput(f"{name} is not a plain file", where=path)
    if not path.is_dir() or path.suffix == ".lance":
        return
    parts = sorted(one for one in path.rglob("*.parquet") if one.is_file())
    if not parts:
        raise BadInput(f"{name} is a folder", wanted="one file", where=path)
    keys = sorted({part.partition("=")[0] for one in parts for part in one.relative_to(path).parts[:-1] if "=" in part})
    raise BadInput(
        f"{name} is a folder of {len(parts)} Parquet part files" + (f", with {', '.join(keys)} in the names of folders" if keys else ""),
        wanted="one file",
        where=path,
        todo='merge them: python -c "import pyarrow.dataset as d, pyarrow.parquet as p; '
        "p.write_table(d.dataset('FOLDER', partitioning='hive').to_table(), 'one.parquet')\"",
    )


def near_misses(path: Path, known: Iterable[str], wanted: Iterable[str]) -> None:
    """Refuse a table that lacks a column of ``wanted`` and has one of nearly that name, or has it in a folder's name: it would be passed over.

    Raises:
        BadInput: such a column.
    """
    known = list(known)
    plain = {_plain(name): name for name in known}
    folders = {part.partition("=")[0] for part in path.absolute().parts[:-1] if "=" in part}
    for name in wanted:
        near = plain.get(_plain(name)) if name not in known else None
        if near is not None:
            todo = f"rename it to {name}; or, if it is something else, to anything else"
            raise BadInput(
                f"the table has no column {name}, but a column with nearly that name", wanted=name, got=near, where=path, todo=todo
            )
        if name not in known and name in folders:
            raise BadInput(f"only the name of the file's folder holds the column {name}", where=path, todo="write it into the table")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold().removesuffix("s")


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
    one_file(path, name)
    with _unreadable(name, path):
        return _names(path)


def _names(path: Path) -> list[str]:
    if path.suffix == ".lance":
        return list(_lance(path).schema.names)
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def _lance(path: Path) -> Any:
    """A Lance table whose rows all lie in its own folder: a clone names another place, on this machine or a host, and a link leads to one.

    Raises:
        BadInput: it takes rows from elsewhere. They are not read.
    """
    import lance

    root = path.resolve()
    away = [str(one) for one in path.rglob("*") if not one.resolve().is_relative_to(root)]
    found = None if away else lance.dataset(str(path))
    if found is not None:
        away = [str(base.path) for base in found.base_paths().values()]
    if away:
        todo = "copy it whole: lance.write_dataset(lance.dataset('TABLE'), 'COPY')"
        raise BadInput("a Lance table takes its rows from another place", got=away[0], where=path, todo=todo)
    return found


def _column(path: Path, column: str) -> pa.Array:
    import pyarrow as pa

    if path.suffix == ".lance":
        found = _lance(path).scanner(columns=[column], scan_in_order=True).to_table().column(0)
    else:
        import pyarrow.parquet as pq

        found = pq.read_table(path, columns=[column], partitioning=None).column(0)
    return pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
