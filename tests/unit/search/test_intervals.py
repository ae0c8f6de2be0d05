import itertools

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fct.errors import BadInput
from fct.search.intervals import BITS, FEWEST, Bootstrap, Estimate, lower_bound, recovered, totals


def queries(seed=0, classes=40, each=8):
    """Correlated within a class: a level of the class plus noise."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat([f"class-{i:02}" for i in range(classes)], each)
    level = np.repeat(rng.normal(size=classes), each)
    a = level + 0.3 * rng.normal(size=classes * each)
    b = a + 0.2 + 0.05 * rng.normal(size=classes * each)
    return clusters, a, b


@pytest.mark.parametrize(("classes", "most"), [(5, 9), (8, 1), (11, 30)])
def test_of_few_classes_the_bounds_are_typical_values_of_all_their_subsets(classes, most):
    rng = np.random.default_rng(classes)
    clusters = np.repeat([f"c{i:02}" for i in range(classes)], rng.integers(1, most + 1, classes))
    a = rng.normal(size=len(clusters))
    found, naive = Bootstrap({"a": a}, clusters, seed=7).mean("a"), oracles.subset_means(a, clusters.tolist())
    assert len(naive) == 2**classes - 1
    assert found.value == pytest.approx(a.mean()) and (found.n, found.clusters) == (len(a), classes)
    assert found.lower == pytest.approx(oracles.typical_value(naive, 0.05))
    assert found.upper == pytest.approx(-oracles.typical_value(sorted(-x for x in naive), 0.05))


@settings(deadline=None, max_examples=30)
@given(st.integers(FEWEST, 8), st.integers(0, 2**31))
def test_what_lies_below_the_lower_bound_is_what_a_test_by_all_flips_of_signs_rejects(classes, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 20, classes)
    effects = rng.normal(size=classes)
    found = Bootstrap({"a": np.repeat(effects, sizes)}, np.repeat(np.arange(classes), sizes)).mean("a")
    for value in (found.lower - 1e-9, found.lower + 1e-9):
        assert abs(oracles.sign_flips(effects, sizes, value) - 0.05) <= 2**-classes  # its p-values have such steps


@pytest.mark.parametrize("classes", [5, 11, 12, 40, 300])
def test_the_subsets_are_a_group_and_every_class_is_in_half_of_them(classes):
    inside = totals(np.eye(classes), 3)
    rows = {tuple(row) for row in inside.astype(int).tolist()}
    assert len(rows) == len(inside) == 2 ** min(classes, BITS) - 1 and inside.any(axis=1).all()
    rng = np.random.default_rng(0)
    for one, other in rng.integers(0, len(inside), (200, 2)):
        assert one == other or tuple((inside[one] != inside[other]).astype(int).tolist()) in rows
    np.testing.assert_array_equal(inside.sum(axis=0), np.full(classes, (len(inside) + 1) / 2))


def test_subsets_add_up_whatever_the_block(monkeypatch):
    sums = np.random.default_rng(0).normal(size=(30, 3))
    whole = totals(sums, 5)
    monkeypatch.setattr("fct.search.intervals.BLOCK", 1000)
    np.testing.assert_allclose(totals(sums, 5), whole, rtol=1e-12)
    assert (whole != totals(sums, 6)).any()


def test_with_many_classes_the_bounds_are_those_of_a_t_test_on_class_means():
    rng = np.random.default_rng(2)
    means = rng.normal(size=400)
    found = Bootstrap({"a": np.repeat(means, 3)}, np.repeat(np.arange(400), 3)).mean("a")
    wanted = stats.ttest_1samp(means, 0.0).confidence_interval(0.9)
    assert found.lower == pytest.approx(wanted.low, abs=0.03 * (wanted.high - wanted.low))
    assert found.upper == pytest.approx(wanted.high, abs=0.03 * (wanted.high - wanted.low))


def wrongly_above(effects, sizes):
    """The share of simulated verdicts, (V, C) class means of ``sizes`` (C,), whose lower bound is above 0."""
    inside = totals(np.eye(len(sizes)), 0)
    return float(np.mean([lower_bound(draws) > 0 for draws in (effects * sizes) @ inside.T / (inside @ sizes)]))


def seen_by_t(effects):
    """The share in which a t test on class means (V, C) sees a change for the better."""
    t = effects.mean(axis=1) / effects.std(axis=1, ddof=1).clip(1e-12) * effects.shape[1] ** 0.5
    return float((t > stats.t.ppf(0.95, effects.shape[1] - 1)).mean())


SIZES = {
    "equal": lambda c: np.full(c, 30.0),
    "one to five": lambda c: np.linspace(10, 50, c),
    "Zipf": lambda c: 100.0 / np.arange(1, c + 1),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("classes", [5, 6, 8, 20])
@pytest.mark.parametrize("of_queries", [False, True])
def test_where_nothing_changed_the_lower_bound_is_above_zero_in_five_of_a_hundred_verdicts(kind, classes, of_queries):
    sizes = SIZES[kind](classes)
    spread = np.sqrt(30 / sizes) if of_queries else 1.0  # of each class's mean: from its queries, or from class to class
    effects = np.random.default_rng(classes).normal(size=(2500, classes)) * spread
    assert 0.035 <= wrongly_above(effects, sizes) <= 0.06


@pytest.mark.parametrize("classes", [5, 8, 20])
def test_a_change_of_twice_its_standard_error_is_seen_about_as_often_as_by_a_t_test(classes):
    effects = np.random.default_rng(classes).normal(size=(2500, classes)) + 2 / np.sqrt(classes)
    assert abs(wrongly_above(effects, np.full(classes, 30.0)) - seen_by_t(effects)) <= 0.05


@pytest.mark.parametrize("classes", [5, 8, 12])
def test_top_1_moves_by_whole_queries_and_a_change_is_seen_all_the_same(classes):
    rng, sizes = np.random.default_rng(classes), np.full(classes, 30.0)

    def effects(shift):
        return (rng.binomial(30, 0.1 + shift / 2, (2500, classes)) - rng.binomial(30, 0.1 - shift / 2, (2500, classes))) / 30

    changed = effects(2 * (0.2 / (30 * classes)) ** 0.5)
    assert 0.03 <= wrongly_above(effects(0.0), sizes) <= 0.06
    assert abs(wrongly_above(changed, sizes) - seen_by_t(changed)) <= 0.055


def test_equal_values_share_their_mean_rank_and_undefined_ones_lie_below_all():
    assert lower_bound(np.array([3.0] * 31)) == 3.0
    assert lower_bound(np.array([0.0] * 3 + [1.0] * 60)) == pytest.approx((0.05 * 64 - 2) / (33.5 - 2))
    assert lower_bound(np.array([np.nan, *range(1, 64)])) == pytest.approx(0.05 * 65 - 1)
    assert lower_bound(np.array([np.nan, np.inf, np.nan, np.nan, *range(1, 60)])) == -np.inf


def test_a_verdict_is_the_simulated_one():
    sizes = SIZES["Zipf"](8).astype(int)
    effects = np.random.default_rng(0).normal(size=(60, 8)) + 1
    clusters = np.repeat([f"c{i}" for i in range(8)], sizes)
    one_by_one = [Bootstrap({"a": np.repeat(row, sizes)}, clusters).mean("a").lower > 0 for row in effects]
    assert 0.1 < np.mean(one_by_one) < 0.9 and np.mean(one_by_one) == pytest.approx(wrongly_above(effects, sizes))


@pytest.mark.parametrize("classes", range(1, FEWEST))
def test_fewer_than_five_classes_have_no_bounds(classes):
    clusters = np.arange(20) % classes
    found = Bootstrap({"a": np.arange(20.0)}, clusters).mean("a")
    assert found == Estimate(9.5, -np.inf, np.inf, 20, classes) and found.bounds == [None, None]


def test_four_classes_can_lie_on_one_side_by_chance_too_often_and_five_cannot():
    signs = np.array(list(itertools.product((-1, 1), repeat=FEWEST)))
    assert (signs > 0).all(axis=1).mean() < 0.05 < (signs[:, 1:] > 0).all(axis=1).mean()


def test_clusters_make_the_interval_wider_than_independent_queries_would():
    clusters, a, _ = queries()
    by_class, by_query = (Bootstrap({"a": a}, c).mean("a") for c in (clusters, np.arange(len(a))))
    assert by_class.upper - by_class.lower > 2 * (by_query.upper - by_query.lower)


def test_values_are_paired_so_the_difference_of_a_value_with_itself_is_exactly_zero():
    clusters, a, b = queries()
    boot = Bootstrap({"a": a, "b": b, "c": a}, clusters)
    assert boot.estimate(lambda m: m["a"] - m["c"]) == Estimate(0.0, 0.0, 0.0, len(a), 40)
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


def test_subsets_without_a_gain_count_against_both_bounds_of_the_recovered_fraction():
    clusters, a, _ = queries()
    rng = np.random.default_rng(0)
    gain = np.repeat(rng.normal(0.05, 1, 40), 8)  # positive on average, negative in many subsets
    gain += 0.05 - gain.mean()
    found = Bootstrap({"old": a, "carried": a + 0.9 * gain, "new": a + gain}, clusters).estimate(
        lambda m: recovered(m, "old", "carried", "new")
    )
    assert found.value == pytest.approx(0.9)
    assert (found.lower, found.upper) == (-np.inf, np.inf)


def test_values_that_are_not_paired_are_refused():
    with pytest.raises(BadInput, match="not paired; wanted 3 each"):
        Bootstrap({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3))
    with pytest.raises(BadInput, match="not paired"):
        Bootstrap({}, np.zeros(3))


def test_no_queries_at_all_are_refused():
    with pytest.raises(BadInput):
        Bootstrap({"a": np.zeros(0)}, np.zeros(0))


def test_the_p_value_of_a_mean_is_that_of_all_flips_of_signs():
    rng = np.random.default_rng(4)
    sizes, effects = rng.integers(1, 9, 9), rng.normal(size=9)
    boot = Bootstrap({"a": np.repeat(effects, sizes)}, np.repeat(np.arange(9), sizes))
    for bound in (-1.0, -0.2, 0.0, 0.3, 2.0):
        assert boot.chance(["a"], bound) == pytest.approx(oracles.sign_flips(-effects, sizes, -bound))


def test_the_p_value_of_several_means_is_that_of_the_largest_shortfall_under_all_flips():
    rng = np.random.default_rng(5)
    sizes, effects = rng.integers(1, 9, 7), rng.normal(size=(3, 7)) + rng.normal(size=7)
    clusters = np.repeat(np.arange(7), sizes)
    boot = Bootstrap({str(s): np.repeat(row, sizes) for s, row in enumerate(effects)}, clusters)
    for bound in (-1.0, 0.0, 0.5):
        short = sizes * (bound - effects)
        flips = np.array(list(itertools.product((-1, 1), repeat=7)))
        wanted = ((flips @ short.T).max(axis=1) >= short.sum(axis=1).max() - 1e-12).mean()
        assert boot.chance("012", bound) == pytest.approx(wanted)


def test_of_many_means_without_a_change_one_is_said_to_lie_below_in_five_of_a_hundred():
    found = []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        effects = rng.normal(size=(9, 6)) + rng.normal(size=6)
        found.append(Bootstrap({str(s): row for s, row in enumerate(effects)}, np.arange(6)).chance("012345678", 0.0))
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.06
