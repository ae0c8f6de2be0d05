"""Columns of real files in every format, in and out."""

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct.arrays import columns, reading
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


@pytest.mark.parametrize("values", [np.array([True, False]), np.array(["a", "a\0b"])])
def test_arrays_of_labels_without_an_exact_text_are_refused_as_in_tables(tmp_path, values):
    np.save(tmp_path / "labels.npy", values)
    with pytest.raises(BadInput, match="exact text|without NUL"):
        columns.labels(tmp_path / "labels.npy", "labels")


@pytest.mark.parametrize("rows", [[None, None], [[], []], [None, []], []])
@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_lists_of_which_none_holds_a_number_are_one_sentence(tmp_path, kind, rows):
    path = write(tmp_path / f"t.{kind}", pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}))
    with pytest.raises(BadInput, match="hold no number in any row"):
        columns.read(f"{path}::v", "vectors")


def test_most_rows_without_a_vector_do_not_hide_the_length_of_the_rest(tmp_path):
    path = write(tmp_path / "t.parquet", pa.table({"v": pa.array([[], [], [], [1.0, 2.0], [3.0, 4.0]])}))
    values, kinds = columns.rows(f"{path}::v", "vectors")
    assert values.shape == (5, 2) and {kind: rows.tolist() for kind, rows in kinds.items()} == {
        "a vector of another length than 2": [0, 1, 2]
    }


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
        f"{path}::null": "old contains a null value; in row 1",
        f"{path}::inside": "old contains a null coordinate; in row 2",
        f"{path}::ragged": "old contains a vector of another length than 1; in row 2",
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


def bad_table(count=1000, dim=3):
    """A table of which rows 0, 7, 70 … are of every kind, and which rows those are."""
    values = np.random.default_rng(0).normal(size=(count, dim)).tolist()
    for row, kind in (kinds := {0: None, 7: [], 70: [1.0], 71: [1.0, None, 2.0], 72: [np.nan] * 3, 700: None, 701: [0.0] * 3}).items():
        values[row] = kind
    return pa.table({"vector": pa.array(values, pa.list_(pa.float32())), "id": [f"i{row}" for row in range(count)]}), sorted(kinds)


@pytest.mark.parametrize("kind", ["parquet", "lance"])
def test_null_empty_and_ragged_rows_are_all_counted_and_named(tmp_path, kind):
    rows, _ = bad_table(100_000)
    path = write(tmp_path / f"t.{kind}", rows)
    with pytest.raises(BadInput) as caught:
        columns.read(f"{path}::vector", "old", np.array(rows["id"].to_pylist()))
    for words in (
        "no vector (null) in rows 0 (i0), 700 (i700) (2 in all)",
        "a vector of another length than 3 in rows 7 (i7), 70 (i70) (2 in all)",
        "a null coordinate in row 71 (i71) (1 in all)",
        "NaN or infinity in row 72 (i72) (1 in all)",
        "a zero-norm vector in row 701 (i701) (1 in all)",
        "of 100,000 rows",
    ):
        assert words in str(caught.value)


def test_what_is_skipped_is_listed_and_the_rest_keeps_its_order(tmp_path):
    rows, bad = bad_table()
    path = write(tmp_path / "t.parquet", rows)
    asked = {"old": reading.Column(f"{path}::vector", "old"), "ids": reading.Column(f"{path}::id", "ids", "ids")}
    found = reading.together(asked, skip_bad=True)
    kept = [row for row in range(len(rows)) if row not in bad]
    np.testing.assert_array_equal(found.arrays["old"], np.array([rows["vector"][row].as_py() for row in kept], dtype="f4"))
    assert found.arrays["ids"].tolist() == [f"i{row}" for row in kept]
    assert sorted(one for one, _ in found.left) == sorted(f"i{row}" for row in bad)
    with pytest.raises(BadInput, match="old contains rows that cannot be used"):
        reading.together(asked)


def test_integers_beside_a_null_keep_their_type(tmp_path):
    rows = pa.table({"side": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8())), "one": pa.array([2**60 + 1, None, 3])})
    path = write(tmp_path / "t.parquet", rows)
    values, kinds = columns.rows(f"{path}::side", "side")
    assert (
        values.dtype == np.int8
        and values[0].tolist() == [1, 2]
        and {key: rows.tolist() for key, rows in kinds.items()}
        == {
            "no vector (null)": [1],
            "a null coordinate": [2],
        }
    )
    assert columns.rows(f"{path}::one", "one")[0].tolist() == [2**60 + 1, 0, 3]


def test_ids_and_labels_of_tables_arrays_and_text_files_are_one(tmp_path):
    path = write(
        tmp_path / "t.parquet", pa.table({"id": pa.array([2**53 + 1, 5]), "label": pa.array([None, 3], pa.int64()), "text": ["x", None]})
    )
    np.save(tmp_path / "i.npy", np.array([2**53 + 1, 5]))
    (tmp_path / "i.txt").write_text(f"{2**53 + 1}\n5\n")
    for spec in (f"{path}::id", tmp_path / "i.npy", tmp_path / "i.txt"):
        assert columns.ids(spec, "ids").astype(str).tolist() == [str(2**53 + 1), "5"]
    assert columns.labels(f"{path}::label", "labels").tolist() == [-1, 3] and columns.labels(f"{path}::text", "labels").tolist() == [
        "x",
        "",
    ]
    with pytest.raises(BadInput, match=r"ids contains no id \(null or empty\); in row 1"):
        columns.ids(f"{path}::text", "ids")


@pytest.mark.parametrize("name", ["parts", "parts.parquet"])
def test_a_folder_of_part_files_is_one_sentence_with_the_way_forward(tmp_path, name):
    rows, _ = table()
    folder = tmp_path / name
    for label in "ab":
        (folder / f"label={label}").mkdir(parents=True)
        write(folder / f"label={label}" / "part-0.parquet", rows)
    (folder / "_SUCCESS").touch()
    for spec in (folder, f"{folder}::f4"):
        with pytest.raises(
            BadInput, match=r"old is a folder of 2 Parquet part files, with label in the names of folders; wanted one file; .*hive"
        ):
            columns.read(spec, "old")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="old is a folder; wanted one file"):
        columns.read(tmp_path / "empty", "old")


def test_the_way_forward_works(tmp_path, monkeypatch):
    rows, wanted = table()
    for part, label in enumerate("ab"):
        (tmp_path / "FOLDER" / f"label={label}").mkdir(parents=True)
        write(tmp_path / "FOLDER" / f"label={label}" / f"part-{part}.parquet", rows.slice(3 * part, 3))
    (tmp_path / "FOLDER" / "_SUCCESS").touch()
    with pytest.raises(BadInput) as caught:
        columns.one_file(tmp_path / "FOLDER", "old")
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition('python -c "')[2].rpartition('"')[0])  # the very command of the sentence
    np.testing.assert_array_equal(columns.read("one.parquet::f4", "old"), wanted["f4"][:6])
    assert columns.labels("one.parquet::label", "labels").tolist() == ["a"] * 3 + ["b"] * 3


def test_a_column_of_nearly_the_name_or_in_a_folders_name_is_said(tmp_path):
    for near in ("Id", "ID", "_id", "ids", " id"):
        with pytest.raises(BadInput, match=f"no column id, but a column with nearly that name; wanted id; got {near.strip()}"):
            columns.near_misses(tmp_path / "t.parquet", ["vector", near], ["vector", "id"])
    columns.near_misses(tmp_path / "t.parquet", ["vector", "id", "Id", "idea"], ["vector", "id", "label"])
    with pytest.raises(BadInput, match="only the name of the file's folder holds the column label"):
        columns.near_misses(tmp_path / "label=a" / "t.parquet", ["id"], ["id", "label"])
