"""What a purge looks for, and the search for it: no file of the workspace may hold an id or a vector of a deleted item.

An id is looked for as a whole: `cat001` is no trace in `bobcat001`, which is another item, nor where a digest happens to hold its digits.
Arrays (``.npy``, ``.npz``) and tables are therefore asked row by row. In other files an id counts where no letter or digit stands beside
it and it is not a part of the id of an item that lives. Vectors are looked for byte by byte, everywhere.
"""

from __future__ import annotations

import html
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fct.arrays.vectors import normalise
from fct.errors import FctError
from fct.gallery import tables, trust
from fct.gallery.gallery import Gallery
from fct.sample.folder import PairsFolder

SHORT = 6  # bytes; a shorter id is found by chance in any file
SEARCHED = 200  # ids whose bytes are searched for; of more, a random part
HEAD = 32  # first bytes of a vector: enough to be no chance, and never cut by a page
CHUNK = 1 << 24
WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Traces:
    """What is looked for.

    Attributes:
        ids: (K,) str. vectors: first bytes of their φ, ψ and space vectors.
        longer: an id as a file may spell it → spellings of ids that live and have it as a part.
    """

    ids: np.ndarray
    vectors: list[bytes] = field(default_factory=list)
    longer: dict[bytes, list[bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.longer) + len(self.vectors)


def of_ids(ids: np.ndarray, living: np.ndarray) -> Traces:
    """The ids alone, as text, JSON and HTML write them; those that are found by chance are left out.

    Args:
        living: (N,) str, ids of the items that stay.
    """
    names = [one for one in ids.tolist() if len(one.encode()) >= SHORT]
    joined = "\0".join(["", *living.tolist(), ""])
    longer: dict[bytes, list[bytes]] = {}
    for one in names:
        others, at = set(), joined.find(one)
        while at >= 0:
            end = joined.index("\0", at + len(one))
            others.add(joined[joined.rindex("\0", 0, at) + 1 : end])
            at = joined.find(one, end)
        for spelled, *rest in zip(_spelled(one), *(_spelled(other) for other in sorted(others - {one})), strict=True):
            longer.setdefault(spelled, [])
            longer[spelled] += [other for other in rest if other not in longer[spelled]]
    return Traces(np.array(names, dtype=str), [], longer)


def _spelled(one: str) -> tuple[bytes, bytes, bytes]:
    return one.encode(), json.dumps(one)[1:-1].encode(), html.escape(one, quote=True).encode()


def of(gallery: Gallery, ids: np.ndarray) -> Traces:
    """The ids, and the first bytes of their φ, ψ and space vectors, wherever the gallery has them now or had them.

    A vector that a living item has too (the same picture under another id) is no trace of the deleted one, and is left out.
    """
    chosen = ids if len(ids) <= SEARCHED else np.random.default_rng(0).choice(ids, SEARCHED, replace=False)
    found, canaries = set[bytes](), gallery.item_ids(role="canary")
    for name in gallery.tables():
        if name == "items":
            continue
        mine, living, newest = set[bytes](), set[bytes](), gallery.newest_version(name)
        for version in reversed(tables.versions(gallery.root, name)):  # an id may have been deleted before, also more than once
            try:
                here = _heads(_rows(gallery, name, version, chosen))
                rows = gallery.raw(name, version) if here - mine or version == newest else {"id": chosen}
            except FctError:
                if version == newest:
                    raise
                continue  # a damaged file of before a repair: what nobody can read is looked for by its id alone, as after a gc
            others = ~np.isin(rows["id"], chosen)
            others &= ~np.isin(rows["id"], canaries)  # a canary that is a copy of an item is a trace of it
            mine, living = mine | here, living | _heads({column: values[others] for column, values in rows.items()})
        found |= mine - living
    names = of_ids(chosen, np.setdiff1d(gallery.item_ids(), ids))
    return Traces(names.ids, sorted(found), names.longer)


def _rows(gallery: Gallery, name: str, version: int, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of these ids in one version of a table, read by id, not with all others."""
    with tables.lance_errors(gallery.table_path(name)):
        table = tables.open_table(gallery.root, name, version)
        offsets = tables.positions(table, ids)
        return tables.take(table, offsets[offsets >= 0], table.schema.names) if (offsets >= 0).any() else {}


def _heads(rows: dict[str, np.ndarray]) -> set[bytes]:
    """Of each row what is looked for: the first bytes of φ and of vectors, also scaled, and all of ψ: codes are small numbers."""
    vectors = [rows[column] for column in ("phi", "vector") if column in rows]
    vectors += [normalise(rows["vector"])] if "vector" in rows else []
    return {row.tobytes()[:HEAD] for values in vectors for row in values} | {row.tobytes() for row in rows.get("psi", ())}


def search(folder: Path, wanted: Traces) -> list[str]:
    """What below ``folder`` holds a trace: paths of files, and of tables that have a row of such an id; relative and sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    left: set[Path] = set()
    asked: dict[Path, set[Path]] = {}
    with tqdm(total=sum(_size(path) for path in files), desc="looking for bytes", unit="B", unit_scale=True, mininterval=1) as bar:
        for path in files if len(wanted) else []:
            table = _table_of(path)
            if table is not None and table not in asked:
                asked[table], holds = _asked(table, wanted.ids)
                left |= {table} if holds else set()
            rows = _in_arrays(path, wanted.ids) if path.suffix in (".npy", ".npz") else None
            by_row = rows is not None or (table is not None and path in asked[table])
            if rows or _in_bytes(path, wanted.vectors, {} if by_row else wanted.longer):
                left.add(path)
            bar.update(_size(path))
    return sorted(path.relative_to(folder).as_posix() for path in left)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a server's own, gone meanwhile


def _table_of(path: Path) -> Path | None:
    """The table that a data file belongs to; None for every other file."""
    table = path.parent.parent
    return table if path.parent.name == "data" and table.suffix == ".lance" and (table / "_versions").is_dir() else None


def _asked(table: Path, ids: np.ndarray) -> tuple[set[Path], bool]:
    """The data files that the versions of a table refer to, and whether one of them has a row of these ids. Strings lie in them side by
    side, so that bytes would not tell where one ends. Nothing of a table that cannot be opened."""
    root, name = table.parent, table.stem
    files, holds = set[Path](), False
    try:
        for version in tables.versions(root, name):
            files |= set(trust.files_of(tables.open_table(root, name, version), table))
            holds = holds or bool(np.isin(Gallery(root).table_ids(name, version), ids).any())
    except FctError:
        return set(), False
    return files, holds


def _in_arrays(path: Path, ids: np.ndarray) -> bool | None:
    """Whether an array of texts holds one of the ids; None where the file is no array that can be read."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = [found] if isinstance(found, np.ndarray) else [found[name] for name in found.files]
            texts = [np.char.decode(one, "utf-8", "replace") if one.dtype.kind == "S" else one for one in arrays]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if path.name == "sources.npy" and given(path.parent.parent):
        return False
    return any(bool(np.isin(one, ids).any()) for one in texts if one.dtype.kind == "U")


def given(pairs: Path) -> bool:
    """Whether pairs were given, not made from images: then their rows are numbered, and a number is nobody's id."""
    try:
        return bool(np.char.startswith(np.load(PairsFolder(pairs).path("sample", "ids"), allow_pickle=False), "pair-").any())
    except (OSError, ValueError, TypeError):
        return False


def _blocks(path: Path, margin: int) -> Iterator[tuple[bytes, int, int]]:
    """A file in overlapping blocks, and from where to where of each a find may begin: ``margin`` bytes on either side are in sight."""
    tail, begun = b"", False
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            block, ended = tail + chunk, len(chunk) < CHUNK
            yield block, margin if begun else 0, len(block) if ended else len(block) - margin
            if ended:
                return
            begun = begun or len(block) > 2 * margin
            tail = block[-2 * margin :]


def _in_bytes(path: Path, vectors: list[bytes], longer: dict[bytes, list[bytes]]) -> bool:
    spelled = [*vectors, *longer, *(other for others in longer.values() for other in others)]
    try:
        for block, first, last in _blocks(path, 1 + max(map(len, spelled), default=0)):
            if any(one in block for one in vectors) or any(_alone(block, one, others, first, last) for one, others in longer.items()):
                return True
    except FileNotFoundError:
        pass  # a server's own, gone meanwhile
    return False


def _alone(block: bytes, one: bytes, others: list[bytes], first: int, last: int) -> bool:
    """Whether ``one`` stands by itself somewhere in the block."""
    at = block.find(one, first)
    while 0 <= at < last:
        beside = block[max(0, at - 1) : at] + block[at + len(one) : at + len(one) + 1]
        if WORD.isdisjoint(beside) and not any(_part_of(block, at, one, other) for other in others):
            return True
        at = block.find(one, at + 1)
    return False


def _part_of(block: bytes, at: int, one: bytes, other: bytes) -> bool:
    """Whether what stands at ``at`` is a part of ``other``."""
    inside = other.find(one)
    while inside >= 0:
        begins = at - inside
        if begins >= 0 and block[begins : begins + len(other)] == other:
            return True
        inside = other.find(one, inside + 1)
    return False
