from dataclasses import replace

import numpy as np
import pytest
import torch

import fct
from fct.forward import FitSettings, ladder
from fct.forward.inputs import check
from fct.forward.judging import Judge
from fct.forward.settings import CLOSED

SMALL = FitSettings(method="auto", members=1, width=32, epochs=4, batch=64)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(ladder, "JUDGED_STEPS", 6)


def turned(n=400, d=6, noise=0.0, seed=0):
    """New vectors that are the old ones turned: Procrustes is all there is to learn."""
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(n, d))
    return old.astype(np.float32), (old @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 1 + noise * rng.normal(size=(n, d))).astype(np.float32)


def fit(old, new, **given):
    return fct.fit(old, new, settings=SMALL, device="cpu", **given)


def test_equal_vectors_need_no_transformation():
    old, _ = turned()
    h = fit(old, old.copy())
    assert h.method == "none" and "none has the best cosine 1.000" in h.about["validation"]["reason"]


def test_a_rotation_is_left_to_procrustes_and_the_reason_names_who_was_beaten():
    validation = fit(*turned()).about["validation"]
    assert validation["chosen"] == "procrustes"
    assert "Simpler ones are beaten: none by" in validation["reason"]
    rows = {row["method"]: row for row in validation["candidates"]}
    assert list(rows) == list(CLOSED)
    assert rows["none"]["beaten_by"] and rows["procrustes"]["beaten_by"] is None
    assert rows["none"]["difference_to_chosen"]["upper"] < 0 == rows["procrustes"]["difference_to_chosen"]["value"]
    assert validation["held_out"] == 400 and validation["metric"] == "cosine"  # five rounds: every row is judged once


def test_without_labels_the_only_network_is_the_mean_with_the_ridge_map_and_only_on_enough_items():
    def candidates(sources, **given):
        found = [row["method"] for row in fit(*turned(1200), sources=sources, **given).about["validation"]["candidates"]]
        assert found[: len(CLOSED)] == list(CLOSED)
        return [name for name in found[len(CLOSED) :] if name in ("fct", "fastfill", "contrastive", "mixed", "fastfill-pool")]

    assert candidates(np.arange(1200)) == ["fastfill-pool"]
    assert candidates(np.arange(1200) % 999) == []
    assert candidates(np.arange(1200) % 999, labels=np.arange(1200) % 30) == ["fct", "contrastive", "fastfill-pool"]


def test_a_stretch_that_no_rotation_undoes_is_left_to_ridge():
    old, new = turned(600)
    h = fit(old, (new - 1) * [1, 30, 1, 30, 0.2, 5] @ np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0] + 1)
    assert h.method in ("ridge", "low-rank")


def decide(values, clusters=200, seed=0):
    return ladder.decide(
        {name: {"top1": row, "mAP": row} for name, row in values.items()}, np.arange(clusters), "mAP", dict.fromkeys(values, 0.0), seed
    )


def test_the_simplest_that_is_not_shown_to_be_beaten_is_chosen():
    rng = np.random.default_rng(0)
    base = rng.random(200)
    chosen, found = decide({"ridge": base, "fct": base + 0.001 * rng.normal(size=200), "mixed": base + 0.2 * rng.normal(size=200)})
    assert chosen == "ridge" and found["reason"].startswith("ridge")
    chosen, found = decide({"ridge": base - 0.1, "fct": base, "mixed": base + 0.001 * rng.normal(size=200)})
    assert chosen == "fct" and "ridge by" in found["reason"]
    chosen, _ = decide({"ridge": base - 0.1, "fct": base - 0.05, "mixed": base})
    assert chosen == "mixed"


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_follows_its_own_table(seed):
    rng = np.random.default_rng(seed)
    values = {name: rng.random() * 0.1 + rng.random(60) for name in ("none", "ridge", "fct", "mixed")}
    chosen, found = decide(values, 60, seed)
    rows = found["candidates"]
    assert chosen == next(row["method"] for row in rows if row["beaten_by"] is None)
    assert found["best"] == max(rows, key=lambda row: row["mAP"])["method"]


def test_classes_are_held_out_whole_where_there_are_enough():
    rng = np.random.default_rng(0)
    labels, sources = rng.integers(0, 40, 8000), rng.integers(0, 2000, 8000)
    old = rng.normal(size=(8000, 3))
    given = check(old, old, None, labels, sources, None, None, None, None)
    (fitted, judged), *more = ladder.rounds(given, 0)
    unseen = set(labels[judged.rows]) - set(labels[fitted.rows])
    assert not more and 3 <= len(unseen) <= 5
    by_class = np.isin(labels[judged.rows], list(unseen))
    assert not set(sources[judged.rows][~by_class]) & set(sources[fitted.rows])
    assert len(judged) <= 2000 and by_class.sum() > 300 and (~by_class).sum() > 300
    assert not set(fitted.rows) & set(judged.rows)


@pytest.mark.parametrize("count", [2, 7, 60, 900])
def test_rounds_never_judge_what_they_fitted(count):
    rng = np.random.default_rng(count)
    old = rng.normal(size=(count, 3))
    given = check(old, old, None, rng.integers(0, 30, count), rng.integers(0, max(2, count // 3), count), None, None, None, None)
    for fitted, judged in ladder.rounds(given, 0):
        assert not set(fitted.rows) & set(judged.rows) and len(fitted) >= 2


def test_a_judge_measures_what_a_naive_search_finds():
    rng = np.random.default_rng(0)
    new, carried = rng.normal(size=(2, 30, 4))
    labels, sources = np.array([0, 1, 2, -1, 1] * 6), np.arange(30) // 2
    values, clusters = Judge(new, labels, sources).values(carried, by_label=True)
    wanted_top, wanted_map = [], []
    unit = [row / np.linalg.norm(row) for row in carried]
    for query in range(30):
        visible = [g for g in range(30) if g != query and sources[g] != sources[query]]
        ranked = sorted(visible, key=lambda g: -(unit[g] @ new[query]))
        right = [labels[g] == labels[query] for g in ranked]
        if labels[query] < 0 or not any(right):
            continue
        wanted_top.append(float(right[0]))
        wanted_map.append(np.mean([(i + 1) / (at + 1) for i, at in enumerate(np.flatnonzero(right))]))
    np.testing.assert_allclose(values["top1"], wanted_top)
    np.testing.assert_allclose(values["mAP"], wanted_map)
    assert len(clusters) == len(wanted_top)
    own, _ = Judge(new, labels, sources).values(carried, by_label=False)
    ranks = [1 + sum(unit[g] @ new[q] > unit[q] @ new[q] for g in range(30)) for q in range(30)]
    np.testing.assert_allclose(own["MRR"], [1 / rank for rank in ranks])
    for row, value in enumerate(own["cosine"]):
        a, b = new[row] - new.mean(axis=0), carried[row] - new.mean(axis=0)
        assert value == pytest.approx(sum(a * b) / sum(a * a) ** 0.5 / sum(b * b) ** 0.5)


def test_without_labels_a_map_that_keeps_items_apart_and_loses_what_is_alike_does_not_win():
    """Ten groups whose rows differ by a little of their own: a map that only keeps the little finds every row, and no group."""
    rng = np.random.default_rng(0)
    group, own = np.repeat(3 * rng.normal(size=(10, 8)), 20, axis=0), rng.normal(size=(200, 8))
    new = np.concatenate([group, 0.3 * own], axis=1)
    apart, alike = np.concatenate([0 * group, own], axis=1), np.concatenate([group + 0.3 * rng.normal(size=(200, 8)), 0 * own], axis=1)
    judge = Judge(new, np.full(200, -1), np.arange(200))
    first, second = judge.values(apart, by_label=False)[0], judge.values(alike, by_label=False)[0]
    assert first["cosine"].mean() < second["cosine"].mean() - 0.3 and first["MRR"].mean() > second["MRR"].mean()


@pytest.mark.parametrize(
    ("labels", "sources", "wanted"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], True),
        ([0, 0, 0, 0], [0, 1, 2, 3], False),
        ([0, 1, 2, -1], [0, 1, 2, 3], False),
        ([0, 0, 1, 1], [0, 0, 1, 1], False),
    ],
)
def test_labels_judge_only_where_a_query_has_a_partner_and_a_rival(labels, sources, wanted):
    assert Judge(np.ones((4, 2)), np.array(labels), np.array(sources)).by_label is wanted


@pytest.mark.parametrize("labels", [np.arange(300), np.full(300, -1)])
def test_labels_that_cannot_judge_are_left_aside(labels):
    assert fit(*turned(300), labels=labels).about["validation"]["metric"] == "cosine"


def test_one_source_cannot_be_judged_and_gets_the_regularised_form():
    h = fit(*turned(50), sources=np.zeros(50, int))
    assert h.method == "ridge" and "too few sources" in h.about["validation"]["reason"]


def test_with_fewer_pairs_than_dimensions_no_network_is_tried():
    rng = np.random.default_rng(0)
    old = rng.normal(size=(25, 40)).astype(np.float32)
    with pytest.warns(UserWarning, match="fewer pairs"):
        h = fit(old, old + 0.1)
    assert {row["method"] for row in h.about["validation"]["candidates"]} == set(CLOSED) and h.about["warnings"]
    with pytest.warns(UserWarning, match="fewer pairs"):
        h = fct.fit(old, old + 0.1, settings=replace(SMALL, method="fct"), device="cpu")
    assert h.method == "ridge" and "fct was asked for; ridge is fitted in its place" in h.about["warnings"]
    assert np.isfinite(h.transform(old)[0]).all()


def test_the_same_seed_chooses_and_fits_the_same():
    old, new = turned(noise=0.3)
    torch.manual_seed(3)
    first = fit(old, new)
    torch.manual_seed(4)
    assert fit(old, new).digest == first.digest
