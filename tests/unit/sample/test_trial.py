from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fct.errors import BadInput
from fct.forward import FitSettings
from fct.sample import splitting, trial, trying
from fct.sample.folder import Sample
from fct.search import agreement
from fct.search.intervals import Estimate
from registry.report import page, trial_answers, trial_page
from registry.report import trial as words
from registry.report.trial_answers import Costs, decided, overall

Vectors = dict[str, np.ndarray]


def topics(classes: int = 24, each: int = 20, *, kept: int = 6, noise: float = 0.6, seed: int = 0) -> Vectors:
    """Synthetic vectors: items scatter around class centres of 16 latent dimensions. The new model sees all of them, the old one
    ``kept``, the side-information the others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    latent = rng.normal(size=(classes, 16))[labels] + noise * rng.normal(size=(classes * each, 16))
    mixing = rng.normal(size=(16, 20))
    return {
        "old": (latent[:, :kept] @ rng.normal(size=(kept, 12))).astype(np.float32),
        "new": (latent @ mixing).astype(np.float32),
        "side": latent[:, kept:].astype(np.float32),
        "labels": np.array([f"topic {label}" for label in labels]),
        "sources": np.array([f"site {i % 9}" for i in range(len(labels))]),
        "ids": np.array([f"text {i}" for i in range(len(labels))]),
    }


def tried(data: Vectors, *names: str, **more: object) -> trial.Trial:
    return trying.run(data["old"], data["new"], **{name: data[name] for name in names}, **({"method": "ridge", "seed": 1} | more))


@pytest.fixture(scope="module")
def better() -> trial.Trial:
    return tried(topics(classes=40), "labels", "side", "sources", "ids")  # eight of them unseen


# the split


def test_no_source_is_on_both_sides_and_no_unseen_class_fits_h():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = int(rng.integers(60, 400))
        labels = rng.integers(-1, 20, rows)
        units = rng.integers(0, int(rng.integers(5, rows)), rows)
        units = np.unique(units, return_inverse=True)[1]
        found = splitting.split(rows, labels, units, seed=seed)
        assert not set(units[found.fitting]) & set(units[found.evaluation])
        unseen = set(labels[found.evaluation][found.unseen])
        assert unseen
        assert -1 not in unseen
        assert not unseen & set(labels[found.fitting])
        assert not unseen & set(labels[found.evaluation][~found.unseen])
        assert len(found.fitting) + len(found.evaluation) + found.left_out == rows
        assert len(found.evaluation) <= max(rows // 2, 2 * np.bincount(units).max())


def test_a_large_gallery_is_judged_on_at_most_5000_rows_and_fitted_on_at_most_12000():
    found = splitting.split(60_000, np.arange(60_000) % 500, np.arange(60_000), seed=0)
    assert 4900 < len(found.evaluation) <= splitting.EVALUATION_ROWS
    assert len(found.fitting) == splitting.FITTING_ROWS
    assert 0.3 < found.unseen.mean() < 0.45
    assert len(np.unique((np.arange(60_000) % 500)[found.evaluation[found.unseen]])) == 100


def test_two_sources_of_which_one_is_huge_cannot_be_split():
    with pytest.raises(BadInput, match="sources cannot be split"):
        splitting.split(100, None, np.array([0] * 95 + [1] * 5), seed=0)


def test_an_item_in_two_sources_is_refused():
    with pytest.raises(BadInput, match="one id occurs in two sources.*row 0"):
        splitting.unsplit(np.array(["a", "b", "b"]), np.array(["x", "x", "y"]), 3)
    assert splitting.unsplit(np.array(["a", "a", "b"]), np.array(["x", "x", "y"]), 3).tolist() == [0, 0, 1]


def test_rows_without_a_source_are_no_source_together():
    found = splitting.unsplit(np.array(["a", "", "", "a", ""]), np.array(["i", "j", "k", "l", "j"]), 5)
    assert found[0] == found[3] and found[1] == found[4] and len(set(found.tolist())) == 3


def test_negative_and_empty_labels_are_unknown():
    assert splitting.class_numbers(np.array([-1, 5, 7, 5]), 4).tolist() == [-1, 1, 2, 1]
    assert splitting.class_numbers(np.array(["b", "", "a"]), 3).tolist() == [2, -1, 1]
    with pytest.raises(BadInput, match="fewer than two classes"):
        splitting.class_numbers(np.array([3, 3, -1]), 3)


def test_h_never_sees_an_evaluation_row():
    data = topics()
    first = tried(data, "labels", "side")
    changed = data["new"].copy()
    changed[first.split.evaluation] += 5
    second = tried(data | {"new": changed}, "labels", "side")
    assert second.h.digest == first.h.digest
    assert second.given["digests"]["evaluation new"] != first.given["digests"]["evaluation new"]


# agreement


def test_neighbours_and_agreement_equal_a_naive_search():
    rng = np.random.default_rng(4)
    for metric in ("cosine", "l2"):
        n = 40
        sample = Sample(
            ids=np.array([f"i{i // 2}" for i in range(n)]),  # two rows an item
            labels=np.arange(n).astype(str),
            sources=np.array(["" if i % 3 else f"s{i % 4}" for i in range(n)]),
            populations=np.full(n, "known"),
            old=rng.normal(size=(n, 5)),
            side=np.zeros((n, 0)),
            new=rng.normal(size=(n, 5)),
        )
        rows = np.array([0, 3, 7, 39])
        found = agreement.neighbours(sample.ids, sample.sources, sample.new, sample.old, metric, rows)
        wanted = agreement.neighbours(sample.ids, sample.sources, sample.new, sample.new, metric, rows)
        for line, row in zip(found, rows, strict=True):
            q = sample.new[row]
            scored = []
            for other in range(n):
                if sample.ids[other] == sample.ids[row] or (sample.sources[row] != "" and sample.sources[other] == sample.sources[row]):
                    continue
                g = sample.old[other]
                score = q @ g / np.linalg.norm(q) / np.linalg.norm(g) if metric == "cosine" else -((q - g) ** 2).sum()
                scored.append((-score, other))
            assert line.tolist() == [other for _, other in sorted(scored)[:10]]
        assert agreement.agreement(found, wanted).tolist() == [len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)]


def test_agreement_counts_only_the_neighbours_there_are():
    assert agreement.agreement(np.array([[7, 4, 3]]), np.array([[3, 7, 9]])).tolist() == [2 / 3]
    assert agreement.agreement(np.array([[1, -1]]), np.array([[1, -1]])).tolist() == [1.0]
    assert np.isnan(agreement.agreement(np.array([[-1]]), np.array([[-1]]))[0])


# what is answered


def test_a_better_model_with_side_information_is_an_upgrade_whose_gain_comes_back(better):
    found = {a.key: a for a in words.answers(better, Costs())}
    assert list(found) == list(words.QUESTIONS)
    assert found["upgrade"].outcome == "yes"
    assert found["recovered"].outcome == "better than today"
    assert "unseen classes" in found["recovered"].short
    assert found["side"].outcome == "it helps"
    here = trial.estimates(better, "unseen")
    assert here["rho_mAP"].value > 0.9  # old and side-information together hold all 16 latent dimensions
    assert here["ph_mAP"].value - here["oo_mAP"].value < 0.7 * here["gain_mAP"].value
    assert here["side_mAP"].value == pytest.approx(here["nh_mAP"].value - here["ph_mAP"].value)


def test_side_information_of_noise_is_not_said_to_help():
    data = topics()
    data["side"] = np.random.default_rng(5).normal(size=data["side"].shape).astype(np.float32)
    answer = words.answers(tried(data, "labels", "side"), Costs())[2]
    assert answer.key == "side"
    assert answer.outcome in ("inconclusive", "it does not help")


def test_a_worse_model_is_refused_and_h_said_to_carry_the_loss():
    data = topics(seed=2)
    found = tried(data | {"old": data["new"], "new": data["old"]}, "labels")
    answers = words.answers(found, Costs())
    assert answers[0].outcome == "no"
    assert "h carries that over faithfully" in answers[0].more[0]
    assert "ρ is undefined" in answers[1].short


def test_an_equal_model_is_no_reason_to_upgrade():
    data = topics()
    answers = words.answers(tried(data | {"new": data["old"]}, "labels"), Costs())
    assert answers[0].outcome == "no"
    assert "ρ is undefined" in answers[1].short


def test_a_difference_lost_in_noise_is_inconclusive_and_says_how_many_queries_would_settle_it():
    rng = np.random.default_rng(8)
    data = topics(classes=12, each=10, noise=1.5)
    data["old"] = (data["new"] + 3 * rng.normal(size=data["new"].shape)).astype(np.float32)
    found = tried(data, "labels")
    answers = words.answers(found, Costs())
    assert answers[0].outcome == "inconclusive"
    left = trial_answers.unsettled(found, {p: trial.estimates(found, p) for p in found.populations})
    assert any(more is not None and more > 0 for name, more in left.items() if name.startswith("is new/new"))
    assert "more labelled queries" in answers[-1].more[0]


def test_yes_needs_every_metric_and_one_no_is_no():
    up, down, both = Estimate(0.1, 0.05, 0.2, 9), Estimate(-0.1, -0.2, -0.05, 9), Estimate(0.0, -0.1, 0.1, 9)
    equal = Estimate(0.0, 0.0, 0.0, 9)
    assert [decided(e) for e in (up, down, both, equal)] == ["yes", "no", "inconclusive", "no"]
    for first, second, wanted in ((up, up, "yes"), (up, both, "inconclusive"), (both, down, "no"), (up, down, "no"), (up, equal, "no")):
        assert overall({"gain_top1": first, "gain_mAP": second}, "gain", ("top1", "mAP")) == wanted


def test_without_labels_the_first_question_is_left_open_and_agreement_measured():
    found = tried(topics(), "side")
    answers = words.answers(found, Costs())
    assert answers[0].outcome == "labels needed"
    assert found.values["nn_agreement"].min() == 1.0
    assert found.values["nh_agreement"].mean() > 0.9 > found.values["oo_agreement"].mean()
    assert found.own > 0.95
    assert not np.isin(found.split.evaluation, found.split.fitting).any()
    assert not {name for name in trial.estimates(found) if name.startswith(("gain", "rho", "compatible"))}
    assert "ρ" not in trial_page.html(found, Costs())
    assert "labels" in answers[-1].short


def test_unlabelled_rows_answer_but_never_ask():
    data = topics()
    numbers = np.repeat(np.arange(24), 20)
    numbers[::4] = -1
    found = tried(data | {"labels": numbers}, "labels", "ids")
    asking = found.split.evaluation[found.queries]
    assert len(asking)
    assert (numbers[asking] >= 0).all()
    assert (numbers[found.split.evaluation] == -1).any()


def test_flips_are_counted_as_a_loop_counts_them(better):
    v = better.values
    lost = [i for i in range(len(better.queries)) if v["oo_top1"][i] == 1 and v["nh_top1"][i] == 0]
    gained = [i for i in range(len(better.queries)) if v["oo_top1"][i] == 0 and v["nh_top1"][i] == 1]
    assert gained
    found = trial.flips(better)
    assert sorted(found["lost"]) == lost
    assert sorted(found["gained"]) == gained
    change = (v["nh_mAP"] - v["oo_mAP"])[found["gained"]]
    assert (np.diff(change) <= 0).all()
    assert trial_answers.counts(better)["lost_by_new"] == sum(v["nn_top1"][i] == 0 for i in lost)


def test_a_backfilling_curve_starts_at_h_and_ends_at_new(better):
    for found in (better, tried(topics(), "side")):
        curves = trying.backfill(
            found.sample, found.carried, np.arange(len(found.carried)) * 1.0, found.queries, found.metric, found.labelled, seed=0
        )
        assert curves is not None
        m = found.metrics[-1]
        for order in ("shipped", "random", "oracle"):
            assert curves.means(f"{order}_{m}")[0] == pytest.approx(found.values[f"nh_{m}"].mean(), abs=1e-6)
            assert curves.means(f"{order}_{m}")[-1] == pytest.approx(found.values[f"nn_{m}"].mean(), abs=1e-6)
    assert trying.backfill(better.sample, better.carried, np.full(len(better.carried), np.nan), better.queries, "cosine", True, 0) is None


def test_the_dip_is_how_far_a_curve_falls_below_both_ends():
    curves = trial.Backfill({"shipped_mAP": np.array([[0.4], [0.3], [0.6]])}, np.zeros(1), 0)
    assert curves.dip("shipped_mAP") == pytest.approx(-0.1)
    assert curves.at("shipped_mAP", 0.25) == pytest.approx(0.35)
    assert replace(curves, values={"shipped_mAP": np.array([[0.4], [0.5], [0.6]])}).dip("shipped_mAP") == 0


def test_savings_follow_the_users_figures(better):
    saved = trial_answers.savings(better, Costs(gallery_rows=2_000_000, seconds_per_million=500, price_per_million=30))
    assert (saved["rows"], saved["seconds"], saved["price"]) == (2_000_000, 1000, 60)
    assert saved["side_bytes"] == 2_000_000 * better.sample.side.shape[1] * 4
    assert "price" not in trial_answers.savings(better, Costs())


def test_the_same_seed_gives_the_same_numbers():
    data = topics(classes=12)
    first, second, other = (tried(data, "labels", seed=seed) for seed in (1, 1, 2))
    assert all((first.values[name] == second.values[name]).all() for name in first.values)
    assert not np.array_equal(first.split.evaluation, other.split.evaluation)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"new": np.ones((7, 3))}, "new has the wrong number of rows"),
        ({"labels": np.arange(3)}, "labels have the wrong length; wanted 480; got 3"),
        ({"labels": np.zeros(480)}, "labels name fewer than two classes"),
        ({"sources": np.zeros((480, 2))}, "sources have the wrong length"),
        ({"side": np.full((480, 2), np.nan)}, "side contains NaN"),
        ({"old": np.full((480, 4), np.inf)}, "old contains NaN or infinity"),
        ({"labels": np.arange(480)}, "no query has an item of its class"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    data = topics() | change
    with pytest.raises(BadInput, match=sentence):
        trying.run(data["old"], data["new"], side=data["side"], labels=data["labels"], sources=data["sources"], method="ridge")


def test_too_few_rows_are_refused():
    data = topics(classes=3, each=4)
    with pytest.raises(BadInput, match="too few rows for a trial; wanted at least 40; got 12"):
        tried(data, "labels")


# the page


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_answers_every_question_and_needs_nothing_else(better, tmp_path):
    files = []
    for i in range(int(better.given["rows"])):
        files.append(tmp_path / f"{i}.png")
    Image.new("L", (8, 8), 90).save(files[0])
    for file in files[1:]:
        file.write_bytes(files[0].read_bytes())
    for images in (None, files):
        page = Tags(trial_page.html(better, Costs(), images))
        assert all(question in page.text for question in words.QUESTIONS.values())
        assert better.given["digests"]["fitting old"] in page.text
        assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
        for _, attributes in page.tags:
            for name in ("src", "href"):
                value = attributes.get(name)
                assert value is None or value.startswith(("data:image/png;base64,", "#")), value
        assert any(tag == "img" for tag, _ in page.tags) == (images is not None)
    assert trial_page.html(better, Costs()) == trial_page.html(better, Costs())


def test_intervals_of_too_few_classes_are_said_to_hold_for_these_alone(better):
    few = tried(topics(classes=4, each=60), "labels")
    found = words.answers(few, Costs())
    assert few.few("all") == 4 and "hold for these 4 classes alone: 5 are needed to speak for others" in words.done(few)
    assert words.summary(few, found, "trial.html")[-2].endswith("bounds for these 4 classes alone")
    assert better.few("unseen") is None and "alone" not in words.done(better) + words.summary(better, found, "")[-2]
    vectors_alone = tried(topics(classes=4, each=60))
    assert vectors_alone.few("all") is None


def test_the_figure_leaves_out_whiskers_that_have_no_end():
    tables = {"all": {f"{row}_top1": Estimate(value, -np.inf, np.inf, 9, 2) for row, value in (("oo", 0.2), ("nh", 0.4), ("nn", 0.5))}}
    assert "0.400 [−∞, ∞]" in trial_page.recovery(tables, ("top1",))
    assert trial_answers.signed(tables["all"]["nn_top1"]) == "+0.500 [−∞, ∞]"


def test_a_hostile_label_stays_text():
    data = topics()
    data["labels"] = np.char.add(data["labels"], "<script>alert(1)</script>")
    text = trial_page.html(tried(data, "labels"), Costs())
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_page_without_labels_is_whole():
    text = trial_page.html(tried(topics(), "side"), Costs())
    assert "Labels are needed to say" in text
    assert "agree least with new/new" in text


def test_the_summary_has_ten_lines(better):
    lines = words.summary(better, words.answers(better, Costs()), "trial.html")
    assert len(lines) == 10
    assert lines[1].startswith("Upgrade?          YES: mAP 0.")
    assert all("\n" not in line for line in lines)


# pictures


def test_pictures_are_found_by_list_by_id_and_by_order(tmp_path):
    names = ["b/2.png", "a.png", "c.jpg"]
    for name in names:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).touch()
    (tmp_path / "d" / "notes.txt").touch()
    (tmp_path / "list.txt").write_text("d/a.png\nd/c.jpg\nd/a.png\n")

    def found(spec: str, ids: list[str] | None) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in trial_page.pictures(tmp_path / spec, 3, np.array(ids) if ids else None)]

    assert found("list.txt", None) == ["d/a.png", "d/c.jpg", "d/a.png"]
    assert found("d", ["c", "b/2.png", "2"]) == ["d/c.jpg", "d/b/2.png", "d/b/2.png"]
    assert found("d", None) == ["d/a.png", "d/b/2.png", "d/c.jpg"]
    for spec, rows, ids, sentence in (
        ("list.txt", 4, None, "wrong number of lines; wanted 4; got 3"),
        ("d", 4, None, "does not match the rows; wanted 4 image files; got 3"),
        ("d", 3, ["x", "y", "z"], "no image has the name of an id; got x"),
        ("nowhere", 3, None, "no such folder or list"),
    ):
        with pytest.raises(BadInput, match=sentence):
            trial_page.pictures(Path(tmp_path / spec), rows, np.array(ids) if ids else None)


def test_a_list_leads_to_its_own_folder_and_to_declared_roots(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "out.png").touch()
    (tmp_path / "d" / "list.txt").write_text(f"gone.png\n{tmp_path / 'out.png'}\n")
    with pytest.raises(BadInput, match=r"no declared root.*out\.png.*--root"):
        trial_page.pictures(tmp_path / "d" / "list.txt", 2, None)
    walked = trial_page.admitted(tmp_path / "d" / "list.txt", [tmp_path])
    assert trial_page.pictures(tmp_path / "d" / "list.txt", 2, None, walked)[1] == tmp_path / "out.png"


def test_what_becomes_a_link_before_the_page_is_drawn_is_not_shown(tmp_path):
    """Minutes of fitting lie between the look at the folder and the page."""
    for name in ("given/a.png", "elsewhere/secret.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (8, 8), 90).save(tmp_path / name)
    walked = trial_page.admitted(tmp_path / "given")
    (found,) = trial_page.pictures(tmp_path / "given", 1, np.array(["a"]), walked)
    assert page.thumbnail(found, walked)
    found.unlink()
    found.symlink_to(tmp_path / "elsewhere" / "secret.png")
    assert not page.thumbnail(found, walked)


def test_of_two_images_of_one_name_the_first_by_path_is_taken(tmp_path):
    for name in ("x.png", "a/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = trial_page.pictures(tmp_path, 2, np.array(["x", "x.png"]))
    assert found == [tmp_path / "a" / "x.png", tmp_path / "x.png"]


def test_with_and_without_side_information_the_recipe_is_the_same(monkeypatch):
    real, small = trying.forward.fit, FitSettings(method="contrastive", members=1, width=8, epochs=2, batch=32)
    ladder = iter([{"settings": small, "method": "contrastive"}])  # what the ladder might choose for the first fit
    monkeypatch.setattr(trying.forward, "fit", lambda *rows, **more: real(*rows, **(more | next(ladder, {}))))
    found = tried(topics(classes=12, each=10), "labels", "side", method="auto")
    assert found.h.about["settings"] == found.plain.about["settings"] and found.plain.about["settings"]["width"] == 8
    assert found.plain.side_dim == 0 < found.h.side_dim


def test_one_network_on_images_that_were_prepared_otherwise_is_called_so_and_is_no_upgrade(better):
    """Without anti-aliasing the same weights give vectors of cosine 0.94; networks of other weights are nothing of the kind."""
    data, rng = topics(), np.random.default_rng(1)
    norm = data["new"].std() * 0.36
    for middle in (0, 1000):  # a large mean makes any two vectors alike
        again = {"old": data["new"] + middle, "new": data["new"] + norm * rng.normal(size=data["new"].shape).astype(np.float32) + middle}
        assert 0.92 < agreement.kinship(again["old"], again["new"]) < 0.96
        upgrade = words.answers(tried(data | again, "labels"), Costs())[0]
        assert upgrade.outcome != "yes" and any("prepared otherwise" in sentence for sentence in upgrade.more)
    assert not any("prepared otherwise" in sentence for sentence in words.answers(better, Costs())[0].more)
    strangers = rng.normal(size=(len(data["new"]), 20)) + middle
    assert abs(agreement.kinship(data["new"] + middle, strangers)) < 0.1 and np.isnan(agreement.kinship(data["old"], data["new"]))
