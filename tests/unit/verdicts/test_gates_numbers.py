"""Numbers of single gates by their definitions, bounds of intervals included."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gates_sample import SETTINGS, values

from registry.verdicts.gates import index_faithful, worst_class
from registry.verdicts.gates.index_faithful import Recall
from registry.verdicts.gates.worst_class import below, holm, shrunken, worst_groups


def spread(effects: list[float], each: int = 30) -> dict[str, np.ndarray]:
    """Known classes whose nh − oo, top-1, is exactly as ``effects`` say, in steps of one query; most queries stay as they are."""
    v = values(classes=len(effects), each=each, noise=0)
    known = v["populations"] == "known"
    moved = [round(effect * each) for effect in effects]
    v["oo_top1"][known] = np.concatenate([np.repeat([0.0, 1.0], [max(n, 0), each - max(n, 0)]) for n in moved])
    v["nh_top1"][known] = np.concatenate([np.repeat([1.0, 0.0], [each - max(-n, 0), max(-n, 0)]) for n in moved])
    return v


@pytest.mark.parametrize(
    ("effects", "differ"),
    [
        ([0.3, 0.2, 0.1, 0.0, -0.1] * 4, True),
        ([0.1, 2 / 30] * 4, False),
        ([0.1], False),
    ],
)
def test_the_worst_group_has_the_interval_of_its_estimate(effects: list[float], differ: bool) -> None:
    """Where the groups differ the estimate leans on its own group and on all; where they do not, on all; with one group, on that."""
    v, settings = spread(effects), replace(SETTINGS, worst_class_tolerance=0.3)
    difference = (v["nh_top1"] - v["oo_top1"])[v["populations"] == "known"]
    groups = worst_groups(v, settings.worst_class_queries, 0)
    plain, errors = np.array([one.value for _, one, _ in groups]), difference.std() / np.sqrt([one.n for _, one, _ in groups])
    estimates, between = shrunken(plain, errors, float(difference.mean()))
    assert (between > 0) == differ and len(groups) == len(effects)
    worst, error = int(estimates.argmin()), float(errors[int(estimates.argmin())])
    own = between**2 / (between**2 + error**2) if len(groups) > 1 else 1.0
    half = 1.6449 * math.sqrt(own * error**2 + (1 - own) ** 2 * difference.var() / len(difference))
    (found,) = worst_class.measure(v, settings, 0)
    assert found.value == pytest.approx(estimates[worst]) and found.bound == -0.3 and found.n == 30 and found.test == "value"
    assert (found.lower, found.upper) == (pytest.approx(found.value - half), pytest.approx(found.value + half))


def test_harm_that_is_shown_leaves_no_room_above_and_harm_that_is_not_shown_reaches_the_bound() -> None:
    one = spread([0.1] * 19 + [-0.6])
    (found,) = worst_class.measure(one, replace(SETTINGS, worst_class_tolerance=0.05), 0)
    assert found.value == found.upper == pytest.approx(-0.6) and found.lower < found.value  # by its own mean: p is below 0.01
    some = spread([-1 / 30, -1 / 30, -1 / 30, 1 / 30] * 5)
    (found,) = worst_class.measure(some, replace(SETTINGS, worst_class_tolerance=0.0), 0)
    assert found.value < found.bound == found.upper == 0


def test_a_group_without_noise_is_left_as_it_is() -> None:
    plain = np.array([0.1, 0.1, 0.1])
    found, between = shrunken(plain, np.zeros(3), 0.1)
    assert found.tolist() == plain.tolist() and between == 0


def test_the_spread_between_groups_is_what_noise_leaves_of_their_variance() -> None:
    plain, errors = np.array([0.0, 0.2, 0.4]), np.array([0.1, 0.1, 0.1])
    found, between = shrunken(plain, errors, 0.2)
    assert between == pytest.approx(math.sqrt(0.08 / 2 - 0.01))
    assert found.tolist() == pytest.approx([0.2 - 0.2 * 0.75, 0.2, 0.2 + 0.2 * 0.75])  # 0.03 of a variance of 0.04 is no noise


def test_a_p_value_is_never_above_one_and_one_on_the_bound_is_a_half() -> None:
    assert holm([0.9, 0.8]) == [1.0, 1.0] and below(-0.05, 0.1, -0.05) == 0.5
    assert below(-0.05, 0.0, -0.05) == 1.0


@pytest.mark.parametrize("exact", [True, False])
def test_the_recall_of_an_index_has_the_interval_of_a_mean(exact: bool) -> None:
    kinds = frozenset({"without a filter"} if exact else set[str]())
    some = np.repeat([1.0, 0.5], [90, 10])
    (found,) = index_faithful.measure(Recall({"without a filter": some}, kinds), SETTINGS)
    half = 1.6449 * some.std() / 10
    assert (found.value, found.lower, found.upper) == (pytest.approx(0.95), pytest.approx(0.95 - half), pytest.approx(0.95 + half))
    (every,) = index_faithful.measure(Recall({"without a filter": np.ones(100)}, kinds), SETTINGS)
    assert every.value == every.upper == 1 and every.lower == pytest.approx(1 if exact else 0.05 ** (1 / 100))
    (few,) = index_faithful.measure(Recall({"without a filter": np.array([1.0, 0.9])}, kinds), SETTINGS)
    assert few.upper == 1, "no recall is above 1"
