"""Thresholds, counted pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.sample import thresholds
from fct.sample.folder import Sample


def sample(seed=0, n=40, classes=5):
    """Small-integer vectors, so that scores tie."""
    rng = np.random.default_rng(seed)
    old, new = (rng.integers(-3, 4, (n, d)).astype(np.float32) for d in (4, 6))
    old[~old.any(axis=1)], new[~new.any(axis=1)] = 1, 1
    labels = np.array([f"class-{i % classes}" for i in range(n)])
    sources = rng.choice(["pack-a", "pack-b", ""], n)
    return Sample(np.arange(n).astype(str), labels, sources, np.full(n, "known"), old, np.zeros((n, 1), np.int8), new)


def naive_scores(query, gallery, metric):
    q, g = query.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in g] for a in q])
    return np.array([[-((a - b) ** 2).sum() for b in g] for a in q])


def naive_pairs(s, row):
    """Rows of the sample that a query sees: (wrong, right)."""
    visible = [j for j in range(len(s.ids)) if s.ids[j] != s.ids[row] and not (s.sources[row] != "" and s.sources[j] == s.sources[row])]
    return [j for j in visible if s.labels[j] != s.labels[row]], [j for j in visible if s.labels[j] == s.labels[row]]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_a_calibrated_threshold_keeps_the_share_and_no_lower_one_would(scores, share):
    values = np.array(scores, dtype=np.float64)
    threshold = thresholds.calibrate(values, share)

    def at(t):
        return (values >= t).mean()

    assert at(threshold) <= share + 1e-9
    below = values[values < threshold]
    assert len(below) == 0 or at(below.max()) > share - 1e-9


def test_a_calibrated_threshold_lies_between_the_scores_it_parts():
    assert thresholds.calibrate(np.array([0.9, 0.8, 0.7, 0.6]), 0.5) == pytest.approx(0.75)
    assert 0.7 < thresholds.calibrate(np.array([0.9, 0.7, 0.7, 0.6]), 0.5) < 0.7 + 1e-9
    assert thresholds.calibrate(np.array([0.9, 0.8]), 0.1) > 0.9


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_scores_are_those_of_the_metric(metric):
    s = sample()
    np.testing.assert_allclose(thresholds.scores(s.old[:7], s.old, metric), naive_scores(s.old[:7], s.old, metric), atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_counted_as_one_by_one(metric, seed):
    s = sample(seed)
    rng = np.random.default_rng(seed)
    carried = s.new + rng.integers(-1, 2, s.new.shape).astype(np.float32)
    carried[~carried.any(axis=1)] = 1
    rows = np.sort(rng.permutation(len(s.ids))[:30])
    threshold = 0.4321 if metric == "cosine" else -20.5
    found = thresholds.shift(s, (s.old, s.old), (s.new, carried), metric, rows, threshold=threshold)
    before, after = naive_scores(s.old, s.old, metric), naive_scores(s.new, carried, metric)
    assert found is not None and found.rows.tolist() == rows.tolist() and found.in_use == threshold
    for place, row in enumerate(rows):
        wrong, right = naive_pairs(s, row)
        assert found.pairs[place] == len(wrong) and found.matches[place] == len(right)
        assert found.before[place] == sum(before[row, j] >= threshold for j in wrong)
        assert found.after[place] == sum(after[row, j] >= threshold for j in wrong)
        assert found.matches_before[place] == sum(before[row, j] >= threshold for j in right)


def test_without_a_threshold_that_of_the_wanted_rate_is_in_use():
    s = sample(n=60)
    rows = np.arange(60)
    found = thresholds.shift(s, (s.old, s.old), (s.new, s.new), "l2", rows, share=0.2)
    assert found is not None
    rate = found.before.sum() / found.pairs.sum()
    assert 0.1 < rate <= 0.2
    assert found.in_use == thresholds.calibrate(
        np.concatenate([naive_scores(s.old[[r]], s.old, "l2")[0][naive_pairs(s, r)[0]] for r in rows]), 0.2
    )


def test_a_space_that_only_scales_its_distances_is_mended_by_a_recalibrated_threshold():
    s = sample(n=60)
    found = thresholds.shift(s, (s.old, s.old), (2 * s.old, 2 * s.old), "l2", np.arange(60), share=0.2)
    assert found is not None and found.after.sum() < found.before.sum()
    now = thresholds.scores(2 * s.old, 2 * s.old, "l2")
    count = sum((now[row, naive_pairs(s, row)[0]] >= found.recalibrated).sum() for row in range(60))
    assert count == found.before.sum(), "from all queries it is today's rate exactly"
    assert abs(found.held.sum() - found.before.sum()) < 0.3 * found.before.sum()


def test_each_half_of_the_classes_is_held_against_a_threshold_that_it_had_no_part_in():
    s = sample(n=60, classes=4)
    rows = np.arange(60)
    found = thresholds.shift(s, (s.old, s.old), (s.new, s.new), "l2", rows, share=0.2)
    assert found is not None
    now, half = naive_scores(s.new, s.new, "l2"), np.array([int(label[-1]) % 2 for label in s.labels])
    for number in (0, 1):
        others = [r for r in rows if half[r] != number]
        share = found.before[half != number].sum() / found.pairs[half != number].sum()
        threshold = thresholds.calibrate(np.concatenate([now[r, naive_pairs(s, r)[0]] for r in others]), share)
        for r in rows[half == number]:
            assert found.held[r] == (now[r, naive_pairs(s, r)[0]] >= threshold).sum()


def test_a_collapsed_space_has_no_threshold_with_todays_rate():
    s = sample(n=60)
    same = np.ones_like(s.new)
    found = thresholds.shift(s, (s.old, s.old), (s.new, same), "cosine", np.arange(60), share=0.2)
    level = thresholds.shift(s, (s.old, s.old), (same, same), "cosine", np.arange(60), share=0.2)
    assert found is not None and level is not None and level.held.sum() == 0 < level.before.sum()


def test_one_class_alone_has_no_false_positives():
    s = sample(classes=1)
    assert thresholds.shift(s, (s.old, s.old), (s.new, s.new), "cosine", np.arange(40)) is None


def test_no_more_queries_are_taken_than_fit_in_memory():
    rows = np.arange(5000)
    assert len(thresholds.choose(rows, 5000, 0)) == thresholds.SCORES_AT_ONCE // 5000
    assert len(thresholds.choose(rows, 10**8, 0)) == 200 and thresholds.choose(rows, 100, 0).tolist() == rows.tolist()
    assert thresholds.choose(rows, 10**8, 0).tolist() == thresholds.choose(rows, 10**8, 0).tolist()
