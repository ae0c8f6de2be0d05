"""Features: what each version computed from the items' images, φ as stored and ψ packed in its bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fct.arrays.vectors import check, differ
from fct.errors import BadInput
from fct.gallery import tables
from fct.gallery.names import Batch, FeatureInfo, features_name, meta
from fct.gallery.store import Store
from fct.side import codes

if TYPE_CHECKING:
    from fct.gallery.tables import Dataset, Rows


class Features(Store):
    """The tables ``features/v…``."""

    def feature_info(self, version: int) -> FeatureInfo:
        """Dimensions, dtype and fingerprint of ``features/v{version}``."""
        schema = tables.open_table(self.root, features_name(version)).schema
        phi = schema.field("phi").type
        return FeatureInfo(
            phi.list_size,
            len(bits := _bits(schema)),
            np.dtype(phi.value_type.to_pandas_dtype()).name,
            meta(schema)["fct.fingerprint"],
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
                yield Batch(rows["id"], rows["phi"], unpacked(rows, dataset.schema))

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
                refuse_other(ids[old], differ(there["phi"], phi[old]), f"vectors, in {name}")
                if "psi" in there:
                    gap = np.abs(unpacked(there, dataset.schema).astype(np.int16) - psi[old].astype(np.int16)).max(axis=1)
                    refuse_other(ids[old], gap > 1, f"side-information, in {name}")
            return tables.table_of(dataset.schema, {"id": ids[~old], "phi": phi[~old], "psi": packed[~old]})

        return tables.insert_new(self.root, name, self._asked(choose))


def _bits(schema: Any) -> tuple[int, ...]:
    return tuple(json.loads(meta(schema).get("fct.psi_bits", "[]")))


def unpacked(rows: Rows, schema: Any) -> np.ndarray:
    """ψ (N, P) int8 of rows as they are stored."""
    bits = _bits(schema)
    return codes.unpack(rows["psi"], len(bits), bits) if bits else np.zeros((len(rows["id"]), 0), dtype=np.int8)


def refuse_other(ids: np.ndarray, other: np.ndarray, what: str) -> None:
    """BadInput where the content that is there is another one for some of (N,) ids."""
    if other.any():
        todo = "delete it first, or give the new content another id"
        raise BadInput(f"the id {ids[other][0]} exists already with another {what}", got=f"{int(other.sum())} such ids", todo=todo)
