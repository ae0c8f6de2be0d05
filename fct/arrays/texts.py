"""Ids, labels and sources as exact texts: one rule for every door.

Texts are taken as they are; whole numbers become their digits, UUIDs their usual form. What has no one text (fractions, bytes, dates, whole
numbers in floats that may have been rounded) is refused with the cast to make. Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fct.errors import BadInput

EXACT = {2: 2.0**11, 4: 2.0**24, 8: 2.0**53}  # bytes of a float → from where on it has one number for several whole ones
HELD, WASTED = 1 << 30, 8  # numpy gives every row the room of the longest text: at most so many bytes, or times what the texts need
CASTS = {
    "float": "cast to int64 or text where they are made: large whole numbers fall together in floats, and fractions have many spellings",
    "bytes": "cast to text: UUIDs as str(uuid.UUID(bytes=…)), other bytes as hex, text as UTF-8",
    "other": "cast to text",
}


def of_array(name: str, values: np.ndarray) -> np.ndarray:
    """(N,) str of ``values`` (N,): texts, bytes in UTF-8, or whole numbers.

    Raises:
        BadInput: another shape or dtype; fractions; floats from 2^53 on; NaN; texts that cannot be stored.
    """
    if values.ndim != 1:
        raise BadInput(f"{name} have the wrong shape", wanted="one value a row", got=values.shape)
    kind = values.dtype.kind
    if kind == "U":
        return _checked(name, values)
    if kind == "O" and all(isinstance(one, str) for one in values):
        return array(name, values.tolist())
    if kind == "S":
        try:
            return _checked(name, np.char.decode(np.asarray(values), "utf-8"))
        except UnicodeDecodeError as error:
            raise refused(name, values.dtype, CASTS["bytes"]) from error
    if kind in "iu":
        return values.astype(str)
    if kind == "f":
        return whole(name, values).astype(str)
    raise refused(name, values.dtype, CASTS["bytes" if kind == "V" else "other"])


def storable(one: str) -> bool:
    """Whether a text can be stored as it is: in UTF-8, which has no form for half a character, and without NUL, where numpy would cut it off."""
    try:
        return b"\0" not in one.encode()
    except UnicodeEncodeError:
        return False


def _checked(name: str, values: np.ndarray) -> np.ndarray:
    """``values`` (N,) of numpy's texts, as they are, where all can be stored: a file may hold numbers in them that are no characters.

    Raises:
        BadInput: one cannot, by its row.
    """
    values = np.asarray(values)
    if not values.nbytes:
        return values
    points = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).view(np.uint32).reshape(len(values), -1)
    odd = (points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))
    odd[:, :-1] |= (points[:, :-1] == 0) & (points[:, 1:] != 0)
    if odd.any():
        row = int(odd.any(axis=1).argmax())
        raise _unstorable(name, row, f"U+{points[row, odd[row].argmax()]:04X}")
    return values


def _unstorable(name: str, row: int, got: str) -> BadInput:
    return BadInput(f"{name} hold a value that cannot be stored", wanted="texts in UTF-8 without NUL", got=got, where=f"row {row}")


def whole(name: str, values: np.ndarray) -> np.ndarray:
    """(N,) int64 of floats (N,) that are whole and exact. Raises: as :func:`of_array`."""
    if np.isnan(values).any():
        raise BadInput(
            f"{name} contain NaN", where=f"row {int(np.isnan(values).argmax())}", todo="give an unknown label as −1 or an empty text"
        )
    wrong = (values != np.round(values)) | (np.abs(values) >= EXACT.get(values.dtype.itemsize, EXACT[8]))
    if wrong.any():
        raise BadInput(
            f"{name} have no exact text", got=f"{values.dtype} {values[wrong][0]}", where=f"row {int(wrong.argmax())}", todo=CASTS["float"]
        )
    return values.astype(np.int64)


def refused(name: str, got: object, todo: str) -> BadInput:
    """What is raised about a column of the type ``got`` that has no exact text; ``todo``: one of :data:`CASTS`."""
    return BadInput(f"{name} have a type without an exact text", wanted="texts, whole numbers or UUIDs", got=got, todo=todo)


def array(name: str, values: Sequence[str | None]) -> np.ndarray:
    """(N,) str; None becomes "".

    Raises:
        BadInput: a text that cannot be stored (:func:`storable`); one so long that the column would not fit into memory.
    """
    lengths = [len(one or "") for one in values]
    longest = max(lengths, default=0)
    room = 4 * longest * len(values)
    if room > HELD and room > WASTED * 4 * sum(lengths):
        raise BadInput(
            f"{name} hold a text that is too long",
            got=f"{longest:,} characters, for which all {len(values):,} rows together would take {room / 1e9:.1f} GB",
            where=f"row {lengths.index(longest)}",
            todo="shorten it, or leave the row out",
        )
    odd = next((row for row, one in enumerate(values) if one and not storable(one)), None)
    if odd is not None:
        raise _unstorable(name, odd, ascii(values[odd])[:200])
    return np.array(["" if one is None else one for one in values], dtype=str)


def lines(name: str, path: Path) -> list[str]:
    """One value a line of a text file in UTF-8, with or without a byte order mark; only line feeds end a line, for ids may hold the rest.

    Raises:
        BadInput: no such file, or not UTF-8.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} cannot be read", got=error, where=path, todo="one value a line, UTF-8, or .npy") from error
    found = content.split("\n")
    return [one.removesuffix("\r") for one in (found[:-1] if found[-1] == "" else found)]


def alike(name: str, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two columns (N,) and (M,) that are to be compared, as whole numbers of one kind or as texts; negative labels become "" beside texts.

    Raises:
        BadInput: as :func:`of_array`.
    """
    first, second = (whole(name, one) if one.dtype.kind == "f" else one for one in (first, second))
    kinds = {first.dtype.kind, second.dtype.kind}
    if len(kinds) == 1 and kinds <= set("iu"):
        return first, second
    mixed = "U" in kinds or "S" in kinds or "O" in kinds

    def text(one: np.ndarray) -> np.ndarray:
        found = of_array(name, one)
        return np.where(one < 0, "", found) if mixed and name == "labels" and one.dtype.kind == "i" else found

    return text(first), text(second)
