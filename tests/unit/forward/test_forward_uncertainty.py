import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct.forward.uncertainty import fit_uncertainty, unsure


def world(n=3000, seed=0):
    """Errors that grow along one direction and with the distance from the centre."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * [1, 5, 0.1, 1, 1, 0] + 3
    truth = 0.7 * (x[:, 0] - 3) + 0.5 * ((x[:, [0, 3, 4]] - 3) ** 2).mean(axis=1)
    return x, np.exp(truth) * rng.chisquare(8, n) / 8, np.exp(truth)


def test_sigma_ranks_rows_by_their_error():
    x, errors, truth = world()
    found = fit_uncertainty(x[:2000], errors[:2000], seed=0).sigma(x[2000:])
    rank = np.argsort(np.argsort(found)), np.argsort(np.argsort(truth[2000:]))
    assert np.corrcoef(*rank)[0, 1] > 0.9
    assert np.log(found**2).mean() == pytest.approx(np.log(errors).mean(), abs=0.1)


def test_sigma_is_constant_where_errors_cannot_be_predicted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    for errors in (rng.chisquare(3, 300), np.full(300, 0.25)):
        found = fit_uncertainty(x, errors, seed=0).sigma(x)
        assert found.std() < 0.15 * found.mean()
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


@pytest.mark.parametrize(("n", "c"), [(1, 3), (5, 3), (30, 80), (400, 2)])
def test_it_stays_finite_for_few_rows_many_columns_and_rows_far_away(n, c):
    rng = np.random.default_rng(n)
    model = fit_uncertainty(rng.normal(size=(n, c)), rng.random(n), seed=0)
    far = model.sigma(1e18 * rng.normal(size=(9, c)))
    assert far.dtype == np.float32 and np.isfinite(far).all() and (far > 0).all()


def test_a_rows_sigma_does_not_depend_on_its_neighbours():
    x, errors, _ = world(500)
    model = fit_uncertainty(x, errors, seed=0)
    whole = model.sigma(x)
    order = np.random.default_rng(1).permutation(500)[:77]
    assert model.sigma(x[order]).tobytes() == whole[order].tobytes()


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_unsure_is_what_a_naive_softmax_says(classes, seed):
    rng = np.random.default_rng(seed)
    carried, weight, bias = rng.normal(size=(5, 4)), rng.normal(size=(classes, 4)), rng.normal(size=classes)
    found = unsure(carried, (weight, bias))
    for row, value in zip(carried, found, strict=True):
        powers = [math.exp(sum(w * x for w, x in zip(one, row, strict=True)) + b) for one, b in zip(weight, bias, strict=True)]
        assert value == pytest.approx(1 - max(powers) / sum(powers) + 1e-4, abs=1e-5)


def test_rows_of_which_the_head_is_sure_come_last_and_logits_of_any_size_are_no_harm():
    head = np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
    found = unsure(np.array([[1e4, 0, 0], [1, 1, 1], [3, 0, 0]]), head)
    assert found[0] < found[2] < found[1] and found[0] > 0 and np.isfinite(found).all()
