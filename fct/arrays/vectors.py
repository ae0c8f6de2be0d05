"""Vectors as arrays of rows: reading, checking, normalising.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from fct.arrays import flaws
from fct.arrays.files import whole_file
from fct.arrays.shapes import Bool, Float32, Num
from fct.errors import BadInput

NOISE = 1e-3
"""Two runs of one program over one image may differ by rounding (other batch sizes, another device): vectors this close, relative to
their norm, and ψ within one level are the same content.."""
MAGIC = b"\x93NUMPY"
BYTES = {1: "float8?", 2: "bfloat16, as numpy saves it"}  # dtypes that numpy knows by their length alone


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
    except (
        ValueError,
        TypeError,
        SyntaxError,
        TokenError,
        RecursionError,
        MemoryError,
        EOFError,
        OSError,
    ) as error:  # numpy parses its head
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


def check(
    name: str,
    array: np.ndarray,
    *,
    dim: int | None = None,
    rows: int | None = None,
    allow_zero: bool = False,
    alike: bool = False,
    ids: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``array`` if it is a usable (N, D) matrix of finite numbers, else say what is wrong with it.

    Args:
        name: what the user calls the array.
        dim: wanted D, if known.
        rows: wanted N, if known.
        allow_zero: whether rows without a direction are fine (they are for side-information, not for embeddings).
        alike: also refuse rows whose length is far from the others', as :func:`fct.arrays.flaws.find` does for what comes from outside.
        ids: (N,) what its rows are called, if known.

    Raises:
        BadInput: wrong number of axes, dtype, N or D; no rows; rows of any kind of :mod:`fct.arrays.flaws`, all of them said.
    """
    formed(name, array)
    if dim is not None and array.shape[1] != dim:
        raise BadInput(f"{name} has the wrong dimension", wanted=dim, got=array.shape[1])
    if rows is not None and len(array) != rows:
        raise BadInput(f"{name} has the wrong number of rows", wanted=rows, got=len(array), todo="rows must correspond one to one")
    flaws.find(name, array, directions=not allow_zero, alike=alike).refuse(ids)
    return array


def formed(name: str, array: np.ndarray) -> np.ndarray:
    """``array`` if it is a (N, D) matrix of real numbers at all; else :class:`BadInput`."""
    if array.dtype.kind == "V" and array.dtype.names is None:
        raise BadInput(
            f"{name} has a dtype that numpy cannot read",
            wanted="float16, float32 or float64",
            got=f"{array.dtype} ({BYTES.get(array.dtype.itemsize, 'raw bytes')})",
            todo="cast to float32 and save again: array.astype('float32'), tensor.float().numpy()",
        )
    if array.ndim != 2:
        raise BadInput(f"{name} has the wrong shape", wanted="(rows, dimensions)", got=array.shape)
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{name} has the wrong dtype", wanted="float16/32/64 or integers", got=array.dtype)
    if len(array) == 0 or array.shape[1] == 0:
        raise BadInput(f"{name} is empty", wanted="at least one row and one dimension", got=array.shape)
    return array


def normalise(array: Num[np.ndarray, "N D"]) -> Float32[np.ndarray, "N D"]:
    """Rows scaled to L2 norm 1, as float32. Zero rows stay zero."""
    array = np.asarray(array, dtype=np.float32)
    with np.errstate(over="ignore", under="ignore"):
        norm = np.linalg.norm(array, axis=1, keepdims=True)
    odd = np.flatnonzero(~((norm > 1e-15) & (norm < 1e15)).ravel())
    if len(odd):  # squares of tiny or huge numbers leave float32's range; the other rows keep their bits
        array, held = array.copy(), array[odd].astype(np.float64)
        held /= np.maximum(np.abs(held).max(axis=1, keepdims=True, initial=0.0), np.finfo(np.float64).tiny)
        array[odd], norm[odd] = held, np.linalg.norm(held, axis=1, keepdims=True)
    return array / np.maximum(norm, np.finfo(np.float32).tiny)


def differ(one: Num[np.ndarray, "N D"], other: Num[np.ndarray, "N D"]) -> Bool[np.ndarray, " N"]:
    """(N,) whether rows (N, D) differ by more than :data:`NOISE` of their norm."""
    one, other = one.astype(np.float32), other.astype(np.float32)
    return np.linalg.norm(one - other, axis=1) > NOISE * np.linalg.norm(one, axis=1)
