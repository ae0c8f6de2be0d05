"""Items of the gallery: what they are called, where they come from, whose features are theirs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import numpy as np

from fct.arrays.vectors import differ
from fct.errors import BadInput, OperationFailed
from fct.gallery import tables
from fct.gallery.features import Features, refuse_other, unpacked
from fct.gallery.names import ITEMS, ROLES, TEXTS, Ingested, features_name, strings
from fct.side import codes

if TYPE_CHECKING:
    from fct.gallery.tables import Dataset, Rows


class Items(Features):
    """The table ``items``, and what is written to it and to features together."""

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
        names = strings("ids", ids, unique=True)
        n = len(names)
        rows: dict[str, np.ndarray] = {"id": names, "label": strings("labels", labels, n), "source": strings("sources", sources, n)}
        rows |= {"image_uri": strings("image_uris", image_uris, n), "role": np.full(n, role)}
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
        names = strings("ids", ids, unique=True)
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
                    gap |= np.abs(unpacked(rows, dataset.schema).astype(np.int16) - psi[old].astype(np.int16)).max(axis=1) > 1
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

    def delete(self, ids: Sequence[str] | np.ndarray, lost: Collection[str] = ()) -> dict[str, int]:
        """Delete items, their features and their rows in every space. Returns table → rows deleted; unknown ids count nowhere.

        Items go first, so that a deletion cut short already hides them; running it again finishes it.

        Args:
            lost: tables that may be damaged: one that cannot be read keeps its rows, which are of no item then.
        """
        names, deleted = strings("ids", ids), dict[str, int]()
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

    def _new_items(self, dataset: Dataset, rows: dict[str, np.ndarray]) -> Rows:
        """The rows whose id is not there; refuse another description of one that is."""
        offsets = tables.positions(dataset, rows["id"])
        old = offsets >= 0
        if old.any():
            there = tables.take(dataset, offsets[old], dataset.schema.names)
            for column in ("native_version", *TEXTS):
                refuse_other(rows["id"][old], there[column] != rows[column][old], f"{column}, in items")
        return tables.table_of(dataset.schema, {column: values[~old] for column, values in rows.items()})
