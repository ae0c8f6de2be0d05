import math

import numpy as np
import pytest

from fct.errors import BadInput
from fct.forward import blend, bridge


def world(n=200, e=6, d=6, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    new = rng.normal(size=(n, e)) + 2
    turn = np.linalg.qr(rng.normal(size=(max(e, d), max(e, d))))[0][:e, :d]
    return new.astype(np.float32), (new @ turn + 1 + noise * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("kind", ["procrustes", "ridge"])
@pytest.mark.parametrize(("e", "d"), [(6, 6), (4, 7)])
def test_a_bridge_takes_new_queries_to_the_old_space(kind, e, d):
    new, old = world(e=e, d=d)
    found = bridge(new[:150], old[:150], kind).apply(new[150:])
    assert found.shape == (50, d) and found.dtype == np.float32
    np.testing.assert_allclose(found, old[150:], atol=0.02)


def test_a_mean_shift_moves_the_mean_alone():
    new, old = world()
    found = bridge(new, old, "mean-shift").apply(new)
    np.testing.assert_allclose(found.mean(axis=0), old.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found - found.mean(axis=0), new - new.mean(axis=0), atol=1e-5)


def test_what_cannot_be_bridged_is_refused():
    new, old = world(d=4)
    for arguments, sentence in [
        ((new, old, "magic"), "unknown kind of bridge"),
        ((new, old, "mean-shift"), "equal dimensions"),
        ((new, old[1:]), "wrong number of rows"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            bridge(*arguments)
    with pytest.raises(BadInput, match="query has the wrong dimension"):
        bridge(new, old).apply(old)


def slerp(a, b, w):
    """One row, in plain arithmetic."""
    a, b = ([x / math.sqrt(sum(y * y for y in v)) for x in v] for v in (a, b))
    theta = math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(a, b, strict=True)))))
    if theta < 1e-9:
        return a
    return [(math.sin((1 - w) * theta) * x + math.sin(w * theta) * y) / math.sin(theta) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_blending_is_spherical_interpolation_row_by_row(weight, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 20, 5))
    found = blend(a, b * 7, weight)
    np.testing.assert_allclose(found, [slerp(x, y, weight) for x, y in zip(a, b, strict=True)], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_blending_goes_along_the_arc_at_even_speed():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 3.0]])
    for weight in (0.1, 0.5, 0.8):
        x, y = blend(a, b, weight)[0]
        assert math.atan2(y, x) == pytest.approx(weight * math.pi / 2, abs=1e-6)


def test_equal_and_opposite_queries_blend_to_something_finite():
    a = np.array([[1.0, 2.0, 3.0]])
    for other in (a, a * (1 + 1e-12), -a):
        for weight in (0.0, 0.3, 1.0):
            found = blend(a, other, weight)
            assert np.isfinite(found).all() and np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(blend(a, -a, 0.9), -blend(a, a, 0.0), atol=1e-6)


def test_blending_refuses_what_does_not_correspond():
    a = np.ones((3, 4))
    for arguments, sentence in [((a, a[1:], 0.5), "rows"), ((a, a[:, 1:], 0.5), "dimension"), ((a, a, 1.5), "weight is out of range")]:
        with pytest.raises(BadInput, match=sentence):
            blend(*arguments)
