import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from fct.forward import closed
from fct.forward.closed import Moments, Ridge, mean_shift, moments


def sums(x, y, block=7):
    """Moments gathered from small blocks, as a fit does."""
    return moments((x[i : i + block], y[i : i + block]) for i in range(0, len(x), block))


def ridge(x, y, strength):
    return Ridge(sums(x, y), x.shape[1]).at(strength)


def procrustes(x, y, old_dim=None):
    return closed.procrustes(sums(x, y), old_dim or x.shape[1])


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
    weight, bias = ridge(x, y, 1e-13)
    np.testing.assert_allclose(np.vstack([weight, bias]), wanted, rtol=1e-7, atol=1e-8)


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


@pytest.mark.parametrize("seed", range(5))
def test_moments_from_blocks_are_those_of_all_rows_even_far_from_the_origin(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(61, 4)) + 1e6, rng.normal(size=(61, 3)) - 1e5
    for cut in (1, 5, 60, 61):
        found = sums(x, y, block=cut)
        a, b = x - x.mean(axis=0), y - y.mean(axis=0)
        assert isinstance(found, Moments) and found.n == 61
        np.testing.assert_allclose(found.x_mean, x.mean(axis=0))
        np.testing.assert_allclose(found.xx, a.T @ a, rtol=1e-8, atol=1e-6)
        np.testing.assert_allclose(found.xy, a.T @ b, rtol=1e-8, atol=1e-5)
        assert found.yy == pytest.approx((b * b).sum(), rel=1e-8)
        assert found.scale == pytest.approx(np.sqrt((b * b).mean()), rel=1e-8)


def test_no_map_and_mean_shift_leave_side_information_out():
    x, y = pairs(d=6, e=4)
    weight, bias = closed.none(sums(x, y), 4)
    np.testing.assert_array_equal(x @ weight + bias, x[:, :4])
    weight, bias = mean_shift(sums(x, y), 4)
    moved = x @ weight + bias
    np.testing.assert_allclose(moved.mean(axis=0), y.mean(axis=0))
    np.testing.assert_allclose(moved - moved.mean(axis=0), x[:, :4] - x[:, :4].mean(axis=0), atol=1e-9)


def test_the_unit_of_the_side_information_changes_no_closed_form():
    x, y = pairs(d=6, e=3)
    other = x.copy()
    other[:, 4:] *= 1000
    for fit in (lambda a: procrustes(a, y, 4), lambda a: Ridge(sums(a, y), 4).at(0.1), lambda a: Ridge(sums(a, y), 4).reduced(0.1, 2)):
        (w, b), (v, c) = fit(x), fit(other)
        np.testing.assert_allclose(x @ w + b, other @ v + c, rtol=1e-8, atol=1e-8)
    (w, b), (v, c) = procrustes(x, y), procrustes(other, y)
    assert not np.allclose(x @ w + b, other @ v + c)  # as one block it does


def test_both_blocks_weigh_the_same_however_many_columns_they_have():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 22)), rng.normal(size=(90, 3))
    scale = Ridge(sums(x, y), 2).scale
    energy = ((x - x.mean(axis=0)) ** 2).mean(axis=0) * scale**2
    assert energy[:2].sum() == pytest.approx(energy[2:].sum()) == pytest.approx(11)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_is_the_best_of_its_rank_under_the_penalty(rank):
    x, y = pairs(d=6, e=4)
    strength = 0.05
    weight, bias = Ridge(sums(x, y), 6).reduced(strength, rank)
    assert np.linalg.matrix_rank(weight, tol=1e-8 * np.abs(weight).max()) == rank
    np.testing.assert_allclose(bias, y.mean(axis=0) - x.mean(axis=0) @ weight)
    std, a, b = x.std(axis=0), x - x.mean(axis=0), y - y.mean(axis=0)

    def cost(w):
        return ((a @ w - b) ** 2).sum() + strength * len(x) * ((w * std[:, None]) ** 2).sum()

    # naive: alternating least squares over factors of this rank, from several starts
    z, best = a / std, np.inf
    for seed in range(5):
        right = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, rank)))[0]
        for _ in range(400):
            left = np.linalg.solve(z.T @ z + strength * len(x) * np.eye(6), z.T @ b @ right)
            right = np.linalg.qr(np.linalg.solve(left.T @ (z.T @ z + strength * len(x) * np.eye(6)) @ left, left.T @ z.T @ b).T)[0]
        left = np.linalg.solve(z.T @ z + strength * len(x) * np.eye(6), z.T @ b @ right)
        best = min(best, cost(left @ right.T / std[:, None]))
    assert cost(weight) == pytest.approx(best, rel=1e-7)
    assert cost(weight) < 0.999 * cost(Ridge(sums(x, y), 6).reduced(strength * 30, rank)[0])


def test_full_rank_is_ridge():
    x, y = pairs(d=6, e=4)
    form = Ridge(sums(x, y), 6)
    np.testing.assert_allclose(form.reduced(0.01, 4)[0], form.at(0.01)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("e", [3, 40])
def test_low_rank_is_the_projection_on_the_principal_axes_of_ridge_s_fitted_values(e):
    rng = np.random.default_rng(e)
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(60, 2)) @ rng.normal(size=(2, e)) + 0.1 * rng.normal(size=(60, e))
    form, strength = Ridge(sums(x, y), 5), 0.05
    weight = form.at(strength)[0]
    fitted = np.vstack([(x - x.mean(axis=0)) @ weight, np.sqrt(60 * strength) * weight / form.scale[:, None]])
    for rank in (1, 2, 3):
        axes = np.linalg.svd(fitted)[2][:rank].T
        np.testing.assert_allclose(form.reduced(strength, rank)[0], weight @ axes @ axes.T, rtol=1e-7, atol=1e-9)
