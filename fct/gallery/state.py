"""What a ledger entry says of a table: one version, its rows, its content, its files. Reading it needs neither Lance nor numpy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fct.arrays.digests import of_json
from fct.errors import BadInput


@dataclass(frozen=True)
class TableState:
    """One version of one table and what it must look like.

    Attributes:
        table: name, for example ``spaces/v2-0123456789ab``.
        version: Lance version.
        rows: number of rows.
        content: content digest over sorted ids and named columns; equal for two runs that made the same rows. ``""`` where nobody took it.
        files: SHA-256 of every file that version refers to, keyed by path relative to the gallery.
    """

    table: str
    version: int
    rows: int
    content: str
    files: dict[str, str]

    @property
    def files_digest(self) -> str:
        """One digest for all the files."""
        return of_json(self.files)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TableState:
        kinds = {"table": str, "version": int, "rows": int, "content": str, "files": dict}
        if (
            not isinstance(value, dict)
            or value.keys() != kinds.keys()
            or any(type(value[name]) is not kind for name, kind in kinds.items())
        ):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise BadInput("this does not describe a table state", wanted=", ".join(kinds), got=got)
        return cls(**value)
