import errno
import json
import os

import pytest

from fct.arrays.files import read_json, whole_file, whole_folder, write_json
from fct.errors import BadInput, OperationFailed


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with whole_file(path) as part:
            part.write_text(text)
            assert part != path
        assert path.read_text() == text
    assert names(path.parent) == ["a.txt"]


def test_until_the_block_ends_the_old_file_is_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"


@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_no_new_file_and_nothing_beside(tmp_path, existed):
    path = tmp_path / "a.txt"
    if existed:
        path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == (["a.txt"] if existed else [])
    assert not existed or path.read_text() == "old"


def test_a_folder_appears_whole_and_nothing_of_the_old_one_stays(tmp_path):
    path = tmp_path / "out"
    with whole_folder(path) as part:
        (part / "old.txt").write_text("1")
    with whole_folder(path) as part:
        (part / "new.txt").write_text("2")
        assert names(path) == ["old.txt"]
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("existed", [True, False])
def test_an_exception_leaves_no_new_folder_and_nothing_beside(tmp_path, existed):
    path = tmp_path / "out"
    if existed:
        path.mkdir()
        (path / "old.txt").write_text("1")
    with pytest.raises(ZeroDivisionError), whole_folder(path) as part:
        (part / "new.txt").write_text("2")
        raise ZeroDivisionError
    assert names(tmp_path) == (["out"] if existed else [])
    assert not existed or names(path) == ["old.txt"]


@pytest.mark.parametrize("writer", [whole_file, whole_folder])
def test_two_writers_of_one_place_that_have_the_same_process_number_do_not_meet(tmp_path, writer):
    with writer(tmp_path / "out") as first, writer(tmp_path / "out") as second:
        assert first != second
        for part in (first, second):
            part.joinpath("text").write_text(part.name) if writer is whole_folder else part.write_text(part.name)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("writer", [whole_file, whole_folder])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, writer, number):
    path = tmp_path / "out"
    with pytest.raises(OperationFailed, match=r"the disk is full.*free some space") as caught, writer(path):
        raise OSError(number, "No space left on device")
    assert str(path) in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_place_is_one_sentence(tmp_path, number):
    with pytest.raises(OperationFailed, match="cannot write"), whole_file(tmp_path / "out"):
        raise OSError(number, os.strerror(number))


def test_other_operating_system_errors_are_not_renamed(tmp_path):
    with pytest.raises(InterruptedError), whole_file(tmp_path / "out"):
        raise OSError(errno.EINTR, "interrupted")


def test_json_is_readable_sorted_and_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "ψ"})
    write_json(tmp_path / "b.json", {"a": "ψ", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert "ψ" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": "ψ", "b": 1}


def test_nan_is_never_written_as_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []


def test_a_missing_or_damaged_json_file_is_bad_input_that_names_it(tmp_path):
    with pytest.raises(BadInput, match=r"missing.*a\.json"):
        read_json(tmp_path / "a.json")
    for content in (json.dumps({"a": 1}).encode()[:-1], b"", b"\xff\xfe{}"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(BadInput, match=r"not valid JSON.*a\.json"):
            read_json(tmp_path / "a.json")
