"""What a command is given beside arrays, checked at the door: a seed, and the places of its results before hours are spent on them."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path

from fct.errors import BadInput


def seed(value: int) -> int:
    """``value`` where it can seed a generator.

    Raises:
        BadInput: no whole number, or a negative one.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise BadInput("the seed cannot be used", wanted="a whole number from 0", got=value)
    return value


def place(path: str | Path, *, holds: tuple[str, ...] | None = None) -> Path:
    """``path`` where a result can be written.

    Args:
        holds: None for a file. For a folder, the names of the files that make it: a folder there is replaced only if it holds nothing else.

    Raises:
        BadInput: a folder lies where a file is to go (or the reverse), a file lies where a folder above it is needed, or a folder
            there holds something else, which would be lost.
    """
    path = Path(path)
    above = next((folder for folder in path.absolute().parents if folder.exists()), path.absolute().parent)
    if above.exists() and not above.is_dir():
        raise BadInput("the result cannot be written: what should be a folder is a file", got=above)
    if holds is None and path.is_dir():
        raise BadInput("the result is a file, but a folder has that name", got=path, todo="give the name of a file")
    if holds is not None and path.exists() and not path.is_dir():
        raise BadInput("the result is a folder, but a file has that name", got=path, todo="give the name of a folder")
    if holds is not None and path.is_dir():
        other = sorted(found.name for found in path.iterdir() if found.name not in holds)
        if other:
            raise BadInput("the folder holds something else, which would be lost", got=other[0], where=path, todo="give another name")
    return path
