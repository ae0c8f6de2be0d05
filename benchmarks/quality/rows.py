"""The recorded rows: one JSON-lines file a suite, a row a line, sorted by name, so that the same rows are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fct.arrays.files import whole_file
from fct.errors import BadInput

ROWS = Path(__file__).parents[1] / "results/quality"
Row = dict[str, Any]


def suite_file(folder: Path, suite: str) -> Path:
    return folder / f"{suite}.jsonl"


def load(folder: Path) -> list[Row]:
    """All rows of a folder, by suite and name."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in read(path)]


def read(path: Path) -> list[Row]:
    """The rows of one suite; none where there is no file. A damaged line is :class:`~fct.errors.BadInput`."""
    return list(_read(path)) if path.exists() else []


def _read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadInput("a line is not valid JSON", got=str(error), where=f"{path}, line {number}") from error


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows of one suite, sorted by name, whole or not at all."""
    lines = [json.dumps(row, sort_keys=True, allow_nan=False, ensure_ascii=False) for row in sorted(rows, key=lambda row: row["name"])]
    with whole_file(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def put(folder: Path, row: Row) -> None:
    """Write a row in the place of the one with its suite and name. Whoever may have company holds a lock."""
    path = suite_file(folder, row["suite"])
    write(path, [*(kept for kept in read(path) if kept["name"] != row["name"]), row])


def by_name(rows: Iterable[Row], suite: str, name: str) -> Row | None:
    return next((row for row in rows if row["suite"] == suite and row["name"] == name), None)


def find(folder: Path, suite: str, name: str) -> Row | None:
    """One recorded row, or None."""
    return by_name(read(suite_file(folder, suite)), suite, name)
