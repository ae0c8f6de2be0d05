"""Numbers that are not the vectors they look like."""

from __future__ import annotations

import numpy as np
import pytest

from fct.arrays import looks
from fct.errors import BadInput

RNG = np.random.default_rng(0)
PHI = RNG.normal(size=(300, 64)).astype(np.float32) * RNG.uniform(0.5, 8, (300, 1)).astype(np.float32)


def test_codes_whose_scale_per_row_is_elsewhere_are_refused_with_the_cast() -> None:
    codes = np.rint(PHI / np.abs(PHI).max(axis=1, keepdims=True) * 127).astype(np.int8)
    with pytest.raises(
        BadInput, match=r"v are codes \(int8\) whose scale differs by row; got 100% of the rows .*multiply each row by its scale"
    ):
        looks.look("v", codes)
    low, high = PHI.min(axis=1, keepdims=True), PHI.max(axis=1, keepdims=True)
    with pytest.raises(BadInput, match=r"codes \(uint8\)"):
        looks.look("v", np.rint((PHI - low) / (high - low) * 255).astype(np.uint8))
    with pytest.raises(BadInput, match=r"columns beside: quant_scale"):
        looks.look("v", (codes // 3), ("colour", "quant_scale"))


def test_codes_of_one_scale_and_packed_bits_are_taken_with_a_word() -> None:
    one = np.clip(np.rint(PHI / 10 * 127), -127, 127).astype(np.int8)
    packed = np.packbits(PHI > 0, axis=1)
    for array in (one, packed, one.astype(np.int32)):
        (sentence,) = looks.look("v", array, ("colour",))
        assert "are whole numbers" in sentence and "100 %" in sentence and "give float32" in sentence


def test_the_bits_of_bfloat16_are_no_whole_numbers() -> None:
    bits = (PHI.view(np.uint32) >> 16).astype(np.uint16)
    for array in (bits, bits.view(np.int16)):
        with pytest.raises(BadInput, match="look like the bits of bfloat16"):
            looks.look("v", array)
    for array in (RNG.integers(-32768, 32768, (300, 64)).astype(np.int16), RNG.integers(-99, 99, (300, 64)).astype(np.int16)):
        assert len(looks.look("v", array)) == 1


def test_a_constant_dimension_is_said_and_what_it_drowns() -> None:
    assert looks.look("v", PHI) == []
    padded = np.pad(PHI, [(0, 0), (0, 6)])
    (sentence,) = looks.look("v", padded)
    assert "6 of 70 dimensions of v are constant in 100 % of the rows (dimension 64: 0)" in sentence and "padding" in sentence
    padded[:, 66] = 1000
    (sentence,) = looks.look("v", padded)
    assert "make up 100% of the squared length" in sentence and "subtract the mean" in sentence
    assert looks.look("v", PHI[:1]) == []
