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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fct.arrays.vectors import check
from fct.errors import BadInput
from fct.gallery import tables
from fct.gallery.items import Items
from fct.gallery.names import BACKFILLED, ITEMS, NATIVE, SPACE, SpaceInfo, SpaceRows, forward_origin, meta, strings

if TYPE_CHECKING:
    from fct.gallery.tables import Dataset, Rows


class Gallery(Items):
    """Lance tables in one folder: items, features, and here the spaces. Opening it creates nothing.

    Every writer adds whole commits only: a crash leaves a table as it was before or after one batch.
    """

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
                "the name or the dimension of a space is not valid",
                wanted="spaces/v<n>-<12 hex digits or native>[-<number>] and dim ≥ 1",
                got=f"{name}, dim {dim}",
            )
        wanted = {"fct.fingerprint": fingerprint, "fct.forward": json.dumps({str(m): h for m, h in sorted(forward.items())})}
        columns = {"vector": ("float", dim), "origin": ("string", None), "uncertainty": ("float", None)}
        if tables.create(self.root, name, tables.schema_of(columns, wanted)):
            return True
        there = self.space_info(name)
        if (there.dim, there.fingerprint, there.forward) != (dim, fingerprint, dict(forward)):
            described = f"dim {dim}, fingerprint {fingerprint}, forward {dict(forward)}"
            raise BadInput(f"the space {name} exists already with another description", wanted=described, got=there, where=self.root)
        return False

    def space_info(self, name: str) -> SpaceInfo:
        """Dimension, fingerprint and h digests of a space."""
        schema = tables.open_table(self.root, name).schema
        match, said = SPACE.fullmatch(name), meta(schema)
        if match is None:
            raise BadInput(f"the table {name} is not a space", wanted=[one for one in self.tables() if SPACE.fullmatch(one)])
        forward = {int(m): h for m, h in json.loads(said["fct.forward"]).items()}
        return SpaceInfo(int(match[1]), schema.field("vector").type.list_size, said["fct.fingerprint"], forward)

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
        names = strings("ids", ids, unique=True)
        check("vectors", vectors, dim=info.dim, rows=len(names))
        origins = np.full(len(names), origin) if isinstance(origin, str) else strings("origin", origin, len(names))
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
            raise BadInput("rows can be removed from a space only", got=name)

        def choose(space: Dataset) -> np.ndarray:  # items are read after the space: who comes meanwhile has another row than this one
            return np.setdiff1d(tables.arrays_of(space.to_table(columns=["id"]))["id"], self.item_ids()) if ids is None else ids

        return self._delete(name, choose)

    def drop_space(self, name: str) -> bool:
        """Drop a space for good; False where there was none. Items and features cannot be dropped."""
        if not SPACE.fullmatch(name):
            raise BadInput("only a space can be dropped", got=name)
        return tables.drop(self.root, name)
