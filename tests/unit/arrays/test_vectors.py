import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.arrays import flaws, vectors
from fct.errors import BadInput


def test_saved_vectors_are_read_back_as_a_memory_map(tmp_path):
    a = np.arange(6, dtype=np.int8).reshape(2, 3)
    vectors.save(tmp_path / "a.npy", a)
    found = vectors.load(tmp_path / "a.npy")
    assert isinstance(found, np.memmap) and found.dtype == np.int8
    np.testing.assert_array_equal(found, a)


def test_a_pickle_is_neither_written_nor_read(tmp_path):
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError):
        vectors.save(tmp_path / "a.npy", objects)
    assert list(tmp_path.iterdir()) == []
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    with pytest.raises(BadInput, match=r"not a readable .npy"):
        vectors.load(tmp_path / "a.npy")


def test_missing_empty_truncated_and_foreign_files_are_bad_input(tmp_path):
    with pytest.raises(BadInput, match="pool: there is no such file"):
        vectors.load(tmp_path / "a.npy", "pool")
    vectors.save(tmp_path / "a.npy", np.zeros((100, 4)))
    whole = (tmp_path / "a.npy").read_bytes()
    for content in (b"", whole[:40], whole[:-8], b"hello"):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(BadInput, match=r"b\.npy"):
            vectors.load(tmp_path / "b.npy")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64])
def test_good_vectors_pass_whatever_their_dtype(dtype):
    a = np.ones((3, 2), dtype=dtype)
    assert vectors.check("a", a, dim=2, rows=3) is a


@pytest.mark.parametrize(
    ("array", "options", "sentence"),
    [
        (np.ones(3), {}, "wrong shape"),
        (np.ones((2, 2, 2)), {}, "wrong shape"),
        (np.array([["a"]]), {}, "wrong dtype"),
        (np.ones((2, 2), dtype=bool), {}, "wrong dtype"),
        (np.ones((2, 2), dtype=complex), {}, "wrong dtype"),
        (np.ones((0, 2)), {}, "is empty"),
        (np.ones((2, 0)), {}, "is empty"),
        (np.ones((2, 3)), {"dim": 4}, "wrong dimension; wanted 4; got 3"),
        (np.ones((2, 3)), {"rows": 4}, "number of rows; wanted 4; got 2"),
        (np.array([[1, 1], [np.nan, 1]]), {}, "NaN or infinity; in row 1"),
        (np.array([[1, 1], [1, 1], [np.inf, 1]]), {"allow_zero": True}, "NaN or infinity; in row 2"),
        (np.array([[1, 1], [0, 0]], dtype=np.int8), {}, "zero-norm vector; in row 1"),
    ],
)
def test_unusable_vectors_are_refused_by_name_with_the_place(array, options, sentence):
    with pytest.raises(BadInput, match=f"gallery .*{sentence}"):
        vectors.check("gallery", array, **options)


def test_a_bad_row_beyond_the_first_block_is_found():
    a = np.ones((flaws.NUMBERS + 5, 1), dtype=np.float32)
    a[flaws.NUMBERS + 3] = np.nan
    with pytest.raises(BadInput, match=f"row {flaws.NUMBERS + 3}"):
        vectors.check("a", a)


def test_side_information_may_have_rows_of_zeros():
    a = np.zeros((2, 2), dtype=np.int8)
    assert vectors.check("side", a, allow_zero=True) is a


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_normalised_rows_have_norm_one_and_keep_their_direction(rows):
    a = np.array(rows)
    found = vectors.normalise(a)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, a / np.linalg.norm(a, axis=1, keepdims=True), atol=1e-5)


def test_zero_rows_stay_zero_when_normalised():
    np.testing.assert_array_equal(vectors.normalise(np.array([[0, 0], [3, 4]])), np.array([[0, 0], [0.6, 0.8]], dtype=np.float32))


def test_a_checked_memory_map_still_holds_its_numbers(tmp_path):
    array = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    vectors.save(tmp_path / "x.npy", array)
    found = vectors.load(tmp_path / "x.npy")
    assert (vectors.check("x", found) == array).all() and (vectors.check("x", found[10:20]) == array[10:20]).all()


@pytest.mark.parametrize("bytes_of", [b"", b"not numpy", b"\x93NUMPY"])
def test_what_is_no_npy_file_is_refused_without_a_word_on_pickle(tmp_path, bytes_of):
    (tmp_path / "x.npy").write_bytes(bytes_of)
    with pytest.raises(BadInput) as error:
        vectors.load(tmp_path / "x.npy")
    assert "pickle" not in str(error.value)


def test_a_single_value_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.float32(1))
    with pytest.raises(BadInput, match="single value"):
        vectors.load(tmp_path / "x.npy")


@pytest.mark.parametrize(("width", "word"), [(2, "bfloat16"), (1, "float8")])
def test_bfloat16_saved_by_numpy_is_refused_with_the_cast(tmp_path, width, word):
    np.save(tmp_path / "x.npy", np.ones((3, 4), dtype=f"V{width}"))  # so numpy writes a dtype that it does not know
    with pytest.raises(BadInput, match=rf"got \|V{width} \({word}.*cast to float32 and save again.*tensor.float\(\)"):
        vectors.check("x", vectors.load(tmp_path / "x.npy"))
