"""The gates on the evaluation sample beyond recovery, each against a naive count, and with an upgrade that it must not let pass."""

from dataclasses import replace

import numpy as np
import pytest
from gates_sample import SETTINGS, STEPS, curves, further

from registry.verdicts.deciding import decide, overall
from registry.verdicts.declaration import sample_gates
from registry.verdicts.gates import subgroups
from registry.verdicts.measuring import of_sample


def values(classes=30, each=20, seed=0, oo=0.5, nh=0.7, nn=0.72):
    """Random right and wrong answers; half of the classes are known."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"class-{i:02}" for i in range(classes)], each)
    known = np.repeat(np.arange(classes) < classes // 2, each)
    found = {"labels": labels, "populations": np.where(known, "known", "unseen"), "rows": np.arange(len(labels))}
    draw = rng.random(len(labels))
    for row, share in (("oo", oo), ("nh", nh), ("nn", nn)):
        right = (draw + rng.normal(0, 0.05, len(labels)) < share).astype(np.float64)
        found |= {f"{row}_top1": right, f"{row}_mAP": np.clip(right - 0.2 * rng.random(len(labels)), 0, 1)}
    return found | further(found)


def judged(gate, v, **changes):
    """subject → decided measurement, by plain comparison with the bound."""
    found = [replace(m, gate=gate) for m in sample_gates()[gate].measure(v, replace(SETTINGS, **changes), 0)]
    kept = {}
    for m in found:
        with np.errstate(invalid="ignore"):
            kept[m.key] = bool(m.tested <= m.bound) if m.most else bool(m.tested > m.bound if m.strict else m.tested >= m.bound)
    return {m.subject: m for m in decide(found, kept)}


def outcomes(gate, v, **changes):
    return {subject: m.outcome for subject, m in judged(gate, v, **changes).items()}


SHOWN = ("negative_flips", "subgroups", "no_dip", "order_helps", "beats_linear", "threshold_shift")


# negative flips


@pytest.mark.parametrize("seed", range(4))
def test_negative_flips_are_those_that_one_counts(seed):
    v = values(seed=seed)
    known = [i for i in range(len(v["rows"])) if v["populations"][i] == "known"]
    lost = {row: sum(v["oo_top1"][i] == 1 and v[f"{row}_top1"][i] == 0 for i in known) / len(known) for row in ("nh", "nn")}
    m = judged("negative_flips", v)["known top-1"]
    assert m.value == pytest.approx(lost["nh"] - lost["nn"]) and m.n == len(known)
    assert m.tested == m.upper >= m.value and f"{lost['nh']:.3f}" in m.note and f"{lost['nn']:.3f}" in m.note


def test_queries_that_only_h_loses_refuse_though_as_many_are_gained():
    v = values()
    right, wrong = (np.flatnonzero((v["populations"] == "known") & (v["oo_top1"] == side)) for side in (1, 0))
    v["nh_top1"], v["nn_top1"] = v["oo_top1"].copy(), v["oo_top1"].copy()
    v["nh_top1"][right[::4]] = 0
    v["nh_top1"][wrong[: len(right[::4])]] = 1  # the mean is the same: only flips tell
    assert v["nh_top1"].mean() == pytest.approx(v["oo_top1"].mean())
    assert outcomes("negative_flips", v) == {"known top-1": "refused"}
    v["nn_top1"] = v["nh_top1"]
    assert outcomes("negative_flips", v) == {"known top-1": "passed"}, "what the new model loses itself is not h's fault"


def test_flips_just_below_the_bound_are_inconclusive_because_the_upper_bound_is_tested():
    v = values()
    v["nn_top1"] = v["oo_top1"].copy()
    v["nh_top1"] = v["oo_top1"].copy()
    right = np.flatnonzero((v["populations"] == "known") & (v["oo_top1"] == 1))
    v["nh_top1"][right[: round(0.045 * 300)]] = 0
    m = judged("negative_flips", v)["known top-1"]
    assert m.value < m.bound < m.upper and m.outcome == "inconclusive" and "more queries" in m.note


# subgroups


@pytest.mark.parametrize("seed", range(4))
def test_the_gap_is_best_minus_worst_whichever_is_which(seed):
    v = values(seed=seed)
    rng = np.random.default_rng(seed)
    v["source"] = rng.choice(["pack-a", "pack-b", "pack-c"], len(v["rows"]))
    found = judged("subgroups", v, subgroups=("seen_by_old", "source"))
    assert len(found) == 4
    known = v["populations"] == "known"
    for name, label in (("top1", "top-1"), ("mAP", "mAP")):
        for subject, column in (("seen by the old model or not", "seen_by_old"), ("sources", "source")):
            gap = {}
            for row in ("oo", "nh"):
                means = [np.mean(v[f"{row}_{name}"][known & (v[column] == one)]) for one in sorted(set(v[column].tolist()))]
                gap[row] = max(means) - min(means)
            m = found[f"{subject}, {label}"]
            assert m.value == pytest.approx(gap["nh"] - gap["oo"]) and m.lower <= m.value <= m.upper and m.most


def test_a_subgroup_that_falls_behind_is_refused_though_the_average_gains():
    v = values()
    seen = v["seen_by_old"]
    for name in ("top1", "mAP"):
        v[f"nh_{name}"] = np.where(seen, 1.0, v[f"oo_{name}"])
    assert set(outcomes("subgroups", v).values()) == {"refused"}
    for name in ("top1", "mAP"):
        v[f"nh_{name}"] = np.minimum(1, v[f"oo_{name}"] + 0.2)
        v[f"oo_{name}"] = np.minimum(1, v[f"oo_{name}"])
    assert set(outcomes("subgroups", v).values()) == {"passed"}


def test_unseen_classes_of_the_sample_are_no_part_of_the_subgroups():
    v = values()
    before = judged("subgroups", v)
    for name in ("nh_top1", "nh_mAP"):
        v[name] = np.where((v["populations"] == "unseen") & v["seen_by_old"], 0.0, v[name])
    assert judged("subgroups", v) == before


def test_sources_with_few_queries_are_left_out():
    v = values()
    known = np.flatnonzero(v["populations"] == "known")
    v["source"] = np.where(np.arange(len(v["rows"])) % 2, "pack-a", "pack-b").astype("<U9")
    v["source"][known[:5]] = "rare"
    v["nh_top1"][known[:5]] = 0
    assert "pack-a" in judged("subgroups", v, subgroups=("seen_by_old", "source"))["sources, top-1"].note
    assert all("rare" not in m.note for m in judged("subgroups", v, subgroups=("seen_by_old", "source")).values())


def test_one_subgroup_has_no_gap_and_not_to_know_them_is_no_answer():
    v = values()
    v["seen_by_old"] = np.ones(len(v["rows"]), dtype=bool)
    whole = judged("subgroups", v)[""]
    assert whole.outcome == "not applicable" and "saw every known class" in whole.note and whole.answered
    assert overall([whole], ("subgroups",), first=False) == ("passed", [])
    del v["seen_by_old"]
    unknown = judged("subgroups", v)[""]
    assert unknown.outcome == "not applicable" and not unknown.answered
    assert overall([unknown], ("subgroups",), first=False) == ("inconclusive", ["subgroups must apply and does not"])


def test_a_resample_without_a_subgroup_does_not_spoil_the_interval():
    v = {name: np.array([1.0, 0.5, 0.2, 0.8, 0.4, 0.6]) for name in ("oo_top1", "nh_top1", "nn_top1")}
    members = [np.arange(6) < 1, np.arange(6) >= 1]
    growth, gap = subgroups.gaps(v, members, np.array(list("abcdef")), "top1", 0)
    assert growth.value == growth.lower == growth.upper == 0 and gap["oo"] == pytest.approx(0.5)


# the order of a backfill


def along(v, name, means):
    """Every query's curve so moved that the shipped order's means of known classes are ``means``."""
    known = v["curve_populations"] == "known"
    steps = v[f"curve_shipped_{name}"]
    v[f"curve_shipped_{name}"] = steps + np.where(known, (np.asarray(means) - steps[:, known].mean(axis=1))[:, None], 0.0)


RISE = np.linspace(0.5, 0.7, STEPS)
FALL = np.linspace(0.7, 0.5, STEPS)


@pytest.mark.parametrize(
    ("means", "outcome", "value"),
    [
        (RISE, "passed", 0.0),
        (FALL, "passed", 0.0),  # an h above new/new comes down to it: no dip
        (RISE - 0.07 * (np.arange(STEPS) == 4), "passed", 0.0),  # a step back, but not below the start
        (RISE - 0.2 * (np.arange(STEPS) == 4), "refused", -0.12),
        (FALL - 0.2 * (np.arange(STEPS) == 8), "refused", -0.16),
        (RISE - 0.0815 * (np.arange(STEPS) == 4), "passed", 0.0),  # within ε, and within what a level curve's least shows by itself
    ],
)
def test_a_dip_is_what_lies_below_both_ends(means, outcome, value):
    v = values(each=60)
    along(v, "mAP", means)
    m = judged("no_dip", v)["known mAP"]
    assert m.outcome == outcome and m.value == pytest.approx(value, abs=1e-9)
    assert m.bound == pytest.approx(-0.002, abs=1e-6)


def one_dips(queries):
    """Level curves of top-1; at one β, so many known queries that were right are wrong."""
    v = values(each=10)  # 150 known queries
    base = v["curve_shipped_top1"]
    v["curve_shipped_top1"] = np.repeat(base[:1], STEPS, axis=0)
    right = np.flatnonzero((v["curve_populations"] == "known") & (base[0] == 1))
    v["curve_shipped_top1"][5, right[:queries]] = 0
    return judged("no_dip", v)["known top-1"]


@pytest.mark.parametrize(("queries", "outcome"), [(1, "passed"), (2, "passed"), (3, "passed"), (40, "refused")])
def test_a_dip_of_top_1_is_refused_where_it_is_shown(queries, outcome):
    m = one_dips(queries)
    assert m.value == pytest.approx(-queries / 150) and m.outcome == outcome
    assert (m.upper < m.bound) == (outcome == "refused")


def test_a_dip_of_map_that_is_not_shown_is_inconclusive():
    v = values(each=10)
    known = v["curve_populations"] == "known"
    steps = np.repeat(v["curve_shipped_mAP"][:1], STEPS, axis=0)
    steps[5, np.flatnonzero(known)[:4]] -= 0.5  # four queries of 150, so that no test can tell it from noise
    v["curve_shipped_mAP"] = steps
    m = judged("no_dip", v)["known mAP"]
    assert m.value == pytest.approx(-2 / 150, rel=0.03) and m.outcome == "inconclusive"  # one β only: nothing to be freed of


def test_the_least_of_a_noisy_level_curve_is_freed_of_part_of_its_bias():
    plain, freed = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        v = values(each=10, seed=seed)
        v["curve_shipped_mAP"] = 0.5 + 0.2 * rng.normal(size=v["curve_shipped_mAP"].shape)
        m = judged("no_dip", v)["known mAP"]
        freed.append(m.value)
        means = v["curve_shipped_mAP"][:, v["curve_populations"] == "known"].mean(axis=1)
        plain.append(means.min() - min(means[0], means[-1]))
    assert np.mean(plain) < -0.01 and np.mean(plain) * 0.75 < np.mean(freed) <= 0


def test_noise_around_a_level_curve_is_seldom_refused():
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        v = values(each=10, seed=seed)
        v["curve_shipped_top1"] = (rng.random(v["curve_shipped_top1"].shape) < 0.5).astype(float)
        refused += judged("no_dip", v)["known top-1"].outcome == "refused"
    assert refused <= 3


def test_the_area_is_the_mean_over_beta_and_is_compared_with_the_mean_of_random_orders():
    v = values(nh=0.6, nn=0.8)
    found = judged("order_helps", v)
    assert set(found) == {"known AUC mAP", "unseen AUC mAP"}
    for population in ("known", "unseen"):
        chosen = v["curve_populations"] == population
        areas = {o: np.mean([np.mean(row[chosen]) for row in v[f"curve_{o}_mAP"]]) for o in ("shipped", "random")}
        m = found[f"{population} AUC mAP"]
        assert m.value == pytest.approx(areas["shipped"] - areas["random"]) and m.lower > 0 and m.outcome == "passed"


def test_an_order_that_is_no_better_than_chance_does_not_pass():
    v = values(nh=0.6, nn=0.8)
    worse = v | curves(v, (("shipped", 3.0), ("random", 1.0), ("oracle", 0.2)))
    assert set(outcomes("order_helps", worse).values()) == {"refused"}
    noise = np.random.default_rng(0).normal(0, 0.3, v["curve_random_mAP"].shape)
    same = v | {
        "curve_shipped_mAP": v["curve_random_mAP"] + (noise - noise.mean(axis=1, keepdims=True)) * (np.arange(STEPS) % 10 > 0)[:, None]
    }
    assert "passed" not in outcomes("order_helps", same).values()


def test_where_little_is_left_to_order_the_gate_does_not_apply_and_says_so():
    v = values(nh=0.7, nn=0.7)
    v |= {f"nn_{name}": v[f"nh_{name}"] + 0.019 for name in ("top1", "mAP")}
    v |= curves(v)
    m = judged("order_helps", v)[""]
    assert m.outcome == "not applicable" and "M(1) − M(0) is 0.019" in m.note and "unseen" in m.note and m.answered
    v |= {f"nn_{name}": v[f"nh_{name}"] + 0.021 for name in ("top1", "mAP")}
    assert len(judged("order_helps", v | curves(v))) == 2


def test_without_uncertainty_there_is_no_shipped_order():
    v = {name: value for name, value in values().items() if not name.startswith("curve_")}
    for gate in ("no_dip", "order_helps"):
        m = judged(gate, v)[""]
        assert m.outcome == "not applicable" and "no uncertainty" in m.note and not m.answered


# the closed form


def test_h_must_be_shown_to_beat_the_closed_form():
    v = values()
    known = v["populations"] == "known"
    m = judged("beats_linear", v)["known mAP"]
    assert m.value == pytest.approx((v["nh_mAP"] - v["closed_mAP"])[known].mean()) and m.outcome == "passed"
    assert "ship the closed form" not in m.note
    rng = np.random.default_rng(0)
    v["closed_mAP"] = v["nh_mAP"] + rng.normal(0, 0.1, len(known))
    m = judged("beats_linear", v)["known mAP"]
    assert m.outcome == "inconclusive" and "ship the closed form" in m.note and "more queries" in m.note
    v["closed_mAP"] = v["nh_mAP"] + 0.1
    assert judged("beats_linear", v)["known mAP"].outcome == "refused"


def test_a_margin_over_the_closed_form_is_asked_for_where_it_is_set():
    v = values()
    v["closed_mAP"] = v["nh_mAP"] - 0.03
    assert outcomes("beats_linear", v, beats_linear=0.02) == {"known mAP": "passed"}
    assert outcomes("beats_linear", v, beats_linear=0.04) == {"known mAP": "refused"}


def test_a_closed_form_has_none_to_beat_and_one_that_was_not_fitted_is_missing():
    v = {name: value for name, value in values().items() if not name.startswith("closed_")}
    missing = judged("beats_linear", v)[""]
    assert missing.outcome == "not applicable" and not missing.answered
    itself = judged("beats_linear", v | {"h_is_closed": np.array(True)})[""]
    assert itself.outcome == "not applicable" and itself.answered and "closed form itself" in itself.note
    assert overall([itself], ("beats_linear",), first=False)[0] == "passed"
    assert overall([missing], ("beats_linear",), first=False)[0] == "inconclusive"


# score thresholds


def counted(seed=0, **shares):
    """Threshold counts: of 1,000 non-matching pairs a query, so large a share at or above the threshold."""
    v = values(seed=seed)
    rng = np.random.default_rng(seed)
    for name, share in ({"before": 0.01, "after": 0.01, "held": 0.01} | shares).items():
        v[f"threshold_{name}"] = rng.binomial(1000, share, len(v["rows"])).astype(float)
    return v


def test_a_threshold_that_still_means_the_same_passes_as_it_is():
    v = counted()
    m = judged("threshold_shift", v)["threshold in use"]
    rate = {name: v[f"threshold_{name}"].sum() / v["threshold_pairs"].sum() for name in ("before", "after")}
    assert m.value == pytest.approx(abs(rate["after"] - rate["before"])) and m.outcome == "passed" and m.tested == m.upper
    assert "set the threshold" not in m.note


@pytest.mark.parametrize("after", [0.001, 0.03])
def test_a_threshold_that_shifts_up_or_down_brings_a_recalibrated_one_that_is_judged_on_other_classes(after):
    v = counted(after=after)
    m = judged("threshold_shift", v)["recalibrated threshold"]
    assert m.outcome == "passed" and "set the threshold to 0.7700" in m.note and "at 0.8100" in m.note
    for name in ("before", "after", "held"):
        assert f"{v[f'threshold_{name}'].sum() / v['threshold_pairs'].sum():.4f}" in m.note
    for held in (0.001, 0.03):
        assert judged("threshold_shift", counted(after=after, held=held))["recalibrated threshold"].outcome == "refused"


def test_a_recalibrated_threshold_that_only_some_classes_keep_is_inconclusive():
    v = counted(after=0.03)
    v["threshold_held"] = np.where(np.isin(v["threshold_labels"], np.unique(v["threshold_labels"])[:3]), 100.0, 4.0)
    assert judged("threshold_shift", v)["recalibrated threshold"].outcome == "inconclusive"


def test_without_pairs_of_different_classes_there_is_no_threshold():
    v = {name: value for name, value in values().items() if not name.startswith("threshold_")}
    assert judged("threshold_shift", v)[""].outcome == "not applicable"


def test_every_measurement_of_these_gates_has_its_own_key_and_a_bound_in_params():
    found = [m for m in of_sample(values(nh=0.6, nn=0.8), SETTINGS, seed=0) if m.gate in SHOWN]
    assert len({m.key for m in found}) == len(found)
    assert {m.gate for m in found} == set(SHOWN)
    assert all(np.isfinite(m.bound) and m.note for m in found)
