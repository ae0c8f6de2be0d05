"""Joined galleries: parts that are searched at once, and the choice among them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import fct
from fct.errors import Altered, BadInput
from fct.forward import Forward, joining, transform_to
from fct.forward.joined import PARTS, Joined, unit, unit_rows

WIDTHS = {"old": 6, "carried": 5, "side": 4}


def drawn(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {part: rng.normal(2, 3, (count, width)).astype(np.float32) for part, width in WIDTHS.items()}


def world(seed: int, *, classes: int = 30, per: int = 8, noise: tuple[float, float, float] = (0.9, 0.3, 0.9)) -> dict[str, np.ndarray]:
    """Items of some classes as an old model, a new model and a side network see them; ``noise``: of each of the three."""
    rng, maps = np.random.default_rng(seed), np.random.default_rng(99)
    labels = np.repeat(np.arange(classes), per)
    latent = rng.normal(size=(classes, 16))[labels] + 0.5 * rng.normal(size=(len(labels), 16))
    seen = [latent @ maps.normal(size=(16, width)) / 4 for width in (14, 20, 12)]
    old, new, side = (rows + spread * rng.normal(size=rows.shape) for rows, spread in zip(seen, noise, strict=True))
    return {
        "old": old.astype(np.float32),
        "new": new.astype(np.float32),
        "side": (side * 3).round().clip(-8, 7).astype(np.int8),
        "labels": labels,
    }


def mean_ap(query: np.ndarray, gallery: np.ndarray, labels: np.ndarray, metric: str = "cosine") -> float:
    ids = np.arange(len(labels))
    return float(fct.evaluate(query, gallery, labels, labels, query_ids=ids, gallery_ids=ids, metric=metric)["mAP"])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    return np.asarray(a @ b.T)


# the arithmetic


@pytest.mark.parametrize("parts", [("old", "carried"), ("old", "side"), PARTS])
def test_a_cosine_of_joined_rows_is_the_weighted_sum_of_the_parts_cosines(parts):
    weights = (0.25, 0.75) if len(parts) == 2 else (0.5, 0.125, 0.375)
    joined, query, gallery = Joined(parts, weights), drawn(7, 1), drawn(30, 2)
    wanted = sum(weight * cosines(query[part], gallery[part]) for part, weight in zip(parts, weights, strict=True))
    asked, rows = joined.queries(query), joined.rows(gallery)
    assert rows.shape == (30, sum(WIDTHS[part] for part in parts)) and rows.dtype == asked.dtype == np.float32
    found = cosines(asked, rows) * len(parts) ** 0.5 * np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_squared_distance_of_joined_rows_is_the_weighted_sum_of_the_parts_in_their_units():
    joined, query, gallery = Joined(PARTS, (0.5, 0.125, 0.375), "l2", (2.0, 3.0, 0.5)), drawn(7, 1), drawn(30, 2)

    def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(((a.astype(np.float64)[:, None] - b[None]) ** 2).sum(axis=2))

    wanted = sum(w * squares(query[part], gallery[part]) / u**2 for part, w, u in zip(PARTS, joined.weights, joined.units, strict=True))
    np.testing.assert_allclose(squares(joined.queries(query), joined.rows(gallery)), wanted, rtol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("part", PARTS)
def test_one_part_is_passed_on_as_it_is(part, metric):
    found = {name: rows.astype(np.float16) for name, rows in drawn(5, 3).items()}
    joined = Joined((part,), (1.0,), metric)
    assert joined.rows(found) is found[part] and joined.queries(found) is found[part]


def test_weights_change_the_queries_and_not_the_gallery():
    found = drawn(9, 4)
    one, other = Joined(("old", "carried"), (0.25, 0.75)), Joined(("old", "carried"), (0.875, 0.125))
    assert np.array_equal(one.rows(found), other.rows(found)) and not np.allclose(one.queries(found), other.queries(found))


def test_side_information_without_a_direction_keeps_the_length_of_its_row():
    side = np.array([[0, 0, 0, 0], [3, 0, 4, 0]], dtype=np.int8)
    assert np.allclose(unit_rows(side), [[0.5] * 4, [0.6, 0, 0.8, 0]])
    rows = Joined(("old", "side"), (0.5, 0.5)).rows(drawn(2, 5) | {"side": side})
    assert np.allclose(np.linalg.norm(rows, axis=1), 2**0.5)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_the_unit_is_the_median_distance_to_the_nearest_row(offset):
    rows = drawn(40, 6)["old"] + np.float32(offset)
    apart = np.linalg.norm(rows.astype(np.float64)[:, None] - rows[None], axis=2) + np.diag([np.inf] * 40)
    assert unit(rows) == pytest.approx(np.median(apart.min(axis=1)), rel=1e-6)
    assert unit(np.repeat(rows, 50, axis=0)[::50]) == unit(rows) and unit(rows, most=20) == unit(rows[::2])
    assert unit(np.ones((5, 3))) == 1.0 and unit(np.ones((1, 3))) == 1.0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (((), ()), "has other parts"),
        ((("carried", "old"), (0.5, 0.5)), "in this order"),
        ((("old", "old"), (0.5, 0.5)), "has other parts"),
        ((("new",), (1.0,)), "has other parts"),
        ((("old", "side"), (0.5, 0.6)), "their sum 1"),
        ((("old", "side"), (1.0,)), "wanted 2 weights"),
        ((("old", "side"), (1.0, 0.0)), "above 0"),
        ((("old", "side"), (0.5, float("nan"))), "above 0"),
        ((("old", "side"), (0.5, "0.5")), "above 0"),
        ((("old", "side"), (0.5, 0.5), "dot"), "unknown metric"),
        ((("old", "side"), (0.5, 0.5), "l2", (1.0,)), "one weight a part"),
    ],
)
def test_a_joined_gallery_that_is_none_is_refused(given, sentence):
    with pytest.raises(BadInput, match=sentence):
        Joined(*given)


def test_its_json_is_read_back_and_nothing_else():
    joined = Joined(PARTS, (0.5, 0.125, 0.375), "l2", (2.0, 3.0, 0.5))
    assert Joined.of(json.loads(json.dumps(joined.to_json()))) == joined
    for given in (None, [], {}, joined.to_json() | {"parts": "old"}, joined.to_json() | {"more": 1}, {"parts": ["old"], "weights": [1.0]}):
        with pytest.raises(BadInput, match="does not describe"):
            Joined.of(given)


# the choice


@pytest.fixture(scope="module")
def fits():
    """Per mode an h of a world in which old, new and side see different things, and unseen items of it."""
    data, other = world(0), world(1, classes=20)
    return {mode: fct.fit(**data, method="ridge", mode=mode, device="cpu") for mode in ("carried", "joined")}, other


def test_joined_parts_find_more_of_unseen_classes_than_any_part_alone(fits):
    h, other = fits[0]["joined"], fits[1]
    labels = other["labels"]
    asked, rows = h.queries(other["new"], other["old"], other["side"]), h.gallery(other["old"], other["side"])
    alone = [mean_ap(other["old"], other["old"], labels), mean_ap(other["side"], other["side"], labels)]
    alone.append(mean_ap(other["new"], h.transform(other["old"], other["side"])[0], labels))
    assert len(h.joined.parts) > 1 and mean_ap(asked, rows, labels) > max(alone) + 0.03


def test_auto_takes_the_carried_vectors_where_they_are_better_than_the_old_ones():
    data, other = world(4, noise=(1.5, 0.1, 0.2)), world(5, noise=(1.5, 0.1, 0.2), classes=20)
    h, carried = (fct.fit(**data, method="ridge", mode=mode, device="cpu") for mode in ("auto", "carried"))
    assert h.joined is None and "better than the old ones" in h.about["joining"]["reason"]
    assert h.digest == carried.digest and "joining" not in carried.about
    assert h.queries(other["new"]) is other["new"]
    assert np.array_equal(h.gallery(other["old"], other["side"]), h.transform(other["old"], other["side"])[0])


@pytest.mark.parametrize("mode", ["joined", "auto"])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_new_model_that_is_worse_leaves_the_old_vectors(mode, labelled):
    data = world(2, noise=(0.2, 3.0, 3.0))
    labels = data.pop("labels")
    h = fct.fit(**data, labels=labels if labelled else None, method="ridge", mode=mode, device="cpu")
    if labelled:
        assert h.joined == Joined(("old",), (1.0,)) and "they are kept" in h.about["joining"]["reason"]
        assert h.gallery(data["old"], data["side"]) is data["old"] and h.queries(data["new"], data["old"]) is data["old"]
    else:  # without labels nothing can show which model is better; what is measured is how near the gallery comes to new/new
        assert "agreement" in h.about["joining"]["candidates"][0]


def test_too_few_pairs_to_hold_any_out_leave_the_old_vectors():
    few = {name: rows[[0, 1, 20, 21]] for name, rows in world(3).items()}
    with pytest.warns(UserWarning, match="fewer pairs"):
        h = fct.fit(**few, method="ridge", mode="joined", device="cpu")
    assert h.joined.parts == ("old",) and "too few sources" in h.about["joining"]["reason"]


def judged(values: dict[str, dict[str, list[float]]], known: list[bool]) -> joining.Judged:
    """What was measured, by hand: candidate → metric → a figure a query; every query is a class."""
    parts = {"o": ("old",), "c": ("carried",), "s": ("side",), "oc": ("old", "carried"), "ocs": PARTS}
    candidates = [Joined(parts[name], (1 / len(parts[name]),) * len(parts[name])) for name in values]
    arrays = {metric: np.array([one[metric] for one in values.values()]) for metric in ("top1", "mAP")}
    return joining.Judged(candidates, arrays, np.arange(len(known)), np.array(known))


def both(figures: list[float]) -> dict[str, list[float]]:
    return {"top1": figures, "mAP": figures}


def test_known_and_unseen_classes_count_alike():
    known = [True] * 30 + [False] * 10
    values = {"o": both([0.5] * 40), "c": both([0.4] * 30 + [0.8] * 10), "oc": both([0.55] * 40)}
    found, said = joining.decide("joined", judged(values, known), 0)
    assert found is None and said["candidates"][1]["mAP"] == 0.6 and said["unseen"] == 10


def test_the_fewest_parts_that_are_not_shown_to_be_worse():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.2, 40)
    values = {"o": both([0.2] * 40), "c": both([0.5] * 40), "oc": both(list(0.6 + noise / 10)), "ocs": both(list(0.601 + noise))}
    found, _ = joining.decide("joined", judged(values, [False] * 40), 0)
    assert found.parts == ("old", "carried")


def test_a_gain_in_one_figure_does_not_pay_for_a_loss_in_the_other():
    values = {"o": both([0.5] * 40), "c": {"top1": [0.4] * 40, "mAP": [0.9] * 40}}
    found, said = joining.decide("joined", judged(values, [False] * 40), 0)
    assert found.parts == ("old",) and "they are kept" in said["reason"]
    assert joining.decide("auto", judged(values, [False] * 40), 0)[0].parts == ("old",)


def test_weights_are_judged_on_classes_that_they_were_not_chosen_on():
    """Of many mixtures of pure noise the best looks better than old; on other classes it is not."""
    rng = np.random.default_rng(1)
    candidates = [Joined(("old",), (1.0,)), Joined(("carried",), (1.0,))]
    candidates += [Joined(("old", "carried"), (eighth / 8, 1 - eighth / 8)) for eighth in range(1, 8)] * 20
    shown = 0
    for seed in range(20):
        noise = rng.normal(0, 0.1, (len(candidates), 40)) + 0.5
        noise[0], noise[1] = 0.5, 0.3
        found, _ = joining.decide("joined", joining.Judged(candidates, {"mAP": noise}, np.arange(40), np.zeros(40, bool)), seed)
        shown += found is None or found.parts != ("old",)
    assert shown <= 4  # by chance 1 in 20; without the halves 20 of 20


# files


def test_a_joined_h_is_stored_and_loaded(fits, tmp_path):
    h, other = fits[0]["joined"], fits[1]
    h.save(tmp_path / "h")
    again = fct.load(tmp_path / "h")
    assert again.joined == h.joined and again.digest == h.digest != fits[0]["carried"].digest
    assert np.array_equal(again.gallery(other["old"], other["side"]), h.gallery(other["old"], other["side"]))
    manifest = json.loads((tmp_path / "h/manifest.json").read_text())
    assert manifest["format"] == 5 and manifest["joining"]["reason"]
    fits[0]["carried"].save(tmp_path / "carried")
    assert json.loads((tmp_path / "carried/manifest.json").read_text())["format"] == 4  # as before: earlier code reads it


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: m.pop("joined"), "not the manifest"),
        (lambda m: m.update(format=4), "not the manifest"),
        (lambda m: m["joined"].update(weights=[0.9, 0.05, 0.05]), "not the one its manifest names"),
        (lambda m: m["joined"].update(parts=["old"]), "one weight a part"),
        (lambda m: m.update(joined=3), "does not describe"),
    ],
)
def test_an_altered_manifest_of_a_joined_h_is_refused(fits, tmp_path, change, error):
    fits[0]["joined"].save(tmp_path / "h")
    manifest = json.loads((tmp_path / "h/manifest.json").read_text())
    change(manifest)
    (tmp_path / "h/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((BadInput, Altered), match=error):
        fct.load(tmp_path / "h")


def test_a_gallery_of_old_vectors_alone_is_written_without_carrying_anything(fits, tmp_path, monkeypatch):
    h, other = replace(fits[0]["joined"], joined=Joined(("old",), (1.0,))), fits[1]
    monkeypatch.setattr(Forward, "blocks", lambda *_, **__: pytest.fail("h was computed"))
    assert transform_to(h, other["old"], other["side"], tmp_path / "g.npy") == len(other["old"])
    np.testing.assert_array_equal(np.load(tmp_path / "g.npy"), other["old"])


def test_files_are_written_in_blocks_as_the_gallery_holds_them(fits, tmp_path):
    h, other = fits[0]["joined"], fits[1]
    old, side = (np.tile(other[name], (8, 1)) for name in ("old", "side"))  # more than one block
    transform_to(h, old, side, tmp_path / "g.npy", tmp_path / "sigma.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "g.npy"), h.gallery(old, side))
    np.testing.assert_array_equal(np.load(tmp_path / "sigma.npy"), h.transform(old, side)[1])


def test_queries_without_what_a_part_needs_are_refused_by_name(fits):
    h, other = fits[0]["joined"], fits[1]
    with pytest.raises(BadInput, match="searched with its part old, too; wanted the queries embedded by the old model"):
        h.queries(other["new"], side=other["side"])
    with pytest.raises(BadInput, match="part side"):
        h.queries(other["new"], other["old"])
    with pytest.raises(BadInput, match="old has the wrong number of rows"):
        h.queries(other["new"], other["old"][:3], other["side"])
    with pytest.raises(BadInput, match="unknown mode"):
        fct.fit(**world(0), mode="both")
    with pytest.raises(BadInput, match="unknown metric"):
        fct.fit(**world(0), mode="joined", metric="dot")
