"""What is measured on the sample for the gates beyond recovery, from vectors to verdict lines, with real forward transformations."""

from dataclasses import replace

import numpy as np
import pytest
from gates_sample import SETTINGS

from fct import forward
from fct.sample import backfilling, evaluation, thresholds
from fct.sample.folder import Sample
from registry.verdicts import checks
from registry.verdicts.gates import beats_linear
from registry.verdicts.measuring import of_sample


def made(seed=0, n=150, classes=10):
    """A sample whose new vectors are a bent image of the old ones; every second class is unseen."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(n) % classes
    centres = rng.normal(size=(classes, 6))
    old = centres[numbers] + 0.8 * rng.normal(size=(n, 6))
    new = np.tanh(old @ rng.normal(size=(6, 8))) + 0.4 * centres[numbers] @ rng.normal(size=(6, 8))
    labels = np.array([f"class-{i}" for i in numbers])
    side = rng.integers(-9, 10, (n, 3)).astype(np.int8)
    populations = np.where(numbers % 2, "unseen", "known")
    sources = np.array([f"pack-{i % 4}" for i in range(n)])
    return Sample(np.arange(n).astype(str), labels, sources, populations, old.astype(np.float32), side, new.astype(np.float32))


@pytest.fixture(scope="module")
def fitted():
    sample = made()
    other = made(seed=0, n=300)
    closed = forward.fit(other.old, other.new, side=other.side, settings=forward.FitSettings(method="ridge"), device="cpu")
    learned = forward.fit(
        other.old, other.new, side=other.side, settings=forward.FitSettings(members=1, width=16, epochs=2, batch=32), device="cpu"
    )
    return sample, learned, closed


def measured(fitted, h=None, *, closed=True, seen=("class-0", "class-2"), settings=SETTINGS, served=None):
    sample, learned, straight = fitted
    h = h or learned
    carried = h.transform(sample.old, sample.side)
    values = evaluation.measure(sample, carried[0], "cosine", served)
    return values, checks.further(
        values, sample, h, carried, straight if closed else None, "cosine", settings, seed=0, seen=seen, served=served
    )


def test_the_closed_form_is_searched_like_h(fitted):
    sample, _, closed = fitted
    values, found = measured(fitted)
    straight, _ = closed.transform(sample.old, sample.side)
    for place, row in enumerate(values["rows"]):
        score = [float(np.dot(sample.new[row], g) / np.linalg.norm(g)) for g in straight]
        visible = [j for j in range(len(score)) if j != row and sample.sources[j] != sample.sources[row]]
        ranked = sorted(visible, key=lambda j: -score[j])
        right = [sample.labels[j] == sample.labels[row] for j in ranked]
        precision = [sum(right[: k + 1]) / (k + 1) for k in range(len(right)) if right[k]]
        assert found["closed_mAP"][place] == pytest.approx(np.mean(precision), abs=1e-6)
        assert found["closed_top1"][place] == right[0]


def test_subgroups_and_sources_are_those_of_the_queries_that_count(fitted):
    sample, _, _ = fitted
    values, found = measured(fitted)
    assert found["seen_by_old"].tolist() == [label in ("class-0", "class-2") for label in values["labels"]]
    assert found["source"].tolist() == sample.sources[values["rows"]].tolist()
    assert "seen_by_old" not in measured(fitted, seen=None)[1]


def test_the_curves_begin_with_the_carried_over_gallery_and_end_with_the_native_one(fitted):
    values, found = measured(fitted)
    for name in ("top1", "mAP"):
        for order in ("shipped", "random", "oracle"):
            curve = found[f"curve_{order}_{name}"]
            assert curve.shape == (backfilling.STEPS, len(values["rows"]))
            np.testing.assert_allclose(curve[0], values[f"nh_{name}"], atol=1e-6)
            np.testing.assert_allclose(curve[-1], values[f"nn_{name}"], atol=1e-6)
    assert found["curve_rows"].tolist() == values["rows"].tolist()
    assert found["curve_labels"].tolist() == values["labels"].tolist()
    assert found["curve_populations"].tolist() == values["populations"].tolist()


def test_the_shipped_order_is_the_uncertain_first_and_the_oracle_the_wrong_first(fitted):
    sample, learned, _ = fitted
    _, found = measured(fitted)
    carried, sigma = learned.transform(sample.old, sample.side)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (carried, sample.new)]
    error = np.linalg.norm(unit[0] - unit[1], axis=1)
    for name, key in (("shipped", sigma), ("oracle", error)):
        mixed = carried.copy()
        first = np.argsort(-key, kind="stable")[: round(0.3 * len(key))]
        mixed[first] = sample.new[first]
        wanted = evaluation.search(sample, sample.new, mixed, "cosine")
        np.testing.assert_allclose(found[f"curve_{name}_mAP"][3], wanted.ap, atol=1e-6)


def test_random_orders_are_averaged_and_depend_on_the_seed_alone(fitted):
    sample, learned, _ = fitted
    carried, sigma = learned.transform(sample.old, sample.side)
    rows = evaluation.measure(sample, carried, "cosine")["rows"]

    def run(seed, count=5):
        return backfilling.sample_curves(sample, carried, sigma, "cosine", rows, random_orders=count, seed=seed)

    first = run(3)
    np.testing.assert_array_equal(first["random_mAP"], run(3)["random_mAP"])
    assert (first["random_mAP"] != run(4)["random_mAP"]).any() and (first["shipped_mAP"] == run(4)["shipped_mAP"]).all()
    assert len(np.unique(first["random_top1"])) > 2, "a mean of several orders, not one of them"


def test_without_uncertainty_no_curve_is_drawn(fitted):
    sample, learned, _ = fitted
    carried, sigma = learned.transform(sample.old, sample.side)
    sigma = sigma.copy()
    sigma[3] = np.nan
    assert backfilling.sample_curves(sample, carried, sigma, "cosine", np.arange(10), random_orders=5, seed=0) == {}


def test_a_closed_form_says_that_it_is_one(fitted):
    _, learned, closed = fitted
    assert closed.closed and not learned.closed
    _, found = measured(fitted, closed, closed=False)
    assert found["h_is_closed"] and not any(name.startswith("closed_") for name in found)
    assert beats_linear.measure(measured(fitted)[0] | found, SETTINGS, 0)[0].answered


def test_the_threshold_is_that_of_the_champion_as_served_and_of_the_settings(fitted):
    sample, learned, _ = fitted
    _, plain = measured(fitted)
    served = (sample.old[:, :3], sample.old[:, :3])
    _, other = measured(fitted, served=served)
    assert plain["threshold_in_use"] != other["threshold_in_use"]
    _, fixed = measured(fitted, settings=replace(SETTINGS, score_threshold=0.5))
    carried, _ = learned.transform(sample.old, sample.side)
    found = thresholds.scores(sample.new, carried, "cosine") >= 0.5
    hidden = (sample.sources[:, None] == sample.sources) | np.eye(len(sample.ids), dtype=bool)
    wanted = (found & ~hidden & (sample.labels[:, None] != sample.labels)).sum()
    assert fixed["threshold_in_use"] == 0.5 and fixed["threshold_after"].sum() == wanted > 0


def test_every_gate_can_be_judged_on_what_was_measured_and_read_back(fitted, tmp_path):
    values, found = measured(fitted)
    sample, learned, _ = fitted
    carried = learned.transform(sample.old, sample.side)
    evaluation.write(sample, carried[0], "cosine", tmp_path / "evaluation", seed=0, further=lambda v: found)
    again = evaluation.load(tmp_path / "evaluation")
    small = replace(SETTINGS, worst_class_queries=5)
    first, second = (of_sample(v, small, seed=0) for v in (values | found, again))
    assert [m.to_json() for m in first] == [m.to_json() for m in second]
    assert {m.gate for m in first if m.applies} >= {"negative_flips", "subgroups", "no_dip", "beats_linear", "threshold_shift"}
