"""Vectors as arrays of rows: reading, checking, normalising.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from fct.errors import BadInput
from fct.files import whole_file

CHECK_ROWS = 65536
MAGIC = b"\x93NUMPY"


def load(path: str | Path, name: str | None = None) -> np.ndarray:
    """Memory-map the ``.npy`` file at ``path``; object arrays (pickles) are refused.

    Raises:
        BadInput: no such file, not an ``.npy`` file, a single value, or it would need pickle.
    """
    name = name or Path(path).name
    try:
        with open(path, "rb") as file:  # what is no .npy file never reaches numpy, whose message recommends to unpickle it
            if file.read(len(MAGIC)) != MAGIC:
                raise BadInput(f"{name} is not a readable .npy file", where=path, todo="save it with numpy.save(path, array)")
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise BadInput(f"{name}: there is no such file", where=path) from error
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(
            f"{name} is not a readable .npy file of numbers", got=str(error), where=path, todo="save it with numpy.save(path, array)"
        ) from error
    if found.ndim == 0:
        raise BadInput(f"{name} is a single value", wanted="an array of rows", where=path)
    return found


def save(path: str | Path, array: np.ndarray) -> None:
    """Write ``array`` to ``path`` as ``.npy``, whole or not at all."""
    with whole_file(path) as part, open(part, "wb") as file:
        np.save(file, array, allow_pickle=False)


def check(name: str, array: np.ndarray, *, dim: int | None = None, rows: int | None = None, allow_zero: bool = False) -> np.ndarray:
    """Return ``array`` if it is a usable (N, D) matrix of finite numbers, else say what is wrong with it.

    Args:
        name: what the user calls the array.
        dim: wanted D, if known.
        rows: wanted N, if known.
        allow_zero: whether all-zero rows are fine (they are for side-information, not for embeddings).

    Raises:
        BadInput: wrong number of axes, dtype, N or D; no rows; NaN, infinity or a zero-norm row.
    """
    if array.ndim != 2:
        raise BadInput(f"{name} has the wrong shape", wanted="(rows, dimensions)", got=array.shape)
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{name} has the wrong dtype", wanted="float16/32/64 or integers", got=array.dtype)
    if len(array) == 0 or array.shape[1] == 0:
        raise BadInput(f"{name} is empty", wanted="at least one row and one dimension", got=array.shape)
    if dim is not None and array.shape[1] != dim:
        raise BadInput(f"{name} has the wrong dimension", wanted=dim, got=array.shape[1])
    if rows is not None and len(array) != rows:
        raise BadInput(f"{name} has the wrong number of rows", wanted=rows, got=len(array), todo="rows must correspond one to one")
    for start in range(0, len(array), CHECK_ROWS):
        block = array[start : start + CHECK_ROWS]
        if array.dtype.kind == "f" and not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block).all(axis=1)))
            raise BadInput(f"{name} contains NaN or infinity", where=f"row {row}")
        if not allow_zero and not block.any(axis=1).all():
            row = start + int(np.argmin(block.any(axis=1)))
            raise BadInput(
                f"{name} contains a zero-norm vector", where=f"row {row}", todo="such a vector has no direction and cannot be searched"
            )
        _forget(array)
    return array


def _forget(array: np.ndarray) -> None:
    """Give back the pages of a memory-mapped file that were only read, so that checking 1,000,000 rows does not fill the memory."""
    pages = getattr(array, "_mmap", None)
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def normalise(array: np.ndarray) -> np.ndarray:
    """Rows scaled to L2 norm 1, as float32. Zero rows stay zero."""
    array = np.asarray(array, dtype=np.float32)
    norm = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.maximum(norm, np.finfo(np.float32).tiny)
