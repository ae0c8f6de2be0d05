"""The manifest: one row an image, read back as arrays of strings."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fct.arrays import texts
from fct.datasets.items import SPLITS, Item
from fct.errors import BadInput

FILE = "manifest.csv"
COLUMNS = ("id", "file", "class", "source", "split", "licence")


@dataclass(frozen=True)
class Manifest:
    """N images; every column is a string array (N,).

    Attributes:
        root: the folder that the column ``file`` is relative to.
        label: the class; empty for unlabelled images (pool and canaries).
        source: the pack; empty where sources are unknown.
    """

    root: Path
    id: np.ndarray
    file: np.ndarray
    label: np.ndarray
    source: np.ndarray
    split: np.ndarray
    licence: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    @property
    def files(self) -> list[Path]:
        """Absolute paths of the images."""
        return [self.root / file for file in self.file]

    def rows(self, *splits: str) -> Manifest:
        """The images of the named splits, in the manifest's order.

        Raises:
            BadInput: a name that no split has.
        """
        for name in splits:
            if name not in SPLITS:
                raise BadInput("there is no such split", wanted=" ".join(SPLITS), got=name)
        chosen = np.isin(self.split, splits)
        return replace(self, **{field.name: getattr(self, field.name)[chosen] for field in fields(self) if field.name != "root"})


def read_manifest(folder: str | Path) -> Manifest:
    """Read ``folder/manifest.csv``.

    Raises:
        BadInput: it is missing, lacks a column or a value, names an unknown split or a file outside the folder, or has an id twice.
    """
    folder = Path(folder).absolute()
    path = folder / FILE
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or ()
            rows = list(reader)
    except FileNotFoundError as error:
        raise BadInput("the data has no manifest", wanted=FILE, where=folder, todo="run the data stage") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput("the manifest is not readable", got=str(error), where=path) from error
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise BadInput("the manifest lacks a column", wanted=" ".join(missing), where=path)
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        where = f"{path} line {line}"
        if any(row[name] is None for name in COLUMNS) or not row["id"] or not row["file"]:
            raise BadInput("the manifest has an incomplete row", where=where)
        if row["id"] in seen:
            raise BadInput("the manifest has an id twice", got=row["id"], where=where)
        if row["split"] not in SPLITS:
            raise BadInput("the manifest names an unknown split", wanted=" ".join(SPLITS), got=row["split"], where=where)
        file_path = PurePosixPath(row["file"])
        if file_path.is_absolute() or ".." in file_path.parts:
            raise BadInput("the manifest names a file outside its folder", got=row["file"], where=where)
        seen.add(row["id"])
    return Manifest(folder, *(texts.array(f"the manifest's {name}", [row[name] for row in rows]) for name in COLUMNS))


def write_manifest(folder: Path, items: list[Item]) -> None:
    """Write ``folder/manifest.csv``, sorted by split and id."""
    with open(folder / FILE, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in sorted(items, key=lambda item: (SPLITS.index(item.split), item.id)):
            writer.writerow((item.id, item.file, item.label, item.source, item.split, item.licence))
