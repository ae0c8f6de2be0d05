import hashlib

import numpy as np
import pytest

from fct.arrays import digests


def table(n=10_000, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.array([f"item-{i}" for i in range(n)])
    return ids, {"vector": rng.normal(size=(n, 3)).astype(np.float32), "label": rng.choice(["a", "bb", ""], n)}


def test_bytes_and_files_have_the_sha256_everyone_knows(tmp_path):
    assert digests.of_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert digests.of_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_folder_is_digested_file_by_file_with_relative_names(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    found = digests.of_folder(tmp_path)
    assert list(found) == ["a", "x/y/b"]
    assert found["x/y/b"] == digests.of_bytes(b"abc")


def test_json_digests_depend_on_values_and_not_on_the_order_of_keys():
    assert digests.of_json({"a": 1, "b": [1, 2]}) == digests.of_json({"b": [1, 2], "a": 1})
    assert digests.of_json({"a": 1}) != digests.of_json({"a": "1"})
    with pytest.raises(ValueError):
        digests.of_json(float("nan"))


def test_array_digests_see_values_dtype_and_shape_but_not_memory_layout():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digests.of_array(a) == digests.of_array(np.asfortranarray(a)) == digests.of_array(a.copy()[::1])
    others = [a.reshape(3, 2), a.astype(np.float64), a.astype(np.int32), a + 1, a[::-1]]
    assert len({digests.of_array(x) for x in [a, *others]}) == 6


def test_rows_in_another_order_have_the_same_digest_across_blocks():
    ids, columns = table()
    order = np.random.default_rng(1).permutation(len(ids))
    assert len(ids) > 2 * digests.BLOCK_ROWS
    assert digests.of_rows(ids, **columns) == digests.of_rows(ids[order], **{name: value[order] for name, value in columns.items()})


def test_any_changed_value_id_or_column_name_changes_the_digest():
    ids, columns = table(5000)
    first = digests.of_rows(ids, **columns)
    vector = columns["vector"].copy()
    vector[4999, 2] = np.nextafter(vector[4999, 2], np.float32(9))
    label = columns["label"].astype(object)
    label[0] = "c"
    other_ids = ids.copy()
    other_ids[17] = "item-x"
    swapped = ids.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    found = [
        digests.of_rows(ids, vector=vector, label=columns["label"]),
        digests.of_rows(ids, vector=columns["vector"], label=label),
        digests.of_rows(other_ids, **columns),
        digests.of_rows(swapped, **columns),
        digests.of_rows(ids, vectors=columns["vector"], label=columns["label"]),
        digests.of_rows(ids, vector=columns["vector"]),
        digests.of_rows(ids[:-1], vector=columns["vector"][:-1], label=columns["label"][:-1]),
    ]
    assert len({first, *found}) == 1 + len(found)


def test_the_width_of_a_string_column_does_not_matter():
    ids, columns = table(100)
    wide = {**columns, "label": columns["label"].astype("<U50")}
    assert digests.of_rows(ids, **columns) == digests.of_rows(ids.astype("<U99"), **wide)


def test_no_rows_have_a_digest_too():
    assert digests.of_rows(np.array([], dtype=str), v=np.zeros((0, 2))) == digests.of_rows(np.array([], dtype=str), v=np.zeros((0, 2)))
