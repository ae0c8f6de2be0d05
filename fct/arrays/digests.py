"""SHA-256 digests of files, JSON values and rows.

Two kinds for a table: *content* (what the rows say: equal for two runs that made the same) and *files* (the very bytes:
nothing was touched since).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BLOCK_ROWS = 4096


def of_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def of_file(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_files(paths: Iterable[str | Path], root: str | Path) -> dict[str, str]:
    """Digest of each file, keyed by its path relative to ``root`` (POSIX, sorted)."""
    root = Path(root)
    return {path.relative_to(root).as_posix(): of_file(path) for path in sorted(map(Path, paths))}


def of_folder(root: str | Path) -> dict[str, str]:
    """Digest of every file below ``root``, keyed by relative POSIX path."""
    return of_files((path for path in Path(root).rglob("*") if path.is_file()), root)


def of_json(value: Any) -> str:
    """Digest of the canonical JSON form (sorted keys, no spaces, no NaN)."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode())


def of_array(array: np.ndarray) -> str:
    """Digest of dtype, shape and values in C order."""
    import numpy as np

    head = f"{array.dtype.str}{list(array.shape)}".encode()
    return of_bytes(head + np.ascontiguousarray(array).tobytes())


def of_rows(ids: np.ndarray, **columns: np.ndarray) -> str:
    """Content digest of rows: a root over blocks of :data:`BLOCK_ROWS` rows sorted by id.

    The order in which the rows were written does not matter, the values and the names of the columns do.

    Args:
        ids: (N,) unique strings.
        columns: arrays with N rows each; strings or numbers of any dtype.
    """
    import numpy as np

    ids = np.asarray(ids, dtype=str)
    order = np.argsort(ids, kind="stable")
    root = hashlib.sha256()
    for start in range(0, max(len(ids), 1), BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        block = hashlib.sha256("\0".join(ids[rows]).encode())
        for name in sorted(columns):
            values = np.asarray(columns[name])[rows]
            block.update(f"|{name}|{values.dtype.kind}{values.shape[1:]}|".encode())
            block.update("\0".join(map(str, values)).encode() if values.dtype.kind in "OUS" else np.ascontiguousarray(values).tobytes())
        root.update(block.digest())
    return root.hexdigest()
