"""The gallery: items, what each version computed from them (features) and the spaces that are searched.

Legend: N rows, D dimensions of φ, P dimensions of ψ.

================== ==================================================================== ==============================
table              columns                                                              changed by
================== ==================================================================== ==============================
items              id, label, source, image_uri, native_version, role                   ingest, delete
features/v{m}      id, phi (N, D), psi packed in its bits; no psi column where P is 0    ingest, add_features, delete
spaces/v{n}-{h}    id, vector (N, D) float32, origin, uncertainty float32               append_space, delete, drop_space
================== ==================================================================== ==============================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fct.arrays.digests import of_json
from fct.arrays.vectors import check, differ
from fct.errors import BadInput, OperationFailed
from fct.gallery import tables
from fct.gallery.state import TableState
from fct.gallery.tables import Chosen
from fct.side import codes

if TYPE_CHECKING:
    from fct.gallery.tables import Dataset, Rows

ITEMS = "items"
FEATURES = "features/"
ROLES = ("item", "canary")
NATIVE, BACKFILLED = "native", "backfilled"
"""Origins of a vector that the version itself computed: when the item arrived, or later in the place of a carried one."""
TEXTS = ("label", "source", "image_uri", "role")
SPACE = re.compile(r"spaces/v([1-9]\d*)-([0-9a-f]{12}|native)(?:-[1-9]\d*)?")


class Ingested(NamedTuple):
    """Rows an ingest wrote, and rows that were there already."""

    added: int
    unchanged: int


class Batch(NamedTuple):
    """Features of one version: ids (N,) str, phi (N, D) as stored, psi (N, P) int8."""

    ids: np.ndarray
    phi: np.ndarray
    psi: np.ndarray


class SpaceRows(NamedTuple):
    """Rows of a space: ids (N,) str, vectors (N, D) float32, origin (N,) str, uncertainty (N,) float32."""

    ids: np.ndarray
    vectors: np.ndarray
    origin: np.ndarray
    uncertainty: np.ndarray


@dataclass(frozen=True)
class FeatureInfo:
    """What a features table holds: dimensions, dtype of φ, fingerprint of the embedder, bits of each code of ψ."""

    phi_dim: int
    psi_dim: int
    phi_dtype: str
    fingerprint: str
    psi_bits: tuple[int, ...]


@dataclass(frozen=True)
class SpaceInfo:
    """What a space holds: version n, dimension, fingerprint of φ_n, native version → digest of h."""

    version: int
    dim: int
    fingerprint: str
    forward: dict[int, str]


def features_name(version: int) -> str:
    return f"{FEATURES}v{version}"


def space_name(version: int, forward: Mapping[int, str], recipe: int = 1) -> str:
    """Name of the space of a release: one h gives its digest, several a digest of all, none (a first release) ``native``.

    A space that is made once more after it was dropped has a number behind that: ``spaces/v2-0123456789ab-2``.

    Args:
        recipe: number of the recipe by which h's are applied; from 2 on it is part of the name.
    """
    digests = list(forward.values())
    if recipe > 1:
        digests = [of_json({"forward": {str(m): h for m, h in forward.items()}, "recipe": recipe})]
    mark = "native" if not digests else digests[0] if len(digests) == 1 else of_json({str(m): h for m, h in forward.items()})
    return f"spaces/v{version}-{mark[:12]}"


def forward_origin(old: int, new: int) -> str:
    """Origin of a row that h carried from version ``old`` to ``new``."""
    return f"forward {old}→{new}"


def _strings(name: str, values: Sequence[str] | np.ndarray, rows: int | None = None, *, unique: bool = False) -> np.ndarray:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    wrong = next((one for one in listed if not isinstance(one, str) or "\0" in one or (unique and not one)), None)
    if wrong is not None:
        raise BadInput(f"{name} holds a value that cannot be stored", wanted="text without NUL, not empty for an id", got=repr(wrong))
    if rows is not None and len(listed) != rows:
        raise BadInput(f"{name} has the wrong number of rows", wanted=rows, got=len(listed), todo="rows must correspond one to one")
    array = np.asarray(listed, dtype=str)
    if unique:
        seen, counts = np.unique(array, return_counts=True)
        if (counts > 1).any():
            raise BadInput(f"{name} holds the same id twice", got=seen[counts > 1][0])
    return array


class Gallery:
    """Lance tables in one folder. Opening it creates nothing.

    Every writer adds whole commits only: a crash leaves a table as it was before or after one batch.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        self._check: Callable[[], None] = lambda: None

    def fenced(self, check: Callable[[], None]) -> Gallery:
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

    # ---- items and features -------------------------------------------------------------------------------------

    def ingest(
        self,
        version: int,
        fingerprint: str,
        ids: Sequence[str] | np.ndarray,
        phi: np.ndarray,
        psi: np.ndarray | None,
        labels: Sequence[str] | np.ndarray,
        sources: Sequence[str] | np.ndarray,
        image_uris: Sequence[str] | np.ndarray,
        role: str = "item",
        *,
        psi_bits: codes.Bits = 8,
    ) -> Ingested:
        """Add items with the features that ``version`` computed from their images; running it again changes nothing.

        Features are written before items, each in one commit. A crash in between leaves features without an item, which
        nothing reads and the next ingest of the same ids repairs.

        Args:
            phi: (N, D) float16 or float32. psi: (N, P) int8, or None where the version has no side-information.
            psi_bits: of every code of ψ, or one number for each of the P codes; ψ is stored packed (:mod:`fct.side.codes`).

        Raises:
            BadInput: another embedder, dimension or dtype than the table's; NaN, infinity or a zero-norm row; an id twice;
                an id that is there with other vectors or another description. Nothing is written.
        """
        if role not in ROLES:
            raise BadInput("an item has an unknown role", wanted=" or ".join(ROLES), got=role)
        names = _strings("ids", ids, unique=True)
        n = len(names)
        rows: dict[str, np.ndarray] = {"id": names, "label": _strings("labels", labels, n), "source": _strings("sources", sources, n)}
        rows |= {"image_uri": _strings("image_uris", image_uris, n), "role": np.full(n, role)}
        rows["native_version"] = np.full(n, version, dtype=np.int32)
        phi, psi = self._checked(version, fingerprint, n, phi, psi, psi_bits)
        if ITEMS in self.tables():
            self._new_items(tables.open_table(self.root, ITEMS), rows)
        features = self._add(version, fingerprint, names, phi, psi, psi_bits)
        columns = dict.fromkeys(TEXTS, ("string", None)) | {"native_version": ("int32", None)}
        tables.create(self.root, ITEMS, tables.schema_of(columns, {}))
        items = tables.insert_new(self.root, ITEMS, self._asked(lambda dataset: self._new_items(dataset, rows)))
        late = np.isin(names, np.setdiff1d(np.intersect1d(items, self.item_ids()), self.feature_ids(version)))
        if late.any():  # a deletion came between the two commits, and took the features of items that were there
            self._add(version, fingerprint, names[late], phi[late], psi[late], psi_bits)
        added = len(np.union1d(features, items))
        return Ingested(added, n - added)

    def add_features(
        self,
        version: int,
        fingerprint: str,
        ids: Sequence[str] | np.ndarray,
        phi: np.ndarray,
        psi: np.ndarray | None,
        *,
        psi_bits: codes.Bits = 8,
    ) -> Ingested:
        """Add what ``version`` computed from the images of items that are there already (backfill, double embedding).

        Raises:
            BadInput: as :meth:`ingest`, or an id is not an item.
        """
        names = _strings("ids", ids, unique=True)
        phi, psi = self._checked(version, fingerprint, len(names), phi, psi, psi_bits)
        self._offsets(tables.open_table(self.root, ITEMS), ITEMS, names)
        added = len(self._add(version, fingerprint, names, phi, psi, psi_bits))
        return Ingested(added, len(names) - added)

    def item_ids(self, role: str | None = None, native_version: int | None = None, at: int | None = None) -> np.ndarray:
        """Sorted ids (N,) str of the items with this role and native version (None: any) at a version of the items table."""
        if ITEMS not in self.tables() and at is None:
            return np.empty(0, dtype=str)
        items = self._read(ITEMS, at, ["id", "role", "native_version"])
        keep = np.full(len(items["id"]), True)
        keep &= (items["role"] == role) if role is not None else True
        keep &= (items["native_version"] == native_version) if native_version is not None else True
        return items["id"][keep]

    def native_version_of(self, ids: np.ndarray) -> np.ndarray:
        """(N,) int: native version of each id, 0 where it is no item."""
        if ITEMS not in self.tables():
            return np.zeros(len(ids), dtype=np.int64)
        rows = self._read(ITEMS, None, ["id", "native_version"])
        if not len(rows["id"]):
            return np.zeros(len(ids), dtype=np.int64)
        place = np.minimum(np.searchsorted(rows["id"], ids), len(rows["id"]) - 1)
        return np.where(rows["id"][place] == ids, rows["native_version"][place], 0).astype(np.int64)

    def conflicts(
        self,
        version: int,
        ids: np.ndarray,
        phi: np.ndarray,
        psi: np.ndarray,
        labels: np.ndarray,
        sources: np.ndarray,
        image_uris: np.ndarray,
    ) -> np.ndarray:
        """(N,) str: why an id cannot be ingested with this content, "" where it can.

        Descriptions are compared with those of every item, pictures where ``version`` itself has computed features of the id.
        """
        said = np.full(len(ids), "", dtype="<U80")
        if ITEMS not in self.tables():
            return said
        own = self.native_version_of(ids) > 0
        items = tables.open_table(self.root, ITEMS)
        offsets = tables.positions(items, ids)
        there = tables.take(items, offsets[own], ["label", "source", "image_uri"]) if own.any() else {}
        given = {"label": labels, "source": sources, "image_uri": image_uris}
        for column, values in there.items():
            said[np.flatnonzero(own)[values != given[column][own]]] = f"it is there with another {column}"
        name = features_name(version)
        if name in self.tables():
            dataset = tables.open_table(self.root, name)
            offsets = tables.positions(dataset, ids)
            old = np.flatnonzero(offsets >= 0)
            if len(old):
                rows = tables.take(dataset, offsets[old], dataset.schema.names)
                gap = differ(rows["phi"], phi[old])
                if "psi" in rows:
                    gap |= np.abs(_unpacked(rows, dataset.schema).astype(np.int16) - psi[old].astype(np.int16)).max(axis=1) > 1
                said[old[gap]] = "it is there with another picture"
        return said

    def items(self, at: int | None = None) -> dict[str, np.ndarray]:
        """All columns of the items, sorted by id: id, label, source, image_uri, role (N,) str and native_version (N,) int32."""
        return self._read(ITEMS, at)

    def native_versions(self, at: int | None = None) -> dict[int, int]:
        """Native version → number of items (canaries too), ascending."""
        if ITEMS not in self.tables() and at is None:
            return {}
        found, counts = np.unique(self._read(ITEMS, at, ["id", "native_version"])["native_version"], return_counts=True)
        return {int(version): int(count) for version, count in zip(found, counts, strict=True)}

    def feature_info(self, version: int) -> FeatureInfo:
        """Dimensions, dtype and fingerprint of ``features/v{version}``."""
        schema = tables.open_table(self.root, features_name(version)).schema
        phi = schema.field("phi").type
        return FeatureInfo(
            phi.list_size,
            len(bits := _bits(schema)),
            np.dtype(phi.value_type.to_pandas_dtype()).name,
            _meta(schema)["fct.fingerprint"],
            bits,
        )

    def features(
        self,
        version: int,
        at: int | None = None,
        ids: Sequence[str] | np.ndarray | None = None,
        batch_rows: int = 8192,
        *,
        skip_absent: bool = False,
    ) -> Iterator[Batch]:
        """Features in batches of ``batch_rows``, in the order of ``ids``, or all rows sorted by id.

        Args:
            skip_absent: leave out ids that the table does not hold (deleted meanwhile), in place of refusing them.

        Raises:
            BadInput: no such table or version, or an id that it does not hold.
        """
        name = features_name(version)
        dataset = tables.open_table(self.root, name, at)
        with tables.lance_errors(self.table_path(name)):
            wanted = np.sort(tables.arrays_of(dataset.to_table(columns=["id"]))["id"]) if ids is None else np.asarray(ids, dtype=str)
        with tables.lance_errors(self.table_path(name)):
            wanted = wanted[tables.positions(dataset, wanted) >= 0] if skip_absent else wanted
        offsets = self._offsets(dataset, name, wanted)

        def batches() -> Iterator[Batch]:
            for start in range(0, len(offsets), batch_rows):
                with tables.lance_errors(self.table_path(name)):
                    rows = tables.take(dataset, offsets[start : start + batch_rows], dataset.schema.names)
                yield Batch(rows["id"], rows["phi"], _unpacked(rows, dataset.schema))

        return batches()

    def unlike(self, version: int, batch: Batch) -> np.ndarray:
        """Sorted ids of a batch of ``features/v{version}`` that it holds no more, or with other features: deleted since, or come again."""
        same = [np.empty(0, dtype=str)]
        for now in self.features(version, ids=batch.ids, batch_rows=len(batch.ids), skip_absent=True):
            there = np.isin(batch.ids, now.ids)  # in the order that was asked for
            same.append(now.ids[(now.phi == batch.phi[there]).all(axis=1) & (now.psi == batch.psi[there]).all(axis=1)])
        return np.setdiff1d(batch.ids, np.concatenate(same))

    def feature_ids(self, version: int) -> np.ndarray:
        """Sorted ids (N,) str of which ``features/v{version}`` holds features; empty where there is no such table."""
        name = features_name(version)
        return self._read(name, None, ["id"])["id"] if name in self.tables() else np.empty(0, dtype=str)

    def delete(self, ids: Sequence[str] | np.ndarray, lost: Collection[str] = ()) -> dict[str, int]:
        """Delete items, their features and their rows in every space. Returns table → rows deleted; unknown ids count nowhere.

        Items go first, so that a deletion cut short already hides them; running it again finishes it.

        Args:
            lost: tables that may be damaged: one that cannot be read keeps its rows, which are of no item then.
        """
        names, deleted = _strings("ids", ids), dict[str, int]()
        for name in sorted(self.tables(), key=lambda name: (name != ITEMS, name)):
            with suppress(OperationFailed) if name in lost else nullcontext():
                deleted[name] = self._delete(name, lambda _: names)
        return deleted

    def delete_leftovers(self, version: int, ids: np.ndarray) -> None:
        """Delete what a deletion that was cut short has left of ids that are no items: they come again, and their rows were of others.

        The features of ``version`` stay: they are compared with those that come.
        """
        for name in self.tables() if len(ids) else ():
            if name not in (ITEMS, features_name(version)):
                self._delete(name, lambda _: ids)

    # ---- spaces -------------------------------------------------------------------------------------------------

    def create_space(self, name: str, dim: int, fingerprint: str, forward: Mapping[int, str]) -> bool:
        """Create an empty space. True when it was created now, False when it was there with the same description.

        Args:
            name: see :func:`space_name`.
            fingerprint: of φ_n. forward: native version m → digest of h(m→n).

        Raises:
            BadInput: the name is no space's, or a space of this name has another description.
        """
        if not SPACE.fullmatch(name) or dim < 1:
            raise BadInput(
                "this cannot be a space", wanted="spaces/v<n>-<12 hex digits or native>[-<number>] and dim ≥ 1", got=f"{name}, dim {dim}"
            )
        wanted = {"fct.fingerprint": fingerprint, "fct.forward": json.dumps({str(m): h for m, h in sorted(forward.items())})}
        columns = {"vector": ("float", dim), "origin": ("string", None), "uncertainty": ("float", None)}
        if tables.create(self.root, name, tables.schema_of(columns, wanted)):
            return True
        there = self.space_info(name)
        if (there.dim, there.fingerprint, there.forward) != (dim, fingerprint, dict(forward)):
            described = f"dim {dim}, fingerprint {fingerprint}, forward {dict(forward)}"
            raise BadInput(f"the space {name} is there with another description", wanted=described, got=there, where=self.root)
        return False

    def space_info(self, name: str) -> SpaceInfo:
        """Dimension, fingerprint and h digests of a space."""
        schema = tables.open_table(self.root, name).schema
        match, meta = SPACE.fullmatch(name), _meta(schema)
        if match is None:
            raise BadInput(f"the table {name} is not a space", wanted=[one for one in self.tables() if SPACE.fullmatch(one)])
        forward = {int(m): h for m, h in json.loads(meta["fct.forward"]).items()}
        return SpaceInfo(int(match[1]), schema.field("vector").type.list_size, meta["fct.fingerprint"], forward)

    def append_space(
        self,
        name: str,
        ids: Sequence[str] | np.ndarray,
        vectors: np.ndarray,
        origin: str | Sequence[str] | np.ndarray,
        uncertainty: np.ndarray,
    ) -> int:
        """Add one batch of rows in one commit and return their number.

        Args:
            vectors: (N, D) float32. origin: :data:`NATIVE` or :func:`forward_origin`, one for all or one a row.
            uncertainty: (N,) finite numbers ≥ 0.

        Raises:
            BadInput: an id that is there already or twice, wrong dimension or dtype, NaN, a zero row, an origin this space has no h for.
        """
        info = self.space_info(name)
        names = _strings("ids", ids, unique=True)
        check("vectors", vectors, dim=info.dim, rows=len(names))
        origins = np.full(len(names), origin) if isinstance(origin, str) else _strings("origin", origin, len(names))
        allowed = [NATIVE, *(forward_origin(m, info.version) for m in info.forward)]
        if not np.isin(origins, allowed).all():
            raise BadInput(
                "a row has an origin that this space does not know", wanted=allowed, got=sorted(set(origins) - set(allowed)), where=name
            )
        doubt = np.asarray(uncertainty, dtype=np.float32)
        if vectors.dtype != np.float32 or doubt.shape != (len(names),) or not np.isfinite(doubt).all() or (doubt < 0).any():
            wanted = "vectors as float32 and one finite uncertainty ≥ 0 a row"
            raise BadInput("a batch does not fit the space", wanted=wanted, got=f"{vectors.dtype}, {doubt.shape}", where=name)

        def choose(dataset: Dataset) -> Rows:
            there = tables.positions(dataset, names) >= 0
            if there.any():
                raise BadInput(
                    f"the space {name} holds this id already", got=names[there][0], todo="append only ids that space_ids does not list"
                )
            return tables.table_of(dataset.schema, {"id": names, "vector": vectors, "origin": origins, "uncertainty": doubt})

        return len(tables.insert_new(self.root, name, self._asked(choose)))

    def backfill(self, name: str, ids: np.ndarray) -> int:
        """Put what the version itself computed in the place of carried rows, and let their items be native to it; two commits.

        Running it again finishes what was cut short in between. Ids that the space or the features do not hold are left out.

        Args:
            name: a space of φ_n. ids: (N,) str, of ``features/v{n}``.

        Returns:
            rows of the space that were written.
        """
        info = self.space_info(name)

        def own(space: Dataset) -> Rows:  # features are read after it: where an id comes again they are of its row, or the commit fails
            there = np.intersect1d(ids[tables.positions(space, ids) >= 0], self.feature_ids(info.version))
            batches = list(self.features(info.version, ids=there, skip_absent=True)) if len(there) else []
            phi = np.concatenate([np.empty((0, info.dim), dtype=np.float32), *(batch.phi for batch in batches)]).astype(np.float32)
            rows = {"id": np.concatenate([np.empty(0, dtype=str), *(batch.ids for batch in batches)]), "vector": phi}
            rows |= {"origin": np.full(len(phi), BACKFILLED), "uncertainty": np.zeros(len(phi), dtype=np.float32)}
            return tables.table_of(space.schema, rows)

        done = tables.replace_rows(self.root, name, self._asked(own))

        def native(items: Dataset) -> Rows:
            offsets = tables.positions(items, done)
            described = tables.take(items, offsets[offsets >= 0], items.schema.names)
            described["native_version"] = np.full(len(described["id"]), info.version, dtype=np.int32)
            return tables.table_of(items.schema, described)

        if len(done):
            tables.replace_rows(self.root, ITEMS, self._asked(native))
        return len(done)

    def space_ids(self, name: str, at: int | None = None) -> np.ndarray:
        """Sorted ids (N,) str that a space holds; what a resumed transformation can skip."""
        return self._read(name, at, ["id"])["id"]

    def last_ids(self, name: str) -> np.ndarray:
        """Ids (N,) str of the newest file of a space: what was appended last, and is there yet."""
        space = tables.open_table(self.root, name)
        with tables.lance_errors(self.table_path(name)):
            return tables.arrays_of(space.scanner(columns=["id"], fragments=space.get_fragments()[-1:]).to_table())["id"]

    def read_space(self, name: str, at: int | None = None) -> SpaceRows:
        """All rows of a space, sorted by id."""
        rows = self._read(name, at)
        return SpaceRows(rows["id"], rows["vector"], rows["origin"], rows["uncertainty"])

    def space_rows(self, name: str, ids: np.ndarray) -> SpaceRows:
        """The rows of these ids that a space holds, sorted by id; read by id, not with all others."""
        space = tables.open_table(self.root, name)
        with tables.lance_errors(self.table_path(name)):
            offsets = tables.positions(space, np.unique(ids))
            rows = tables.take(space, offsets[offsets >= 0], ["id", "vector", "origin", "uncertainty"])
        return SpaceRows(rows["id"], rows["vector"], rows["origin"], rows["uncertainty"])

    def space_origins(self, name: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids (N,) str of a space and where their vectors come from (N,) str."""
        rows = self._read(name, at, ["id", "origin"])
        return rows["id"], rows["origin"]

    def drop_rows(self, name: str, ids: np.ndarray | None = None) -> int:
        """Delete rows of one space alone and return their number; unknown ids are ignored. Without ids those that are no items."""
        if not SPACE.fullmatch(name):
            raise BadInput("only a space can lose rows alone", got=name)

        def choose(space: Dataset) -> np.ndarray:  # items are read after the space: who comes meanwhile has another row than this one
            return np.setdiff1d(tables.arrays_of(space.to_table(columns=["id"]))["id"], self.item_ids()) if ids is None else ids

        return self._delete(name, choose)

    def drop_space(self, name: str) -> bool:
        """Drop a space for good; False where there was none. Items and features cannot be dropped."""
        if not SPACE.fullmatch(name):
            raise BadInput("only a space can be dropped", got=name)
        return tables.drop(self.root, name)

    # ---- trust --------------------------------------------------------------------------------------------------

    def snapshot(
        self, table: str, at: int | None = None, recorded: Mapping[str, str] = MappingProxyType({}), *, content: bool = True
    ) -> TableState:
        """Version, rows, content digest and file digests of a table, now or at a Lance version; as :func:`fct.gallery.tables.snapshot`."""
        return tables.snapshot(self.root, table, at, recorded, content=content)

    def compare(self, name: str, recorded: Mapping[str, str], ids: np.ndarray | None = None) -> None:
        """Refuse (:class:`~fct.errors.Damaged`) where a file of the table as it is now is not what was recorded of it.

        Args:
            recorded: file → digest; files that are not in it are new. ids: only files that hold rows of these.
        """
        with tables.lance_errors(self.table_path(name)):
            wanted = {file: recorded[file] for file in self.files(name, ids) if file in recorded}
            tables.compare(self.root, wanted, f"the table {name}")

    def files(self, name: str, ids: np.ndarray | None = None) -> list[str]:
        """Files that a table refers to now, relative to the gallery; as :func:`fct.gallery.tables.files_of`."""
        path = self.table_path(name)
        dataset = tables.open_table(self.root, name)
        with tables.lance_errors(path):
            return [file.relative_to(self.root).as_posix() for file in tables.files_of(dataset, path, ids)]

    def has_version(self, name: str, version: int) -> bool:
        """Whether a table is there at this Lance version."""
        return name in self.tables() and version in tables.versions(self.root, name)

    def newest_version(self, name: str) -> int:
        """The Lance version that a table is at."""
        return int(tables.open_table(self.root, name).version)

    def verify(self, state: TableState) -> None:
        """Refuse (:class:`NotPermitted`) when a file of the state is missing or altered; reads bytes only."""
        tables.verify(self.root, state)

    def verify_content(self, state: TableState) -> None:
        """Refuse (:class:`NotPermitted`) when the rows of the state's version are not those it was made from."""
        tables.verify_content(self.root, state)

    def raw(self, name: str, at: int | None = None) -> dict[str, np.ndarray]:
        """All columns of any table as they are stored (ψ packed), sorted by id."""
        return self._read(name, at)

    def table_ids(self, name: str, at: int | None = None) -> np.ndarray:
        """Sorted ids (N,) str of any table."""
        return self._read(name, at, ["id"])["id"]

    # ---- inside -------------------------------------------------------------------------------------------------

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

    def _checked(
        self, version: int, fingerprint: str, rows: int, phi: np.ndarray, psi: np.ndarray | None, psi_bits: codes.Bits
    ) -> tuple[np.ndarray, np.ndarray]:
        """φ and ψ if the features table of this version can take them."""
        if version < 1 or not fingerprint:
            raise BadInput("features need a version and a fingerprint", wanted="version ≥ 1", got=f"{version}, {fingerprint!r}")
        check("phi", phi, rows=rows)
        psi = np.zeros((rows, 0), dtype=np.int8) if psi is None else psi
        if psi.ndim != 2 or len(psi) != rows or psi.dtype != np.int8 or phi.dtype not in (np.float16, np.float32):
            wanted = f"phi as float16 or float32 and psi as ({rows}, P) int8"
            raise BadInput("features have the wrong dtype or shape", wanted=wanted, got=f"phi {phi.dtype}, psi {psi.shape} {psi.dtype}")
        if features_name(version) in self.tables():
            there = self.feature_info(version)
            bits = tuple(codes.bits_of(psi_bits, psi.shape[1]).tolist())
            given = FeatureInfo(phi.shape[1], psi.shape[1], phi.dtype.name, fingerprint, bits)
            if given != there:
                todo = "features of another embedder or shape need a version of their own"
                raise BadInput(f"these are not features of version {version}", wanted=there, got=given, where=self.root, todo=todo)
        return phi, psi

    def _add(self, version: int, fingerprint: str, ids: np.ndarray, phi: np.ndarray, psi: np.ndarray, psi_bits: codes.Bits) -> np.ndarray:
        """Write the features that are not there and return their ids; refuse other vectors for an id that is."""
        name = features_name(version)
        columns: dict[str, tuple[str, int | None]] = {"phi": ("halffloat" if phi.dtype == np.float16 else "float", phi.shape[1])}
        bits = codes.bits_of(psi_bits, psi.shape[1])
        packed = codes.pack(psi, bits)
        columns |= {"psi": ("uint8", packed.shape[1])} if psi.shape[1] else {}
        meta = {"fct.fingerprint": fingerprint, "fct.psi_bits": json.dumps(bits.tolist())}
        if not tables.create(self.root, name, tables.schema_of(columns, meta)):
            self._checked(version, fingerprint, len(ids), phi, psi, bits)  # another writer may have created it with another embedder

        def choose(dataset: Dataset) -> Rows:
            offsets = tables.positions(dataset, ids)
            old = offsets >= 0
            if old.any():
                there = tables.take(dataset, offsets[old], dataset.schema.names)
                _refuse_other(ids[old], differ(there["phi"], phi[old]), f"vectors, in {name}")
                if "psi" in there:
                    gap = np.abs(_unpacked(there, dataset.schema).astype(np.int16) - psi[old].astype(np.int16)).max(axis=1)
                    _refuse_other(ids[old], gap > 1, f"side-information, in {name}")
            return tables.table_of(dataset.schema, {"id": ids[~old], "phi": phi[~old], "psi": packed[~old]})

        return tables.insert_new(self.root, name, self._asked(choose))

    def _new_items(self, dataset: Dataset, rows: dict[str, np.ndarray]) -> Rows:
        """The rows whose id is not there; refuse another description of one that is."""
        offsets = tables.positions(dataset, rows["id"])
        old = offsets >= 0
        if old.any():
            there = tables.take(dataset, offsets[old], dataset.schema.names)
            for column in ("native_version", *TEXTS):
                _refuse_other(rows["id"][old], there[column] != rows[column][old], f"{column}, in items")
        return tables.table_of(dataset.schema, {column: values[~old] for column, values in rows.items()})


def _meta(schema: Any) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def _bits(schema: Any) -> tuple[int, ...]:
    return tuple(json.loads(_meta(schema).get("fct.psi_bits", "[]")))


def _unpacked(rows: Rows, schema: Any) -> np.ndarray:
    """ψ (N, P) int8 of rows as they are stored."""
    bits = _bits(schema)
    return codes.unpack(rows["psi"], len(bits), bits) if bits else np.zeros((len(rows["id"]), 0), dtype=np.int8)


def _refuse_other(ids: np.ndarray, other: np.ndarray, what: str) -> None:
    if other.any():
        todo = "delete it first, or give the new content another id"
        raise BadInput(f"the id {ids[other][0]} is there with another {what}", got=f"{int(other.sum())} such ids", todo=todo)
