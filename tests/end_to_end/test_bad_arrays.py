"""Arrays that cannot be used, on the real command: one sentence, the right exit code, nothing written."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import Project, Ran
from tests.end_to_end.test_bad_input import refused


def arrays(folder: Path, rows: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "old": rng.normal(size=(rows, 6)).astype("f4"),
        "new": rng.normal(size=(rows, 5)).astype("f4"),
        "side": rng.integers(-9, 9, (rows, 4)).astype("i1"),
    }


def fit(folder: Path, found: dict[str, np.ndarray], *more: str) -> Ran:
    args = ["fit", "--method", "ridge", "--out", "h"]
    for name, array in found.items():
        np.save(folder / f"{name}.npy", array)
        args += [f"--{name}", f"{name}.npy"]
    return Project(folder).fct(*args, *more)


@pytest.mark.parametrize("name", ["old", "new"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (0.0, "zero-norm")])
def test_vectors_that_cannot_be_used_are_refused_with_their_row(tmp_path: Path, name: str, value: float, word: str) -> None:
    found = arrays(tmp_path)
    found[name][7] = value
    refused(fit(tmp_path, found), 2, name, word, "row 7")
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("name", ["old", "new", "side"])
def test_rows_of_different_length_are_refused(tmp_path: Path, name: str) -> None:
    found = arrays(tmp_path)
    found[name] = found[name][:-3]
    refused(fit(tmp_path, found), 2, "rows")


def test_a_wrong_dtype_is_refused(tmp_path: Path) -> None:
    refused(fit(tmp_path, arrays(tmp_path) | {"old": np.full((40, 6), "x")}), 2, "dtype")


def test_object_arrays_are_refused_because_they_are_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}] * 40, dtype=object))
    refused(fit(tmp_path, {"new": arrays(tmp_path)["new"]}, "--old", "o.npy"), 2, "o.npy")


def test_a_wrong_dimension_is_refused_by_transform(tmp_path: Path) -> None:
    assert fit(tmp_path, arrays(tmp_path)).code == 0
    np.save(tmp_path / "wide.npy", np.ones((4, 9), "f4"))
    refused(
        Project(tmp_path).fct("transform", "--forward", "h", "--old", "wide.npy", "--side", "side.npy", "--out", "t.npy"),
        2,
        "dimension",
        "6",
        "9",
    )
    assert not (tmp_path / "t.npy").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    found = arrays(tmp_path)
    monkeypatch.setattr("fct.arrays.files.os.replace", full)
    refused(fit(tmp_path, found), 1, "disk is full")
    assert not (tmp_path / "h").exists() and not list(tmp_path.glob(".h*"))
