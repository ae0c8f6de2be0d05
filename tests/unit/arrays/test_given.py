import numpy as np
import pytest

from fct.arrays import given
from fct.errors import BadInput


def test_seeds_are_whole_numbers_from_0():
    assert [given.seed(value) for value in (0, 7, np.int64(3))] == [0, 7, 3]
    for value in (-1, 1.0, "1", None, False):
        with pytest.raises(BadInput, match="the seed cannot be used"):
            given.seed(value)


def test_a_place_is_free_or_of_the_same_kind(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, holds in ((tmp_path / "new/er", None), (tmp_path / "file", None), (tmp_path / "new", ("a",)), (tmp_path / "folder", ("a",))):
        assert given.place(path, holds=holds) == path
    for path, holds in ((tmp_path / "folder", None), (tmp_path / "file", ("a",)), (tmp_path / "file/below", None)):
        with pytest.raises(BadInput):
            given.place(path, holds=holds)


def test_a_folder_is_replaced_only_if_it_holds_what_will_be_written(tmp_path):
    (tmp_path / "a").write_text("")
    assert given.place(tmp_path, holds=("a", "b")) == tmp_path
    (tmp_path / "c").write_text("")
    with pytest.raises(BadInput, match="would be lost; got c; in"):
        given.place(tmp_path, holds=("a", "b"))
