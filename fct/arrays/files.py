"""Files that are either absent or whole: everything is written beside its place and then renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fct.errors import BadInput, OperationFailed


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn ENOSPC, EROFS and EACCES into one sentence that names the place (:class:`OperationFailed`)."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OperationFailed(
                "the disk is full", where=where, todo="free some space and run the same command again", code="disk-full"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES):
            raise OperationFailed(f"cannot write ({error.strerror})", where=where, todo="check its permissions") from error
        raise


def beside(path: Path, what: str) -> Path:
    """A name next to ``path`` that nobody else takes: two containers share a folder, and have the same process numbers."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{what}")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; when the block ends well it is renamed to ``path``, else removed."""
    path = Path(path)
    part = beside(path, "part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a new empty folder; when the block ends well it takes the place of ``path``, else it is removed."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise BadInput("the result is a folder, but a file has that name", where=path, todo="choose another name or move the file")
    part = beside(path, "part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        try:
            yield part
            if path.exists():
                old = beside(path, "old")
                os.replace(path, old)
                os.replace(part, path)
                shutil.rmtree(old)
            else:
                os.replace(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as readable JSON with sorted keys, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or damaged one is :class:`~fct.errors.BadInput`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_none)
    except FileNotFoundError as error:
        raise BadInput("a file is missing", wanted=Path(path).name, where=Path(path).parent) from error
    except (ValueError, RecursionError) as error:
        raise BadInput("a file is not valid JSON", got=str(error), where=path) from error


def _none(constant: str) -> None:
    """JSON has no NaN and no infinity; what Python would read so has no digest."""
    raise ValueError(f"{constant} is no number")


def read_object(path: str | Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds an object with at least these keys; anything else is :class:`~fct.errors.BadInput`."""
    found = read_json(path)
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        got = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise BadInput(
            "a file holds something else", wanted=f"an object with {', '.join(keys)}".removesuffix(" with "), got=got, where=path
        )
    return found


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk: success is reported only for what outlives a power cut."""
    with disk_errors(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
