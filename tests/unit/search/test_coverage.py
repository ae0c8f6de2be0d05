import numpy as np
import oracles
import pytest

from fct.search import coverage


@pytest.mark.parametrize("dim", [3, 40])
def test_radius_far_items_and_distances_are_those_of_naive_loops(dim):
    rng = np.random.default_rng(dim)
    fitting = rng.normal(size=(80, dim)) * rng.uniform(0.1, 50, dim) + rng.normal(size=dim) * 100
    gallery = np.vstack([fitting[:10], fitting[10:40] + 0.1 * rng.normal(size=(30, dim)), fitting[:15] * 1.0 + 4 * fitting.std(axis=0)])
    radius, far, nearest = oracles.coverage(fitting, gallery)
    found = coverage.measure(fitting.astype(np.float32), gallery.astype(np.float32))
    assert found.radius == pytest.approx(radius, rel=1e-3)
    np.testing.assert_allclose(found.distance, nearest, rtol=1e-3, atol=5e-3)
    np.testing.assert_array_equal(found.far, far)
    assert found.share == pytest.approx(np.mean(far))
    assert 0 < found.share < 1


def test_the_fitting_images_themselves_are_covered():
    fitting = np.random.default_rng(0).normal(size=(300, 30)).astype(np.float32)
    found = coverage.measure(fitting, fitting)
    assert found.share == 0 and not found.far.any()


def test_the_scale_of_a_column_does_not_matter():
    rng = np.random.default_rng(1)
    fitting, gallery = rng.normal(size=(60, 5)), rng.normal(size=(40, 5)) * 1.5
    scale = np.array([1, 1000, 0.001, 5, 127.0])
    np.testing.assert_array_equal(coverage.measure(fitting, gallery).far, coverage.measure(fitting * scale, gallery * scale).far)


def test_a_large_offset_of_a_column_does_not_drown_the_distances():
    rng = np.random.default_rng(1)
    fitting, gallery = rng.normal(size=(200, 40)), rng.normal(size=(100, 40)) * 1.3
    wanted, found = coverage.measure(fitting, gallery), coverage.measure(fitting + 10_000, gallery + 10_000)
    np.testing.assert_allclose(found.distance, wanted.distance, rtol=1e-3)
    np.testing.assert_array_equal(found.far, wanted.far)


def test_a_column_that_never_varies_does_not_drown_the_others():
    rng = np.random.default_rng(2)
    fitting, gallery = rng.normal(size=(200, 40)), rng.normal(size=(100, 40)) * 1.3
    wanted = coverage.measure(fitting, gallery)
    found = coverage.measure(np.hstack([fitting, np.full((200, 1), 100.0)]), np.hstack([gallery, np.full((100, 1), 100.0)]))
    np.testing.assert_allclose(found.distance, wanted.distance, rtol=1e-3)


def test_more_rows_than_are_used_as_reference_give_nearly_the_same_radius(monkeypatch):
    fitting = np.random.default_rng(3).normal(size=(500, 4))
    whole = coverage.measure(fitting, fitting[:5]).radius
    monkeypatch.setattr(coverage, "REFERENCE_ROWS", 300)
    assert coverage.measure(fitting, fitting[:5], seed=1).radius == pytest.approx(whole, rel=0.3)
    assert coverage.measure(fitting, fitting[:5], seed=1).radius == coverage.measure(fitting, fitting[:5], seed=1).radius
