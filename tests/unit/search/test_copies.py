"""Copies: near in both spaces, told from a collapsed class, together in every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct import forward
from fct.sample import adopted, evaluation, trial, trying
from fct.sample.folder import PairsFolder, Sample
from fct.search import copies
from registry.report.trial import done
from registry.upgrades.fitting import copies_of, fit_pairs

Both = tuple[np.ndarray, np.ndarray]


def items(rng: np.random.Generator, count: int, *, dims: int = 10, classes: int = 0, spread: float = 1.0) -> Both:
    """Items in two spaces of 24 and 32 dimensions, both bent views of one latent vector; ``spread`` of a class around its centre."""
    latent = rng.normal(size=(count, dims))
    if classes:
        latent = rng.normal(size=(classes, dims))[np.arange(count) % classes] + spread * latent
    return tuple(np.tanh(latent @ rng.normal(size=(dims, wide)) / dims**0.5).astype(np.float32) for wide in (24, 32))  # type: ignore[return-value]


def again(rng: np.random.Generator, rows: np.ndarray, noise: float) -> np.ndarray:
    """Rows with noise of a share of their length."""
    return rows + noise * np.linalg.norm(rows, axis=1, keepdims=True) * rng.normal(size=rows.shape) / rows.shape[1] ** 0.5


def with_copies(rng: np.random.Generator, both: Both, who: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """old, new, item (N,): every item once, and those in ``who`` again with noise; in any order."""
    item = np.concatenate([np.arange(len(both[0])), who])
    old, new = (np.concatenate([rows, again(rng, rows[who], noise)]) for rows in both)
    order = rng.permutation(len(item))
    return old[order], new[order], item[order]


def found(groups: np.ndarray, item: np.ndarray) -> float:
    """Share of the pairs of copies that are in one group."""
    same = (item[:, None] == item[None]) & ~np.eye(len(item), dtype=bool)
    return float((groups[:, None] == groups[None])[same].mean())


def joined(groups: np.ndarray, item: np.ndarray) -> float:
    """Share of the rows that are in a group with another item."""
    other = (groups[:, None] == groups[None]) & (item[:, None] != item[None])
    return float(other.any(axis=1).mean())


@pytest.mark.parametrize("noise", [0.05, 0.02, 0.005])
@pytest.mark.parametrize("each", [5, 1])
def test_noisy_copies_are_found_where_every_item_has_some_and_where_few_have(noise: float, each: int) -> None:
    rng = np.random.default_rng(0)
    both = items(rng, 300)
    who = np.repeat(np.arange(300) if each == 5 else rng.permutation(300)[:40], each)
    old, new, item = with_copies(rng, both, who, noise)
    groups = copies.find(old, new)
    assert found(groups, item) >= 0.95
    assert joined(groups, item) <= 0.01
    assert (groups == copies.find(old, new)).all()


@pytest.mark.parametrize(("classes", "spread"), [(0, 1.0), (10, 0.3), (10, 0.03), (75, 0.1), (75, 0.01)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_different_items_are_not_joined_in_collapsed_classes_either(seed: int, classes: int, spread: float) -> None:
    """Classes whose rows lie 0.01 apart are no copies: nothing in them is nearer than the rest."""
    groups = copies.find(*items(np.random.default_rng(seed), 1500, classes=classes, spread=spread))
    assert copies.share(groups) <= 0.01
    assert np.bincount(groups).max() <= 0.01 * len(groups)


@pytest.mark.parametrize("dims", [3, 4, 6])
def test_a_gap_by_chance_is_rare_in_few_dimensions_too(dims: int) -> None:
    """In few dimensions random rows lie near each other often, and gaps are common."""
    joined = [copies.share(copies.find(*items(np.random.default_rng(seed), 1000, dims=dims))) for seed in range(3)]
    assert np.mean(joined) <= 0.01


def test_single_copies_of_alike_items_are_found() -> None:
    """With 5 % noise a copy is 0.07 of the length away, and the nearest other item of one row in four is less than 0.2 away."""
    rng = np.random.default_rng(7)
    old, new, item = with_copies(rng, items(rng, 1500, dims=5), rng.permutation(1500)[:300], 0.05)
    groups = copies.find(old, new)
    assert found(groups, item) >= 0.95 and joined(groups, item) <= 0.01


def test_how_many_noisy_copies_of_an_item_are_found() -> None:
    """A dozen rows may be a class, unless labels say that the class is larger; and no group has more than a hundredth of all rows."""
    rng = np.random.default_rng(8)
    both = items(rng, 100)
    for each, without, with_ in ((11, 1.0, 1.0), (12, 0.0, 1.0), (30, 0.0, 1.0)):
        old, new, item = with_copies(rng, both, np.repeat(np.arange(100), each), 0.02)
        assert found(copies.find(old, new), item) == pytest.approx(without, abs=0.01), each
        assert found(copies.find(old, new, item % 5), item) == pytest.approx(with_, abs=0.01), each


def test_groups_that_may_be_items_or_classes_are_counted_and_said() -> None:
    rng = np.random.default_rng(8)
    both = items(rng, 100)
    for each, labels in ((11, False), (12, True), (30, True)):  # joined, with labels of larger classes or without
        old, new, item = with_copies(rng, both, np.repeat(np.arange(100), each), 0.02)
        assert copies.look(old, new, item % 5 if labels else None)[1] == 0, each
    old, new, item = with_copies(rng, items(rng, 1000), np.repeat(np.arange(20), 13), 0.02)
    groups, doubtful = copies.look(old, new)
    assert doubtful == 20 * 14 / len(old) and (groups == np.arange(len(old))).all()
    assert copies.look(*items(rng, 1500, classes=75, spread=0.01))[1] == 1, "collapsed classes cannot be told from items"
    (sentence,) = copies.warnings(0.0, "pairs", doubtful)
    assert sentence.startswith("22% of the pairs lie in groups of 12 or more near-copies") and "`--pairs-sources`" in sentence
    assert copies.warnings(0.0, "pairs", copies.DOUBT) == []
    chain, chained, _ = with_copies(rng, items(rng, 100), np.repeat(np.arange(5), 30), 0.02)
    assert copies.look(chain, chained, np.zeros(250, dtype=int))[1] == 5 * 31 / 250, (
        "labels deny a class, and each has a hundredth of all rows"
    )


def test_a_trial_a_fit_and_given_pairs_say_that_groups_may_be_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    old, new, item = with_copies(rng, items(rng, 400), np.repeat(np.arange(20), 13), 0.02)
    wanted = f"{20 * 14 / len(old):.0%} of the rows lie in groups of 12 or more near-copies"
    tried = trying.run(old, new, method="ridge", device="cpu")
    assert wanted in done(tried)
    h = forward.fit(old, new, method="ridge", device="cpu")
    assert any(wanted in sentence for sentence in h.about["warnings"])
    old, new, item = with_copies(rng, items(rng, 400), np.repeat(np.arange(20), 25), 0.02)
    given_ = adopted.given_pairs(old, new, np.zeros((len(old), 0), np.int8), (item % 5).astype(str))
    adopted.write_pairs(given_, tmp_path / "pairs", classes=[], seed=0, about={"metric": "cosine"})
    given_.save(tmp_path)
    adopted.write_pairs(adopted.load_given(tmp_path), tmp_path / "again", classes=[], seed=0, about={"metric": "cosine"})
    for name in ("pairs", "again"):
        assert copies_of(tmp_path / name)["pairs"] == {"share": 0.0, "doubtful": 20 * 26 / len(old)}


def test_copies_within_collapsed_classes_are_found() -> None:
    rng = np.random.default_rng(2)
    both = items(rng, 300, classes=6, spread=0.2)
    old, new, item = with_copies(rng, both, np.repeat(np.arange(300), 3), 0.01)
    groups = copies.find(old, new, item % 6)
    assert found(groups, item) >= 0.95 and joined(groups, item) <= 0.01


def test_rows_that_are_near_in_one_space_alone_are_no_copies() -> None:
    rng = np.random.default_rng(3)
    old, new = items(rng, 300)
    twice = again(rng, old, 0.01)
    assert copies.share(copies.find(np.concatenate([old, twice]), np.concatenate([new, rng.permutation(new)]))) <= 0.01


def test_equal_rows_are_one_group_however_many_there_are() -> None:
    old, new = items(np.random.default_rng(4), 200)
    rows = np.concatenate([np.arange(200), np.full(500, 7), [3]])
    groups = copies.find(old[rows].astype(np.float16), new[rows])
    assert (groups[200:700] == 7).all() and groups[700] == 3 and copies.share(groups) == 503 / 701
    assert copies.find(old[:1], new[:1]).tolist() == [0] and copies.find(old[[0, 0]], new[[0, 0]]).tolist() == [0, 0]


def test_far_from_the_origin_and_at_any_scale_the_groups_are_the_same() -> None:
    rng = np.random.default_rng(5)
    both = items(rng, 200)
    old, new, item = with_copies(rng, both, np.arange(60), 0.01)
    assert found(copies.find(old.astype(np.float64) * 1e-6 + 1, new * 1e6), item) >= 0.95


def test_many_rows_are_compared_in_cells_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    both = items(rng, 500, dims=16)
    old, new, item = with_copies(rng, both, np.repeat(np.arange(500), 4), 0.02)
    monkeypatch.setattr(copies, "MANY", 1000)
    groups = copies.find(old, new)
    assert found(groups, item) >= 0.95 and joined(groups, item) <= 0.01


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_what_any_grouping_holds_together_stays_together(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groupings = [rng.integers(0, count, count) for _ in range(3)]
    units = copies.together(*groupings)
    names = np.arange(count)  # the naive way: rows are renamed until nothing changes
    for _ in range(count):
        for grouping in groupings:
            for value in np.unique(grouping):
                names[grouping == value] = names[grouping == value].min()
    assert units.tolist() == names.tolist()


# an h that knows nothing but what it was fitted on: the old vectors are noise that has nothing to do with the new ones, and there are so
# many dimensions that a linear map learns every fitted item by heart


def unskilled(seed: int) -> dict[str, np.ndarray]:
    """96 items of 6 classes, each with five near-copies; and as many fresh ones of the same kind, as ``fresh_``."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 16))
    data: dict[str, np.ndarray] = {}
    for prefix in ("", "fresh_"):
        label = np.repeat(np.arange(6), 16)
        both = rng.normal(size=(96, 128)), centres[label] + 0.5 * rng.normal(size=(96, 16))
        old, new, item = with_copies(rng, both, np.repeat(np.arange(96), 5), 0.02)
        data |= {f"{prefix}old": old.astype(np.float32), f"{prefix}new": new.astype(np.float32), f"{prefix}labels": label[item]}
    return data


def rho(data: dict[str, np.ndarray], h: forward.Forward) -> float:
    """The true ρ of mAP: on items that h never saw, nor any copy of them."""
    old, new, rows = data["fresh_old"], data["fresh_new"], np.arange(len(data["fresh_old"])).astype(str)
    empty = np.full(len(rows), "")
    sample = Sample(rows, data["fresh_labels"].astype(str), empty, empty, old, old, new)
    oo, nh, nn = (
        evaluation.search(sample, q, g, "cosine").ap.mean() for q, g in ((old, old), (new, h.transform(old, None)[0]), (new, new))
    )
    return float((nh - oo) / (nn - oo))


@pytest.mark.parametrize("seed", [0, 1])
def test_an_h_without_skill_does_not_pass_a_trial_of_copies(seed: int) -> None:
    data = unskilled(seed)
    tried = trying.run(data["old"], data["new"], labels=data["labels"], method="ridge", seed=seed, device="cpu")
    assert tried.given["copies"] == 1
    said, truth = trial.estimates(tried)["rho_mAP"], rho(data, tried.h)
    assert truth < 0.2 and abs(said.value - truth) < 0.2


def test_an_h_without_skill_does_not_pass_on_given_pairs_of_copies(tmp_path: Path) -> None:
    data = unskilled(2)
    labels = data["labels"].astype(str)
    given_ = adopted.given_pairs(data["old"], data["new"], np.zeros((len(labels), 0), np.int8), labels)
    adopted.write_pairs(given_, tmp_path / "pairs", classes=[], seed=0, about={"metric": "cosine"})
    h = fit_pairs(tmp_path / "pairs", None, forward.FitSettings(method="ridge"), seed=0, device="cpu", title="h")
    assert h.reads == ("phi",)  # there is no side-information
    sample = PairsFolder(tmp_path / "pairs").sample()
    values = evaluation.measure(sample, h.transform(sample.old, None)[0], "cosine")
    oo, nh, nn = (values[f"{row}_mAP"].mean() for row in ("oo", "nh", "nn"))
    truth = rho(data, h)
    assert truth < 0.2 and (nh - oo) / (nn - oo) < 0.2


def test_a_fit_keeps_copies_on_one_side() -> None:
    """Judged on copies of what it was fitted on, what learns by heart would win; on other items it does not."""
    data = unskilled(3)
    h = forward.fit(data["old"], data["new"], labels=data["labels"], method="ridge", device="cpu")
    assert h.about["validation"]["mean_cosine"] < 0.5
    assert any("copies of others" in sentence for sentence in h.about["warnings"])
