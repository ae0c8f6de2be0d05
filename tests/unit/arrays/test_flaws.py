"""Rows that cannot be used: every kind is found wherever it lies, counted, named, and can be left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.arrays import flaws, vectors
from fct.errors import BadInput
from fct.gallery.index import prepared


def rows(count: int = 40, dim: int = 6, dtype: str = "f8") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, dim)).astype(dtype)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from(["nan", "inf", "zero", "1e-30", "1e20", "1e300", "1e-300", "1e8", "1e-8", "fine", "fine", "fine"]),
        min_size=3,
        max_size=30,
    )
)
def test_every_kind_is_found_as_a_naive_walk_finds_it(kinds: list[str]) -> None:
    array, wanted = np.ones((len(kinds) * 3, 4)), {}
    array[:, 1] = np.arange(len(array)) / len(array)
    usual = float(np.median([np.linalg.norm(row) for row in array[len(kinds) :]]))
    assert 1 <= usual < 2
    for row, kind in enumerate(kinds):
        if kind == "fine":
            continue
        array[row] = 0 if kind == "zero" else array[row] if kind in ("nan", "inf") else array[row] * float(kind)
        if kind in ("nan", "inf"):
            array[row, 2] = float(kind)
        say = {"zero": flaws.ZERO, "1e-30": flaws.SHORT, "1e20": flaws.LONG, "1e300": flaws.BEYOND, "1e-300": flaws.SHORT}
        say |= {"1e8": flaws.LARGE, "1e-8": flaws.SMALL, "nan": flaws.NAN, "inf": flaws.NAN}
        wanted.setdefault(say[kind], []).append(row)
    found = flaws.find("v", array, alike=True)
    assert {kind: rows.tolist() for kind, rows in found.kinds.items()} == wanted
    assert found.bad.sum() == sum(map(len, wanted.values()))
    if wanted and len(array[~found.bad]):
        assert not flaws.find("v", array[~found.bad], alike=True).kinds, "what remains is usable"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "u1", "i8"])
def test_ordinary_rows_have_no_flaw_whatever_their_dtype(dtype: str) -> None:
    array = np.maximum(np.abs(rows() * 20), 1).astype(dtype)
    assert not flaws.find("v", array, alike=True).kinds


def test_a_block_boundary_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaws, "NUMBERS", 30)  # five rows at once
    array = rows()
    array[[0, 4, 5, 39]] *= 1e9
    array[17] = 0
    found = flaws.find("v", array, alike=True)
    assert found.kinds[flaws.LARGE].tolist() == [0, 4, 5, 39] and found.kinds[flaws.ZERO].tolist() == [17]


def test_all_of_a_kind_are_counted_and_listed_with_their_ids() -> None:
    array, ids = rows(), np.array([f"item {row}" for row in range(40)])
    array[[0, 7, 30], 2] = np.nan
    with pytest.raises(BadInput, match=r"v contains NaN or infinity; got 3 of 40 rows; in rows 0 \(item 0\), 7 \(item 7\), 30 \(item 30\)"):
        vectors.check("v", array, ids=ids)
    array[9] = 0
    with pytest.raises(BadInput, match=r"NaN or infinity in rows 0, 7, 30 \(3 in all\), a zero-norm vector in row 9 \(1 in all\)"):
        vectors.check("v", array)
    array[:] = np.nan
    with pytest.raises(BadInput, match="got 40 of 40 rows; in rows 0, 1, 2, 3, 4, 5, 6, 7 and 32 more"):
        vectors.check("v", array)


def test_a_row_of_norm_1e_minus_30_or_1e20_is_refused_at_the_door_and_not_within() -> None:
    for scale, word in ((1e-30, "square is zero in float32"), (1e20, "square is infinite in float32"), (1e9, "more than a million times")):
        array = rows(dtype="f4")
        array[5] *= np.float32(scale)
        with pytest.raises(BadInput, match=rf"v contains a norm .*{word}.*; in row 5"):
            vectors.check("v", array, alike=True)
        assert vectors.check("v", array) is array, "a table that was written before is read as before"


def test_numbers_beyond_float32_are_refused_wherever_vectors_are_checked() -> None:
    array = rows()
    array[3, 1] = 1e300
    with pytest.raises(BadInput, match="side contains numbers beyond float32; in row 3"):
        vectors.check("side", array, allow_zero=True)


def test_float16_that_overflowed_is_said_with_the_cast() -> None:
    with np.errstate(over="ignore"):
        array = (rows() * np.where(np.arange(40) % 4, 1, 1e6)[:, None]).astype(np.float16)
    with pytest.raises(BadInput, match=r"overflowed float16 .*write float32, or scale.*; got 10 of 40 rows"):
        vectors.check("v", array)
    saturated = np.where(np.isinf(array), np.copysign(np.float16(65504), array), array)  # as arrow and GPUs cast
    for one in (saturated, saturated.astype(np.float32)):
        with pytest.raises(BadInput, match="overflowed float16.*got 10 of 40 rows"):
            vectors.check("v", one, alike=True)


@settings(deadline=None, max_examples=50)
@given(st.floats(-44, 38), st.integers(1, 5))
def test_normalised_rows_have_norm_one_whatever_their_size(power: float, dim: int) -> None:
    array = np.full((1, dim), 10.0**power).astype(np.float32)
    found = vectors.normalise(array)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_normalising_leaves_the_bits_of_ordinary_rows_beside_odd_ones() -> None:
    array = rows(dtype="f4")
    wanted = array / np.linalg.norm(array, axis=1, keepdims=True)
    odd = np.concatenate([array, array[:2] * np.float32(1e-30), array[:2] * np.float32(1e25), array[:1] * 0])
    found = vectors.normalise(odd)
    assert (found[:40] == wanted).all() and (found[-1] == 0).all()
    np.testing.assert_allclose(found[40:44], np.concatenate([wanted[:2]] * 2), atol=1e-6)


def test_a_tiny_or_huge_row_that_is_there_already_is_no_nearer_than_it_is() -> None:
    """A row of norm 1e-30 was the first answer to 56 of 100 queries: its square is zero in float32, and so it was not scaled down."""
    array, query = rows(200, dtype="f4"), rows(100, dtype="f8") + 0.1
    array[5] *= np.float32(1e-30)
    array[6] *= np.float32(1e20)
    found = (query @ prepared(array, "cosine").T).argmax(axis=1)
    exact = array.astype("f8")
    wanted = (query @ (exact / np.linalg.norm(exact, axis=1, keepdims=True)).T).argmax(axis=1)
    assert (found == wanted).all()
