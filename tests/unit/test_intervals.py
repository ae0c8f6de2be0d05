import numpy as np
import oracles
import pytest
from scipy import stats

from fct.errors import BadInput
from fct.intervals import Bootstrap, Estimate, recovered


def queries(seed=0, classes=40, each=8):
    """Correlated within a class: a level of the class plus noise."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat([f"class-{i:02}" for i in range(classes)], each)
    level = np.repeat(rng.normal(size=classes), each)
    a = level + 0.3 * rng.normal(size=classes * each)
    b = a + 0.2 + 0.05 * rng.normal(size=classes * each)
    return clusters, a, b


def test_bounds_are_those_of_a_naive_bootstrap_over_classes():
    clusters, a, _ = queries()
    found = Bootstrap({"a": a}, clusters, resamples=4000).mean("a")
    draws = oracles.cluster_bootstrap(a, clusters.tolist(), resamples=2000, seed=5)
    width = np.quantile(draws, 0.95) - np.quantile(draws, 0.05)
    assert found.value == pytest.approx(a.mean())
    assert found.lower == pytest.approx(np.quantile(draws, 0.05), abs=0.1 * width)
    assert found.upper == pytest.approx(np.quantile(draws, 0.95), abs=0.1 * width)
    assert found.n == len(a)


def test_classes_of_unequal_size_keep_their_weight():
    rng = np.random.default_rng(3)
    clusters = np.repeat([f"c{i}" for i in range(25)], rng.integers(1, 12, 25))
    values = rng.normal(size=len(clusters)) + (clusters == "c3") * 5
    found = Bootstrap({"v": values}, clusters, resamples=4000).mean("v")
    draws = oracles.cluster_bootstrap(values, clusters.tolist(), resamples=3000, seed=1)
    width = np.quantile(draws, 0.95) - np.quantile(draws, 0.05)
    assert found.lower == pytest.approx(np.quantile(draws, 0.05), abs=0.1 * width)
    assert found.upper == pytest.approx(np.quantile(draws, 0.95), abs=0.1 * width)


def test_with_one_query_a_class_it_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(0).exponential(size=80)
    found = Bootstrap({"v": values}, np.arange(80), resamples=6000).mean("v")
    wanted = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=6000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = wanted.high - wanted.low
    assert found.lower == pytest.approx(wanted.low, abs=0.06 * width)
    assert found.upper == pytest.approx(wanted.high, abs=0.06 * width)


def test_clusters_make_the_interval_wider_than_independent_queries_would():
    clusters, a, _ = queries()
    by_class, by_query = (Bootstrap({"a": a}, c).mean("a") for c in (clusters, np.arange(len(a))))
    assert by_class.upper - by_class.lower > 2 * (by_query.upper - by_query.lower)


def test_values_are_paired_so_the_difference_of_a_value_with_itself_is_exactly_zero():
    clusters, a, b = queries()
    boot = Bootstrap({"a": a, "b": b, "c": a}, clusters)
    assert boot.estimate(lambda m: m["a"] - m["c"]) == Estimate(0.0, 0.0, 0.0, len(a))
    difference, alone = boot.estimate(lambda m: m["b"] - m["a"]), boot.mean("b")
    assert difference.upper - difference.lower < 0.1 * (alone.upper - alone.lower)


def test_the_same_seed_gives_the_same_bounds_and_another_seed_others():
    clusters, a, _ = queries()
    assert Bootstrap({"a": a}, clusters, seed=1).mean("a") == Bootstrap({"a": a}, clusters, seed=1).mean("a")
    assert Bootstrap({"a": a}, clusters, seed=1).mean("a") != Bootstrap({"a": a}, clusters, seed=2).mean("a")


def test_the_names_and_the_order_of_classes_do_not_matter_for_the_value():
    clusters, a, _ = queries()
    order = np.random.default_rng(0).permutation(len(a))
    assert Bootstrap({"a": a[order]}, clusters[order]).mean("a").lower == pytest.approx(Bootstrap({"a": a}, clusters).mean("a").lower)


def test_one_class_alone_has_an_interval_of_no_width():
    found = Bootstrap({"a": np.array([0.0, 1.0, 1.0])}, np.full(3, "only")).mean("a")
    assert found.lower == found.upper == pytest.approx(2 / 3)


def test_the_recovered_fraction_of_means():
    assert recovered({"old": 0.2, "carried": 0.5, "new": 0.6}, "old", "carried", "new") == pytest.approx(0.75)
    np.testing.assert_allclose(
        recovered({"o": np.array([0.0, 0.5]), "c": np.array([0.5, 0.5]), "n": np.array([1.0, 0.25])}, "o", "c", "n"), [0.5, np.nan]
    )


@pytest.mark.parametrize("new", [0.0, -0.1])
def test_the_recovered_fraction_is_undefined_where_the_new_model_is_not_better(new):
    clusters, a, _ = queries()
    boot = Bootstrap({"old": a, "carried": a + 0.1, "new": a + new}, clusters)
    found = boot.estimate(lambda m: recovered(m, "old", "carried", "new"))
    assert np.isnan([found.value, found.lower, found.upper]).all()
    assert found.n == len(a)


def test_resamples_without_a_gain_pull_the_lower_bound_of_the_recovered_fraction_down():
    clusters, a, _ = queries()
    rng = np.random.default_rng(0)
    gain = np.repeat(rng.normal(0.05, 1, 40), 8)  # positive on average, negative in many resamples
    gain += 0.05 - gain.mean()
    found = Bootstrap({"old": a, "carried": a + 0.9 * gain, "new": a + gain}, clusters).estimate(
        lambda m: recovered(m, "old", "carried", "new")
    )
    assert found.value == pytest.approx(0.9)
    assert found.lower == -np.inf


def test_values_that_are_not_paired_are_refused():
    with pytest.raises(BadInput, match="not paired; wanted 3 each"):
        Bootstrap({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3))
    with pytest.raises(BadInput, match="not paired"):
        Bootstrap({}, np.zeros(3))


def test_no_queries_at_all_are_refused():
    with pytest.raises(BadInput):
        Bootstrap({"a": np.zeros(0)}, np.zeros(0))
