import numpy as np
import pytest

from fct.errors import BadInput
from fct.side import codes
from fct.side.settings import BITS


def draw(rng, n, bits):
    half = 2 ** (np.asarray(bits) - 1)
    return rng.integers(-half, half, (n, len(bits))).astype(np.int8)


def naive_pack(rows, bits):
    """Every row as one long string of binary digits."""
    packed = []
    for row in rows:
        digits = "".join(format(int(code) + 2 ** (int(b) - 1), f"0{int(b)}b") for code, b in zip(row, bits, strict=True))
        digits += "0" * (-len(digits) % 8)
        packed.append([int(digits[at : at + 8], 2) for at in range(0, len(digits), 8)])
    return np.array(packed, np.uint8).reshape(len(rows), -1)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_come_back_exactly_and_take_the_bytes_they_should(bits):
    rng = np.random.default_rng(bits)
    for dims in (1, 2, 3, 7, 8, 9, 64, 129):
        for n in (0, 1, 5):
            given = draw(rng, n, np.full(dims, bits))
            packed = codes.pack(given, bits)
            assert packed.dtype == np.uint8 and packed.shape == (n, -(-dims * bits // 8))
            assert packed.shape[1] == codes.packed_bytes(dims, bits)
            back = codes.unpack(packed, dims, bits)
            assert back.dtype == np.int8 and np.array_equal(back, given)


def test_the_ends_of_each_range_come_back():
    for bits in BITS:
        ends = np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1]], np.int8)
        assert np.array_equal(codes.unpack(codes.pack(ends, bits), 4, bits), ends)


def test_packing_is_that_of_a_string_of_binary_digits():
    rng = np.random.default_rng(0)
    for _ in range(20):
        bits = rng.integers(1, 9, rng.integers(1, 20))
        given = draw(rng, 4, bits)
        packed = codes.pack(given, bits)
        assert np.array_equal(packed, naive_pack(given, bits))
        assert np.array_equal(codes.unpack(packed, len(bits), bits), given)


def test_rows_are_packed_alike_in_any_block():
    rng = np.random.default_rng(1)
    given = draw(rng, codes.BLOCK + 3, np.full(5, 2))
    packed = codes.pack(given, 2)
    assert np.array_equal(packed[-3:], codes.pack(given[-3:], 2))
    assert np.array_equal(codes.unpack(packed, 5, 2), given)


@pytest.mark.parametrize(("value", "bits"), [(8, 4), (-9, 4), (2, 2), (1, 1), (-2, 1)])
def test_a_code_outside_its_bits_is_refused_with_its_column(value, bits):
    given = np.zeros((3, 5), np.int8)
    given[1, 3] = value
    with pytest.raises(BadInput, match="does not fit its bits.*column 3"):
        codes.pack(given, bits)


def test_wrong_forms_are_refused():
    for wrong in (np.zeros((2, 3), np.int16), np.zeros(3, np.int8)):
        with pytest.raises(BadInput, match="int8"):
            codes.pack(wrong, 4)
    for wrong in (np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.int8), np.zeros(2, np.uint8)):
        with pytest.raises(BadInput, match=r"wanted \(N, 2\) uint8"):
            codes.unpack(wrong, 4, 4)
    for bits in (0, 9, -1, 2.0, [4, 4]):
        with pytest.raises(BadInput, match="bits"):
            codes.pack(np.zeros((2, 3), np.int8), bits)


def loss(values, step, bits):
    """Mean squared error of one column, by a loop over its values and all middles of cells."""
    middles = [(c + 0.5) * step for c in range(-(2 ** (bits - 1)), 2 ** (bits - 1))]
    return sum(min((v - m) ** 2 for m in middles) for v in values) / len(values)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_steps_lose_no_more_than_the_best_of_a_naive_search(bits):
    rng = np.random.default_rng(bits)
    values = np.stack([rng.normal(size=150), 7 * rng.laplace(size=150), rng.uniform(-0.1, 0.1, 150)], axis=1)
    for column, step in zip(values.T, codes.best_steps(values, bits), strict=True):
        least = min(loss(column, step * factor, bits) for factor in np.linspace(0.4, 2.5, 61))
        assert loss(column, step, bits) <= 1.005 * least


def test_the_step_of_one_bit_is_twice_the_mean_magnitude():
    values = np.random.default_rng(0).normal(size=(4000, 3)) * [1, 10, 0.01]
    np.testing.assert_allclose(codes.best_steps(values, 1), 2 * np.abs(values).mean(axis=0), rtol=0.01)


def test_steps_of_a_normal_distribution_are_those_of_the_literature():
    """Max (1960), table II: uniform output levels for 4 and 16 cells."""
    values = np.random.default_rng(1).normal(size=(8000, 1))
    assert codes.best_steps(values, 2)[0] == pytest.approx(0.9957, rel=0.03)
    assert codes.best_steps(values, 4)[0] == pytest.approx(0.3352, rel=0.03)


def test_columns_that_never_vary_have_a_step():
    assert (codes.best_steps(np.zeros((10, 2)), 4) > 0).all()


def test_bits_go_where_the_error_is_largest():
    assert codes.bits_per_component(np.array([16.0, 4.0, 1.0]), 6).tolist() == [3, 2, 1]
    assert codes.bits_per_component(np.array([1.0, 1.0, 0.0]), 3).tolist() == [2, 1, 0]
    assert codes.bits_per_component(np.array([1e9, 1.0]), 10).tolist() == [8, 2]


def test_no_other_share_of_the_bits_has_a_smaller_error():
    rng = np.random.default_rng(0)
    for _ in range(10):
        variances, total = rng.exponential(size=4) ** 3, int(rng.integers(0, 9))
        given = codes.bits_per_component(variances, total, most=4)
        assert given.sum() == total
        every = [np.array(share) for share in np.ndindex(5, 5, 5, 5) if sum(share) == total]
        least = min(float((variances * 4.0**-share).sum()) for share in every)
        assert float((variances * 4.0**-given).sum()) == pytest.approx(least)


def test_more_bits_than_there_is_room_for_are_refused():
    with pytest.raises(BadInput, match=r"0 … 16"):
        codes.bits_per_component(np.ones(2), 17)
