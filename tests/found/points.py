"""A point: what was wrong, what holds now, its tests, and the text that brings the fault back."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Undo:
    """``old`` stands exactly once in ``file`` and is replaced by ``new``."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Raises ``ValueError`` where the text is not there exactly once: the code moved on, and this file must follow."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has the text of an undo {count} times, wanted once: {self.old.splitlines()[0]!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Point:
    name: str
    found: str
    now: str
    decided: str
    tests: tuple[str, ...]
    undo: tuple[Undo, ...]


def points() -> list[Point]:
    """All points, A1 before A2 before A10."""

    def order(path: Path) -> tuple[str, int, str]:
        letter, number, rest = re.fullmatch(r"([A-Z]+)(\d+)(.*)", path.stem).groups()  # type: ignore[union-attr]
        return letter, int(number), rest

    return [_read(path) for path in sorted(FOLDER.glob("*.toml"), key=order)]


def _read(path: Path) -> Point:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    undo = tuple(Undo(**one) for one in data.pop("undo"))
    return Point(path.stem, data.pop("found"), data.pop("now"), data.pop("decided", ""), tuple(data.pop("tests")), undo, **data)


def functions(node: str) -> Iterator[str]:
    """The names in a node id: classes and the function, without what is in brackets."""
    yield from node.split("[")[0].split("::")[1:]
