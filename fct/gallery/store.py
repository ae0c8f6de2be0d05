"""The tables of a gallery as files: opened, fenced, compared with what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from fct.errors import BadInput
from fct.gallery import tables, trust
from fct.gallery.state import TableState
from fct.gallery.tables import Chosen

if TYPE_CHECKING:
    from fct.gallery.tables import Dataset


class Store:
    """Lance tables in one folder. Opening it creates nothing."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        self._check: Callable[[], None] = lambda: None

    def fenced(self, check: Callable[[], None]) -> Self:
        """The same tables, written by the holder of a lock.

        Args:
            check: raises where the lock was taken over. It is asked once a table was opened: the commit then lands on the rows as they were
                when the lock was still held, or not at all. Of a gallery that is fenced already both are asked.
        """
        found, before = copy(self), self._check

        def both() -> None:
            before()
            check()

        found._check = both
        return found

    def table_path(self, name: str) -> Path:
        """Folder of the table ``name``."""
        return tables.path_of(self.root, name)

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        return tables.names(self.root)

    def snapshot(
        self, table: str, at: int | None = None, recorded: Mapping[str, str] = MappingProxyType({}), *, content: bool = True
    ) -> TableState:
        """Version, rows, content digest and file digests of a table, now or at a Lance version; as :func:`fct.gallery.trust.snapshot`."""
        return trust.snapshot(self.root, table, at, recorded, content=content)

    def compare(self, name: str, recorded: Mapping[str, str], ids: np.ndarray | None = None) -> None:
        """Refuse (:class:`~fct.errors.Damaged`) where a file of the table as it is now is not what was recorded of it.

        Args:
            recorded: file → digest; files that are not in it are new. ids: only files that hold rows of these.
        """
        with tables.lance_errors(self.table_path(name)):
            wanted = {file: recorded[file] for file in self.files(name, ids) if file in recorded}
            trust.compare(self.root, wanted, f"the table {name}")

    def files(self, name: str, ids: np.ndarray | None = None) -> list[str]:
        """Files that a table refers to now, relative to the gallery; as :func:`fct.gallery.trust.files_of`."""
        path = self.table_path(name)
        dataset = tables.open_table(self.root, name)
        with tables.lance_errors(path):
            return [file.relative_to(self.root).as_posix() for file in trust.files_of(dataset, path, ids)]

    def has_version(self, name: str, version: int) -> bool:
        """Whether a table is there at this Lance version."""
        return name in self.tables() and version in tables.versions(self.root, name)

    def newest_version(self, name: str) -> int:
        """The Lance version that a table is at."""
        return int(tables.open_table(self.root, name).version)

    def verify(self, state: TableState) -> None:
        """Refuse (:class:`NotPermitted`) when a file of the state is missing or altered; reads bytes only."""
        trust.verify(self.root, state)

    def verify_content(self, state: TableState) -> None:
        """Refuse (:class:`NotPermitted`) when the rows of the state's version are not those it was made from."""
        trust.verify_content(self.root, state)

    def raw(self, name: str, at: int | None = None) -> dict[str, np.ndarray]:
        """All columns of any table as they are stored (ψ packed), sorted by id."""
        return self._read(name, at)

    def table_ids(self, name: str, at: int | None = None) -> np.ndarray:
        """Sorted ids (N,) str of any table."""
        return self._read(name, at, ["id"])["id"]

    def _asked(self, choose: Callable[[Dataset], Chosen]) -> Callable[[Dataset], Chosen]:
        """``choose`` of a table that was opened, and then whether the lock is still held (:meth:`fenced`)."""

        def chosen(dataset: Dataset) -> Chosen:
            found = choose(dataset)
            if len(found):
                self._check()
            return found

        return chosen

    def _delete(self, name: str, choose: Callable[[Dataset], np.ndarray]) -> int:
        def there(dataset: Dataset) -> np.ndarray:
            ids = choose(dataset)
            return ids[tables.positions(dataset, ids) >= 0]

        return tables.delete_rows(self.root, name, self._asked(there))

    def _read(self, name: str, at: int | None, columns: list[str] | None = None) -> dict[str, np.ndarray]:
        dataset = tables.open_table(self.root, name, at)
        with tables.lance_errors(self.table_path(name)):
            rows = tables.arrays_of(dataset.to_table(columns=columns))
        order = np.argsort(rows["id"], kind="stable")
        return {column: values[order] for column, values in rows.items()}

    def _offsets(self, dataset: Dataset, name: str, ids: np.ndarray) -> np.ndarray:
        with tables.lance_errors(self.table_path(name)):
            offsets = tables.positions(dataset, ids)
        if (offsets < 0).any():
            raise BadInput(f"{name} does not hold this id", got=ids[offsets < 0][0], where=f"{(offsets < 0).sum()} of {len(ids)} ids")
        return offsets
