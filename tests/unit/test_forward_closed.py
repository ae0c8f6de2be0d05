import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from fct.forward.closed import procrustes, ridge


def pairs(n=80, d=6, e=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * rng.uniform(0.1, 20, d) + rng.normal(size=d) * 5
    return x, x @ rng.normal(size=(d, e)) + 3 + rng.normal(size=(n, e))


def test_ridge_is_the_least_squares_solution_of_the_widened_problem():
    x, y = pairs()
    strength = 0.05
    std = x.std(axis=0)
    wide = np.vstack([(x - x.mean(axis=0)) / std, np.sqrt(strength * len(x)) * np.eye(x.shape[1])])
    wanted = np.linalg.lstsq(wide, np.vstack([y - y.mean(axis=0), np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0] / std[:, None]
    weight, bias = ridge(x, y, strength)
    np.testing.assert_allclose(weight, wanted, rtol=1e-8)
    np.testing.assert_allclose(bias, y.mean(axis=0) - x.mean(axis=0) @ wanted)


def test_ridge_without_a_penalty_is_plain_least_squares_with_a_bias():
    x, y = pairs()
    wanted = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)[0]
    weight, bias = ridge(x, y, 0.0)
    np.testing.assert_allclose(np.vstack([weight, bias]), wanted, rtol=1e-8, atol=1e-9)


def test_a_strong_penalty_leaves_the_mean():
    x, y = pairs()
    weight, bias = ridge(x, y, 1e12)
    np.testing.assert_allclose(x @ weight + bias, np.tile(y.mean(axis=0), (len(x), 1)), atol=1e-6)


def test_a_column_that_never_varies_is_no_trouble_for_ridge():
    x, y = pairs()
    weight, bias = ridge(np.hstack([x, np.full((len(x), 1), 7.0)]), y, 1e-3)
    np.testing.assert_allclose(weight[-1], 0, atol=1e-12)
    np.testing.assert_allclose(weight[:-1], ridge(x, y, 1e-3)[0], rtol=1e-8)
    assert np.isfinite(bias).all()


@pytest.mark.parametrize("e", [6, 4])
def test_procrustes_is_that_of_scipy_after_centring_and_scaling(e):
    x, y = pairs(e=e)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    wanted, scale = orthogonal_procrustes(a, np.hstack([b, np.zeros((len(b), 6 - e))]))
    weight, bias = procrustes(x, y)
    np.testing.assert_allclose(weight, wanted[:, :e] * scale / (a**2).sum(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bias, y.mean(axis=0) - x.mean(axis=0) @ weight)


def test_procrustes_finds_a_rotation_with_scale_and_shift_exactly():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 5))
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    weight, bias = procrustes(x, 2.5 * x @ rotation + 4)
    np.testing.assert_allclose(weight, 2.5 * rotation, atol=1e-12)
    np.testing.assert_allclose(bias, 4, atol=1e-12)


@pytest.mark.parametrize(("d", "e"), [(5, 5), (3, 6), (6, 3)])
def test_procrustes_is_semi_orthogonal_up_to_its_scale(d, e):
    x, y = pairs(d=d, e=e)
    weight, _ = procrustes(x, y)
    gram = weight.T @ weight if d >= e else weight @ weight.T
    np.testing.assert_allclose(gram / gram[0, 0], np.eye(min(d, e)), atol=1e-9)


def test_vectors_that_are_all_equal_do_not_divide_by_zero():
    weight, bias = procrustes(np.ones((4, 2)), np.full((4, 2), 3.0))
    np.testing.assert_allclose(np.ones((4, 2)) @ weight + bias, 3.0)
