"""Orders of backfill and their curves, judged by building every mixed gallery."""

import numpy as np
import oracles
import pytest

from fct.errors import BadInput
from fct.search import metrics, order


def world(seed, metric, n=17, g=26, dim=4):
    """Two galleries of few integer values, so that ties abound (for cosine of norm 2: exact)."""
    rng = np.random.default_rng(seed)
    values = [-1, 1] if metric == "cosine" else [-2, -1, 1, 2]
    query, transformed, native = (rng.choice(values, (rows, dim)).astype(np.float32) for rows in (n, g, g))
    names = np.array(["a", "b", "c", "d"])
    extra = {"query_ids": np.arange(n), "gallery_ids": np.arange(g) + 5}
    extra |= {"query_sources": rng.choice(["s", "t", ""], n), "gallery_sources": rng.choice(["s", "t", ""], g)}
    return query, transformed, native, rng.permutation(g), rng.choice(names, n), rng.choice(names, g), extra


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("steps", [2, 5, 11])
@pytest.mark.parametrize("hide", [False, True])
def test_a_curve_is_that_of_every_mixed_gallery_built_and_searched_naively(metric, steps, hide):
    for seed in range(3):
        query, transformed, native, which, of_query, of_gallery, extra = world(seed, metric)
        extra = extra if hide else {}
        found = order.curve(query, transformed, native, which, of_query, of_gallery, steps=steps, metric=metric, **extra)
        assert found.beta.tolist() == np.linspace(0, 1, steps).tolist()
        for step, beta in enumerate(found.beta):
            mixed = transformed.copy()
            first = which[: round(beta * len(mixed))]
            mixed[first] = native[first]
            wanted = oracles.per_query(query, mixed, of_query, of_gallery, metric=metric, **extra)
            assert found.rows.tolist() == [row for row, *_ in wanted]
            assert found.values["top1"][step].tolist() == [float(rank == 1) for _, rank, *_ in wanted]
            np.testing.assert_allclose(found.values["mAP"][step], [ap for _, _, ap, _ in wanted], rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_on_real_numbers_and_galleries_of_many_blocks_it_agrees_with_per_query(metric, monkeypatch):
    monkeypatch.setattr("fct.search.counting.SCORES", 4096)
    rng = np.random.default_rng(0)
    query, transformed, native = (rng.normal(size=(rows, 33)).astype(np.float32) for rows in (70, 211, 211))
    native[::3] = transformed[::3]  # native and transformed tie
    native[::7] = transformed[1]
    of_query, of_gallery = rng.integers(0, 5, 70), rng.integers(0, 5, 211)
    which = rng.permutation(211)
    found = order.curve(query, transformed, native, which, of_query, of_gallery, steps=4, metric=metric)
    for step, count in enumerate([0, 70, 141, 211]):
        mixed = transformed.copy()
        mixed[which[:count]] = native[which[:count]]
        wanted = metrics.per_query(query, mixed, of_query, of_gallery, metric=metric)
        np.testing.assert_array_equal(found.values["top1"][step], wanted.top(1))
        np.testing.assert_allclose(found.values["mAP"][step], wanted.ap, rtol=0, atol=1e-12)


def test_several_orders_at_once_give_what_each_gives_alone():
    query, transformed, native, _, of_query, of_gallery, extra = world(4, "l2")
    orders = order.random_orders(len(native), 3, seed=1)
    together = order.curves(query, transformed, native, orders, of_query, of_gallery, metric="l2", **extra)
    for which, found in zip(orders, together, strict=True):
        alone = order.curve(query, transformed, native, which, of_query, of_gallery, metric="l2", **extra)
        np.testing.assert_array_equal(alone.values["mAP"], found.values["mAP"])
        np.testing.assert_array_equal(alone.values["top1"], found.values["top1"])
    assert any((together[0].values["mAP"] != other.values["mAP"]).any() for other in together[1:])


def test_auc_is_the_plain_mean_and_the_dip_is_what_the_curve_loses_below_its_lower_end():
    values = np.array([[0.4, 0.6], [0.2, 0.4], [0.8, 1.0]])  # means .5, .3, .9
    found = order.Curve(np.array([0, 0.5, 1]), np.array([0, 3]), {"top1": values, "mAP": values[::-1]})
    assert found.means("top1") == pytest.approx([0.5, 0.3, 0.9])
    assert found.auc("top1") == pytest.approx(1.7 / 3)
    assert found.auc_per_query("top1") == pytest.approx([1.4 / 3, 2 / 3])
    assert found.dip("top1") == pytest.approx(-0.2) and found.dip("mAP") == pytest.approx(-0.2)
    rising = order.Curve(np.array([0, 1]), np.array([0]), {"top1": np.array([[0.1], [0.2]])})
    assert rising.dip("top1") == 0


def test_the_most_uncertain_come_first_ties_in_their_order_and_nan_last():
    sigma = np.array([0.5, np.nan, 2, 0.5, -1, np.inf], dtype=np.float16)
    found = order.by_uncertainty(sigma)
    assert found.tolist() == [5, 2, 0, 3, 4, 1] and found.dtype == np.int64
    assert order.by_uncertainty(np.array([1, 3, 2], dtype=np.uint8)).tolist() == [1, 2, 0]
    for bad in (np.ones((3, 1)), np.array(["a"])):
        with pytest.raises(BadInput, match="sigma"):
            order.by_uncertainty(bad)


def test_random_orders_are_permutations_that_the_seed_fixes():
    first, again, other = (order.random_orders(50, 3, seed) for seed in (0, 0, 1))
    assert all(sorted(found.tolist()) == list(range(50)) for found in first)
    assert len({tuple(found) for found in first + other}) == 6
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(order.random_orders(50, 1, 0)[0], first[0])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_oracle_order_puts_the_row_that_is_furthest_off_first(metric):
    rng = np.random.default_rng(3)
    native = rng.normal(size=(9, 5))
    off = rng.permutation(9)
    transformed = native + 0.05 * off[:, None] * rng.choice([-1, 1], native.shape)

    def distance(row):
        a, b = transformed[row], native[row]
        return 1 - a @ b / np.sqrt((a @ a) * (b @ b)) if metric == "cosine" else ((a - b) ** 2).sum()

    assert order.oracle_order(transformed, native, metric).tolist() == sorted(range(9), key=lambda row: -distance(row))


def test_bad_input_is_refused_by_name():
    query, transformed, native, which, of_query, of_gallery, _ = world(0, "l2")
    good = [query, transformed, native, which, of_query, of_gallery]
    cases = [
        (1, transformed[:-1], {}, "transformed gallery has the wrong number of rows"),
        (1, transformed[:, :2], {}, "transformed gallery has the wrong dimension"),
        (1, transformed * np.nan, {}, "transformed gallery contains NaN"),
        (3, which[:-1], {}, "every gallery row once"),
        (3, np.zeros_like(which), {}, "every gallery row once"),
        (4, of_query[:-1], {}, "labels have another length"),
        (4, np.full(len(query), "z"), {}, "no query has an item"),
        (4, of_query, {"steps": 1}, "both ends"),
        (4, of_query, {"metric": "dot"}, "unknown metric"),
    ]
    for place, value, options, sentence in cases:
        arguments = list(good)
        arguments[place] = value
        with pytest.raises(BadInput, match=sentence):
            order.curve(*arguments, **options)
    with pytest.raises(BadInput, match="unknown metric"):
        order.oracle_order(transformed, native, "dot")
