"""Columns of real files in every format, in and out."""

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct import columns
from fct.errors import BadInput


def table():
    rng = np.random.default_rng(0)
    found = {
        "f2": rng.normal(size=(7, 3)).astype("f2"),
        "f4": rng.normal(size=(7, 3)).astype("f4"),
        "i1": rng.integers(-9, 9, (7, 4), "i1"),
    }
    arrays = {name: pa.FixedSizeListArray.from_arrays(pa.array(value.ravel()), value.shape[1]) for name, value in found.items()}
    found |= {"number": np.arange(7, dtype="i8"), "text": np.array(["a", "", "é", "a", "long one", "b", "b"])}
    return pa.table(arrays | {name: pa.array(found[name]) for name in ("number", "text")}), found


def write(path, rows):
    if path.suffix == ".lance":
        lance.write_dataset(rows, str(path))
    else:
        pq.write_table(rows, path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_every_column_comes_back_with_its_values_shape_and_dtype(tmp_path, kind):
    rows, wanted = table()
    path = write(tmp_path / f"t.{kind}", rows)
    for name, value in wanted.items():
        found = columns.read(f"{path}::{name}", name)
        np.testing.assert_array_equal(found, value)
        assert found.dtype.kind == value.dtype.kind and (found.dtype == value.dtype or value.dtype.kind == "U")


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_tables_of_many_pieces_keep_their_order(tmp_path, kind):
    rows, wanted = table()
    path = tmp_path / f"t.{kind}"
    if kind == "lance":
        for start in range(7):
            lance.write_dataset(rows.slice(start, 1), str(path), mode="append" if start else "create")
    else:
        pq.write_table(rows, path, row_group_size=2)
    np.testing.assert_array_equal(columns.read(f"{path}::f4", "old"), wanted["f4"])
    np.testing.assert_array_equal(columns.read(f"{path}::text", "labels"), wanted["text"])


def test_lists_of_one_length_and_repeated_texts_serve_too(tmp_path):
    rows = pa.table({"v": pa.array([[1.0, 2.0], [3.0, 4.0]]), "d": pa.array(["x", "y"]).dictionary_encode()})
    path = write(tmp_path / "t.parquet", rows)
    assert columns.read(f"{path}::v", "old").tolist() == [[1, 2], [3, 4]]
    assert columns.read(f"{path}::d", "labels").tolist() == ["x", "y"]


def test_slices_of_a_list_column_start_where_they_should(tmp_path):
    rows, wanted = table()
    path = write(tmp_path / "t.parquet", rows.slice(2, 3))
    np.testing.assert_array_equal(columns.read(f"{path}::f4", "old"), wanted["f4"][2:5])


def test_an_npy_file_is_memory_mapped_and_colons_in_its_name_mean_nothing(tmp_path):
    wanted = np.ones((3, 2), dtype=np.float16)
    np.save(tmp_path / "a::b.npy", wanted)
    found = columns.read(tmp_path / "a::b.npy", "old")
    assert isinstance(found, np.memmap) and found.dtype == np.float16
    np.testing.assert_array_equal(columns.read(str(tmp_path / "a::b.npy"), "old"), wanted)


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_what_cannot_be_used_is_refused_by_name_and_place(tmp_path, kind):
    rows = pa.table(
        {
            "null": pa.array([1.0, None, 2.0]),
            "inside": pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0, None, 6.0]), 2),
            "ragged": pa.array([[1.0], [1.0], [1.0, 2.0]]),
            "when": pa.array([1, 2, 3], pa.timestamp("s")),
            "texts": pa.array([["a"], ["b"], ["c"]]),
        }
    )
    path = write(tmp_path / f"t.{kind}", rows)
    for spec, sentence in {
        f"{path}": "old: say which column .*null, inside, ragged",
        f"{path}::": "old: say which column",
        f"{path}::absent": "old: the table has no such column; wanted one of null, inside.*got absent",
        f"{path}::null": "old has a null value; in .*null, row 1",
        f"{path}::inside": "old has a null value; in .*inside, row 2",
        f"{path}::ragged": "old has lists of different lengths; wanted 1; got 2; .*row 2",
        f"{path}::when": "old has a type that cannot be used",
        f"{path}::texts": "old has a type that cannot be used",
        f"{tmp_path}/none.{kind}::a": "old: there is no such table",
    }.items():
        with pytest.raises(BadInput, match=sentence):
            columns.read(spec, "old")


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_a_file_that_only_claims_to_be_a_table_is_one_sentence(tmp_path, kind):
    (tmp_path / f"t.{kind}").write_bytes(b"no table")
    with pytest.raises(BadInput, match="old cannot be read as a table") as caught:
        columns.read(f"{tmp_path}/t.{kind}::a", "old")
    assert "\n" not in str(caught.value)


def test_a_missing_or_pickled_npy_file_is_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    for path in (tmp_path / "o.npy", tmp_path / "none.npy", tmp_path / "other.txt"):
        with pytest.raises(BadInput, match="labels"):
            columns.read(path, "labels")
