"""What another system delivered, at the door of ``fct adopt``."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct.errors import BadInput
from fct.sample import delivered

COUNT = 300
PHI = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)


def table(path: Path, **instead: Any) -> Path:
    columns = {"vector": pa.array(list(PHI)), "id": [f"i{row}" for row in range(COUNT)]} | instead
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def spoilt(kinds: dict[int, Any]) -> pa.Array:
    values = PHI.tolist()
    for row, value in kinds.items():
        values[row] = value if value is None or isinstance(value, list) else (np.array(values[row]) * value).tolist()
    return pa.array(values, pa.list_(pa.float64()))


BAD = {0: None, 7: [], 70: 1e-30, 71: 1e20, 72: 1e300, 200: [np.nan] * 6, 201: [1.0, None, 1.0, 1.0, 1.0, 1.0], 202: 0.0}


def test_rows_that_cannot_be_used_are_refused_by_id_or_left_out(tmp_path: Path) -> None:
    path = table(tmp_path / "v.parquet", vector=spoilt(BAD), side=pa.array([None, *([[1, 2]] * (COUNT - 1))], pa.list_(pa.int8())))
    with pytest.raises(BadInput) as caught:
        delivered.read_rows(path)
    for row in BAD:
        assert f"(i{row})" in str(caught.value)
    rows = delivered.read_rows(path, skip_bad=True)
    kept = [row for row in range(COUNT) if row not in BAD]
    assert rows.ids.tolist() == [f"i{row}" for row in kept] and (rows.phi == PHI[kept].astype("f8").astype("f4")).all()
    assert rows.psi.shape == (len(kept), 2) and {one for one, _ in rows.left} == {f"i{row}" for row in BAD}
    assert len([why for _, why in rows.left if "null" in why]) == 3  # two vectors and one side


def test_ids_are_exact_texts_or_refused(tmp_path: Path) -> None:
    many = [uuid.UUID(int=2**70 + row) for row in range(COUNT)]
    for column, wanted in (
        (pa.array([one.bytes for one in many], pa.uuid()), [str(one) for one in many]),
        (pa.array([2**53 + row for row in range(COUNT)]), [str(2**53 + row) for row in range(COUNT)]),
    ):
        assert delivered.read_rows(table(tmp_path / "v.parquet", id=column)).ids.tolist() == wanted
    for column, sentence in (
        (pa.array([one.bytes for one in many], pa.binary(16)), "without an exact text.*uuid"),
        (pa.array([2.0**53 + row for row in range(COUNT)]), "no exact text"),
        (pa.array(["a\0", "a", *map(str, range(2, COUNT))]), "without NUL"),
        (pa.array([None, *map(str, range(1, COUNT))]), r"no id \(null or empty\); in row 0"),
        (pa.array(["canary:x", *map(str, range(1, COUNT))]), "canary:"),
        (pa.array(["twice", "twice", *map(str, range(2, COUNT))]), "twice twice"),
    ):
        with pytest.raises(BadInput, match=sentence):
            delivered.read_rows(table(tmp_path / "v.parquet", id=column))
    none = delivered.read_rows(table(tmp_path / "v.parquet", id=pa.array([None, *map(str, range(1, COUNT))])), skip_bad=True)
    assert none.ids.tolist() == [str(row) for row in range(1, COUNT)]


def test_a_column_of_nearly_the_name_is_said_and_a_table_without_ids_too(tmp_path: Path) -> None:
    ids = [f"i{row}" for row in range(COUNT)]
    for name, near in (("id", "Id"), ("label", "Label"), ("image_uri", "imageUri"), ("vector", "vectors")):
        with pytest.raises(BadInput, match=f"wanted {name}; got {near}"):
            delivered.read_rows(
                table(tmp_path / "v.parquet", **({"id": None} | {name: None, near: pa.array(list(PHI)) if name == "vector" else ids}))
            )
    rows = delivered.read_rows(table(tmp_path / "v.parquet", id=None))
    assert rows.ids[7] == "007" and any("no column id" in one for one in rows.said)


def test_labels_of_any_whole_kind_are_digits_and_null_is_unknown(tmp_path: Path) -> None:
    values = [None, 3, *range(2, COUNT)]
    for kind in (pa.int32(), pa.uint64(), pa.float64(), pa.decimal128(38, 0)):
        rows = delivered.read_rows(table(tmp_path / "v.parquet", label=pa.array(values, kind)))
        assert rows.labels.tolist() == ["" if one is None else str(one) for one in values]
    with pytest.raises(BadInput, match="label.*binary"):
        delivered.read_rows(table(tmp_path / "v.parquet", label=pa.array([b"a"] * COUNT)))


def test_codes_are_refused_and_the_column_that_may_hold_their_scale_is_named(tmp_path: Path) -> None:
    scale = np.abs(PHI).max(axis=1) / 127
    codes = np.rint(PHI / scale[:, None]).astype(np.int8)
    path = table(tmp_path / "v.parquet", vector=pa.array(list(codes)), scale=scale)
    with pytest.raises(BadInput, match="vectors are codes.*columns beside: scale; multiply each row by its scale"):
        delivered.read_rows(path)
    rows = delivered.read_rows(table(tmp_path / "v.parquet", vector=pa.array(list((codes // 2).astype(np.int8)))))
    assert any("whole numbers" in one for one in rows.said)


def test_texts_and_bytes_in_the_place_of_vectors_are_refused_with_the_way_to_parse_them(tmp_path: Path) -> None:
    for values in ([str(row.tolist()) for row in PHI], [row.tobytes() for row in PHI]):
        with pytest.raises(BadInput, match="vectors (has|have).*(json.loads|shape)"):
            delivered.read_rows(table(tmp_path / "v.parquet", vector=values))


def test_bad_pairs_are_refused_or_left_out_with_their_labels(tmp_path: Path) -> None:
    old, new = PHI.copy(), PHI[:, :4].copy()
    old[5], new[9] = np.nan, new[9] * 1e-30
    labels = np.where(np.arange(COUNT) % 7, np.arange(COUNT) % 3, -1)
    for name, array in (("old", old), ("new", new), ("labels", labels)):
        np.save(tmp_path / f"{name}.npy", array)
    given = tuple(tmp_path / f"{name}.npy" for name in ("old", "new", "labels"))
    with pytest.raises(BadInput, match="pairs, old contains NaN or infinity; in row 5"):
        delivered.read_given(*given)
    found = delivered.read_given(*given, skip_bad=True)
    kept = [row for row in range(COUNT) if row not in (5, 9)]
    assert (found.old == old[kept]).all() and (found.new == new[kept]).all()
    assert found.labels.tolist() == ["" if labels[row] < 0 else str(labels[row]) for row in kept]
    assert [re.sub(":.*", "", why) for _, why in found.left] == ["pairs, old", "pairs, new"] and found.left[0][0] == "row 5"
