from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gates_sample import SETTINGS, further
from markdown_it import MarkdownIt
from PIL import Image

from fct.errors import BadInput
from fct.sample import evaluation
from fct.sample.folder import Sample
from registry.report import Review, figures, html, markdown, search_picture
from registry.report.description import MOST, code, escape
from registry.report.page import ANSWERS, FLIPS, answers, flips, least_certain, thumbnail
from registry.report.review import curve_rows, curves, gate_rows, interval, metric_rows, number, per_class, plain
from registry.verdicts.declaration import declared
from registry.verdicts.measurement import Measurement
from registry.verdicts.measuring import of_sample
from registry.verdicts.names import GATES

Answer = tuple[Path | None, str, bool]
DIGEST = hashlib.sha256(b"a verdict").hexdigest()
EVIL = "<script>alert(1)</script>|`x`**b** [l](http://evil.example)\n# h \"q\" 'a' &amp; <img src=x onerror=y> \u202e"


def sample_of(
    classes: int = 16, each: int = 8, *, noise: float = 0.55, seed: int = 3, names: Callable[[int], str] = "class-{}".format
) -> tuple[Sample, np.ndarray]:
    """Clustered vectors: the old space is noisier than the new one, h(old) lies between. Three quarters of the classes are known."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(classes), each)
    centres = rng.normal(size=(classes, 16))
    new = centres[numbers] + noise * 1.6 * rng.normal(size=(len(numbers), 16))
    old = new[:, :14] + noise * 1.6 * rng.normal(size=(len(numbers), 14))
    carried = new + noise * 1.3 * rng.normal(size=new.shape)
    sample = Sample(
        ids=np.array([f"item-{i:04d}" for i in range(len(numbers))]),
        labels=np.array([names(int(i)) for i in numbers]),
        sources=np.array([f"pack-{i % 4}" for i in range(len(numbers))]),
        populations=np.where(numbers < classes * 3 // 4, "known", "unseen"),
        old=old.astype(np.float32),
        side=np.zeros((len(numbers), 1), np.int8),
        new=new.astype(np.float32),
    )
    return sample, carried.astype(np.float32)


def gates_of(outcome: str) -> list[dict[str, Any]]:
    return [
        Measurement("known top-1", 0.12, 0.08, 0.16, 400, 0.0, strict=True, outcome="passed", gate="worth_it").to_json(),
        Measurement("known ρ top-1", 0.93, 0.85, 1.0, 400, 0.75, outcome="passed", gate="recovered").to_json(),
        Measurement(
            "unseen mAP",
            0.01,
            -0.04,
            0.06,
            90,
            -0.02,
            strict=True,
            outcome=outcome,
            note="ρ 0.61; about 300 more queries would settle it",
            gate="recovered_unseen",
        ).to_json(),
        Measurement("items native to v1", 0.04, 0.04, 0.04, 900, 0.1, test="value", most=True, outcome="passed", gate="coverage").to_json(),
        Measurement(
            "largest difference",
            0.0,
            0.0,
            0.0,
            4,
            1e-6,
            test="value",
            most=True,
            outcome="passed",
            note="same fingerprint",
            gate="new_intact",
        ).to_json(),
        Measurement(
            "",
            float("nan"),
            float("nan"),
            float("nan"),
            0,
            float("nan"),
            applies=False,
            outcome="not applicable",
            note="no canaries",
            gate="canary",
        ).to_json(),
    ]


def review_of(
    outcome: str = "passed",
    *,
    made: tuple[Sample, np.ndarray] | None = None,
    image_of: Callable[[str], Path | None] = lambda item: None,
    gallery: int = 300,
    **verdict: Any,
) -> Review:
    sample, carried = made or sample_of()
    values = evaluation.measure(sample, carried, "cosine")
    rng = np.random.default_rng(5)
    sigma = rng.gamma(4.0, 0.05, gallery)
    far = sigma > np.quantile(sigma, 0.96)
    sigma[: gallery // 10] = np.nan
    content = {
        "model": "icons",
        "version": 2,
        "from": 1,
        "outcome": outcome,
        "digest": DIGEST,
        "gates": gates_of(outcome),
        "metrics": evaluation.summarise(values, 0),
        "problems": [] if outcome == "passed" else [f"recovered_unseen (unseen mAP) is {outcome}: 0.010, wanted > -0.02."],
        "covers": {"embedder": "ab" * 32, "forward transformation": "cd" * 32, "rows": ["ef" * 32, "01" * 32]},
    }
    return Review(
        verdict=content | verdict,
        values=values,
        sample=sample,
        carried=carried,
        metric="cosine",
        sigma=sigma,
        far=far,
        gallery_ids=np.array([f"shelf-{i:04d}" for i in range(gallery)]),
        image_of=image_of,
        costs={
            "fit_s": 41.25,
            "transform_us_per_item": 3.5,
            "native_us_per_item": 700.0,
            "side_bytes_per_item": 256,
            "gallery_rows": 20204,
            "gallery_images_read": 0,
        },
        provenance={"seed": "0", "fct": "0.1.0", "params.yaml": "9f" * 32},
        approve_value=f"<your name> {DIGEST}",
    )


def first_release() -> Review:
    gates = [
        Measurement(
            "", float("nan"), float("nan"), float("nan"), 0, float("nan"), outcome="not applicable", note="a first release", gate=gate
        ).to_json()
        for gate in ("worth_it", "coverage")
    ]
    review = review_of(version=1, metrics={}, gates=gates)
    return replace(
        review, verdict=review.verdict | {"from": None}, values=None, sample=None, carried=None, sigma=None, far=None, gallery_ids=None
    )


@pytest.fixture(scope="module")
def review() -> Review:
    return review_of()


@cache
def drawn(outcome: str = "passed") -> str:
    """The page of ``review_of(outcome)``, drawn once."""
    return html(review_of(outcome))


@cache
def drawn_first() -> str:
    return html(first_release())


@cache
def drawn_hostile() -> str:
    return html(hostile())


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "use"):
            return
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def rendered(text: str) -> list[Any]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def shown(tokens: list[Any]) -> str:
    return " ".join(child.content for token in tokens if token.type == "inline" for child in token.children)


# numbers in words


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.5125, "0.512"),
        (-0.02, "−0.020"),
        (1.0, "1.000"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1e-6, "1.0e−06"),
        (None, "—"),
        (float("nan"), "—"),
        (float("inf"), "—"),
        (1e300, "1.00e+300"),
    ],
)
def test_numbers_have_three_digits_and_never_hide_a_small_one(x: float | None, text: str) -> None:
    assert number(x) == text


def test_an_interval_says_what_is_undefined() -> None:
    assert interval({"value": 0.93, "lower": 0.85, "upper": 1.0}, 2) == "0.93 [0.85, 1.00]"
    assert interval({"value": 0.93, "lower": None, "upper": 1.0}, 2) == "0.93 [−∞, 1.00]"
    assert interval({"value": 0.93, "lower": None, "upper": None}, 2) == "0.93 [−∞, ∞]"
    assert interval({"value": None, "lower": None, "upper": None}) == "undefined"


def test_a_review_of_few_classes_shows_values_without_whiskers() -> None:
    metrics = {"known": evaluation.summarise(few_classes(), 0)["known"]}
    assert metrics["known"]["oo"]["top1"]["lower"] is None
    assert "[−∞, ∞]" in figures.recovery(metrics)


def few_classes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = {f"{row}_{name}": rng.random(40) for row in evaluation.ROWS for name in (*evaluation.NAMES, "tied")}
    return values | {"labels": np.arange(40) % 2, "populations": np.full(40, "known")}


def test_plain_text_is_one_printable_line() -> None:
    assert plain(" a\n\tb\x00\u202e ") == "a b��"
    assert plain("abcdef", 4) == "abc…"
    assert len(plain("x" * 10_000)) == 2000


def test_the_metric_rows_are_those_of_the_summary(review: Review) -> None:
    rows = metric_rows(review)
    assert [(row["population"], row["metric"]) for row in rows] == [
        (f"{p} classes", m) for p in ("known", "unseen") for m in ("top-1", "mAP", "top-5")
    ]
    known = review.verdict["metrics"]["known"]
    assert rows[0]["nh"].startswith(f"{known['nh']['top1']['value']:.3f} [") and rows[0]["n"] == known["oo"]["top1"]["n"]
    assert rows[2]["rho"] == "" and rows[1]["rho"].startswith(f"{known['recovered']['mAP']['value']:.2f} [")


def test_every_gate_has_its_title_in_words_and_its_own_bound(review: Review) -> None:
    rows = {row["gate"]: row for row in gate_rows(review)}
    assert all(row["title"] == declared()[gate].title for gate, row in rows.items())
    assert (
        rows["recovered"]["value"] == "0.93" and rows["recovered"]["interval"] == "[0.85, 1.00]" and rows["recovered"]["bound"] == "≥ 0.75"
    )
    assert rows["new_intact"]["bound"] == "≤ 1.0e−06" and rows["new_intact"]["interval"] == ""
    assert rows["canary"]["value"] == "—" and rows["canary"]["bound"] == ""


def test_classes_that_lose_most_come_first(review: Review) -> None:
    assert review.values is not None
    rows = per_class(review)
    assert len(rows) == 16 and sum(row["n"] for row in rows) == len(review.values["rows"])
    losses = [row["nh"] - row["oo"] for row in rows]
    assert losses == sorted(losses)
    mask = review.values["labels"] == rows[0]["label"]
    assert rows[0]["oo"] == pytest.approx(float(review.values["oo_top1"][mask].mean()))


# lost queries


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_pictured_answers_agree_with_the_measured_ranks(metric: str) -> None:
    sample, carried = sample_of(seed=11)
    values = evaluation.measure(sample, carried, metric)
    for side, query, gallery in (("oo", sample.old, sample.old), ("nh", sample.new, carried)):
        found = answers(sample, query, gallery, metric, values["rows"])
        for place, (row, rows) in enumerate(zip(values["rows"], found, strict=True)):
            assert row not in rows and not (sample.sources[rows] == sample.sources[row]).any()
            right = sample.labels[rows] == sample.labels[row]
            assert right[0] == bool(values[f"{side}_top1"][place])
            assert right.any() == bool(values[f"{side}_top5"][place])


def test_of_tied_answers_the_wrong_one_is_shown_first() -> None:
    same = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    sample = Sample(np.array(list("abcd")), np.array(["x", "x", "y", "y"]), np.array([""] * 4), np.array(["known"] * 4), same, same, same)
    assert answers(sample, same, same, "cosine", np.array([0]))[0].tolist() == [2, 1, 3]


def test_lost_queries_are_counted_and_the_most_harmed_are_shown(review: Review) -> None:
    assert review.values is not None
    found = flips(review)
    v = review.values
    lost = [i for i in range(len(v["rows"])) if v["oo_top1"][i] == 1 and v["nh_top1"][i] == 0]
    assert found["lost"] == len(lost) > 0 and found["queries"] == len(v["rows"])
    assert found["gained"] - found["lost"] == pytest.approx(float((v["nh_top1"] - v["oo_top1"]).sum()))
    assert len(found["shown"]) == min(FLIPS, len(lost))
    worst = sorted(lost, key=lambda i: v["nh_mAP"][i] - v["oo_mAP"][i])[: len(found["shown"])]
    assert [flip["row"] for flip in found["shown"]] == [int(v["rows"][i]) for i in worst]
    assert all(len(flip["old"]) == len(flip["new"]) == ANSWERS for flip in found["shown"])


def test_without_a_lost_query_the_page_says_none(review: Review) -> None:
    sample, _ = sample_of()
    page = Page(html(review_of(made=(replace(sample, old=sample.new), sample.new))))
    assert "0 of 128 queries (0.000) are right today and wrong" in page.text
    assert not any(attributes.get("class") == "flip" for _, attributes in page.tags)


def test_the_champion_as_served_is_what_old_old_pictures_show(review: Review) -> None:
    assert review.sample is not None and review.carried is not None
    served = review.sample.old[:, :9], review.sample.old[:, :9]
    values = evaluation.measure(review.sample, review.carried, "cosine", served)
    known = flips(replace(review, values=values, served=served))
    assert known["shown"] and all(review.sample.labels[flip["old"][0]] == review.sample.labels[flip["row"]] for flip in known["shown"])
    unknown = replace(review, values=values)
    assert all(len(flip["old"]) == 0 and len(flip["new"]) == ANSWERS for flip in flips(unknown)["shown"]), "answers that were not measured"
    assert "not at hand" in Page(html(unknown)).text


def test_each_forward_transformation_has_its_tables_and_chart(review: Review) -> None:
    metrics = review.verdict["metrics"]
    several = replace(review, verdict=review.verdict | {"metrics": {"v10→v11": metrics, "v2→v11": metrics}})
    page = Page(html(several))
    assert page.open == [] and sum(tag == "svg" for tag, _ in page.tags) == 4
    assert page.text.index("known classes v2→v11") < page.text.index("known classes v10→v11") and "Lost queries (v2→v11)" in page.text
    words = shown(rendered(markdown(several)))
    assert "unseen classes v2→v11" in words and "unseen classes v10→v11" in words and len(markdown(several)) < MOST


# the page


@pytest.mark.parametrize("outcome", ["passed", "refused", "inconclusive"])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(outcome: str) -> None:
    text = drawn(outcome)
    page = Page(text)
    assert page.open == [] and [tag for tag, _ in page.tags].count("svg") == 3
    assert not re.search(r"https?:|url\((?!#)|@import|<script|<link|<iframe", text)
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value is not None and value.startswith(("#", "data:image/"))
    policy = next(
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'")


def test_every_colour_of_the_charts_is_one_that_the_page_defines() -> None:
    text = drawn()
    charts = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    used = set(re.findall(r"var\(--([a-z-]+)\)", text))
    light, dark = re.findall(r":root \{\s*(?:color-scheme: light dark;)?\s*(--page.*?)\}", text, re.DOTALL)[:2]
    names = set(re.findall(r"--([a-z-]+):", light))
    assert names == set(re.findall(r"--([a-z-]+):", dark)) and used - {"mark", "tone", "tint"} <= names
    assert not re.search(r"#[0-9a-f]{6}", charts), "a colour that would not follow light and dark"


def test_the_same_review_gives_the_same_bytes() -> None:
    assert html(review_of()) == drawn() and markdown(review_of()) == markdown(review_of())


def test_ids_of_the_page_are_unique_enough_for_its_links() -> None:
    text = drawn()
    for target in set(re.findall(r'(?:href="|url\()#([^")]+)', text)):
        assert f'id="{target}"' in text


def test_the_page_shows_verdict_gates_metrics_and_how_to_decide(review: Review) -> None:
    page = Page(drawn()).text
    assert "icons version 2 passed its gates" in page and "upgrade from version 1" in page
    for gate in gate_rows(review):
        assert gate["title"] in page and gate["note"] in page
    for row in metric_rows(review):
        assert row["oo"] in page and row["nh"] in page and row["nn"] in page and row["rho"] in page
    assert f"<your name> {DIGEST}" in page and "fct approve 2 --by NAME --why TEXT" in page and "fct reject 2 --by NAME --why TEXT" in page
    assert DIGEST in page and "ab" * 32 in page and "01" * 32 in page and "9f" * 32 in page
    assert "0.005 of its time" in page and "20,204" in page
    assert "%" not in page


def test_a_refused_version_offers_no_approval_and_says_what_stands_in_the_way() -> None:
    for outcome in ("refused", "inconclusive"):
        judged = review_of(outcome)
        for text in (Page(drawn(outcome)).text, shown(rendered(markdown(judged)))):
            assert judged.verdict["problems"][0] in text and "What stands in the way" in text
            assert "fct approve" not in text and judged.approve_value not in text and "fct reject 2" in text


def test_a_first_release_has_nothing_to_compare_and_still_a_report() -> None:
    page = Page(drawn_first())
    assert page.open == [] and "no champion to compare with" in page.text and "No uncertainty predicted" in page.text
    assert "Recovery" not in page.text and "Lost queries" not in page.text
    assert not any(tag == "svg" for tag, _ in page.tags)
    text = markdown(first_release())
    assert "a first release" in text and "carried-over" not in text and "fct approve 1" in text


@pytest.mark.parametrize("population", ["known", "unseen"])
def test_one_population_alone_is_enough(population: str) -> None:
    sample, carried = sample_of()
    page = Page(html(review_of(made=(replace(sample, populations=np.full(len(sample.ids), population)), carried))))
    assert page.open == [] and f"{population} classes" in page.text


def test_no_predicted_uncertainty_is_said_and_unpredicted_rows_are_not_ranked(review: Review) -> None:
    assert review.sigma is not None
    ranked = least_certain(review)
    assert [sigma for _, sigma, _ in ranked] == [
        number(x) for x in sorted(review.sigma[np.isfinite(review.sigma)].tolist(), reverse=True)[:10]
    ]
    assert all(far for _, _, far in ranked) and "within" not in [far for *_, far in ranked]
    assert "for 270 of 300 gallery items; for the others there is no uncertainty predicted" in Page(drawn()).text
    blind = replace(review, sigma=np.full(300, np.nan))
    assert least_certain(blind) == [] and "No uncertainty predicted for the 300 gallery items" in Page(html(blind)).text
    assert "No uncertainty predicted" in Page(html(replace(review, sigma=None, far=None, gallery_ids=None))).text
    assert least_certain(replace(review, gallery_ids=None))[0][0].startswith("row ")
    Page(html(replace(review, sigma=np.full(300, 0.25))))


# pictures in the page


def test_pictures_are_inlined_and_a_missing_or_broken_one_is_its_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 255, (300, 200, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    files = [tmp_path / "grey.png", tmp_path / "photo.jpg", tmp_path / "broken.png", tmp_path / "absent.png", None]
    page = Page(html(review_of(image_of=lambda item: files[int(item[-4:]) % len(files)])))
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    figures = sum(tag == "figure" for tag, _ in page.tags)
    assert 0 < len(pictures) < figures
    for source in pictures:
        assert source is not None
        image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert max(image.size) <= 64
    assert thumbnail(tmp_path / "broken.png") == thumbnail(tmp_path / "absent.png") == thumbnail(None) == ""
    assert re.search(r"item-\d{4}", page.text)


def test_a_transparent_image_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    image = Image.open(io.BytesIO(base64.b64decode(thumbnail(tmp_path / "clear.png").partition(",")[2])))
    assert np.asarray(image.convert("L")).min() > 250


# hostile names


def hostile() -> Review:
    made = sample_of(names=lambda i: f"{i} {EVIL}")
    made = replace(made[0], ids=np.array([f"{i}{EVIL}" for i in range(len(made[0].ids))])), made[1]
    gates = [*gates_of("inconclusive"), Measurement(EVIL, 0.1, 0.1, 0.1, 3, 0.2, outcome="refused", note=EVIL, gate=EVIL).to_json()]
    found = review_of(
        "inconclusive",
        made=made,
        model=EVIL,
        gates=gates,
        problems=[EVIL, f"- {EVIL}", f"1. {EVIL}", f"# {EVIL}"],
        covers={EVIL: EVIL, "list": [EVIL], "map": {EVIL: {EVIL: 1}}},
    )
    return replace(
        found,
        costs=found.costs | {EVIL: EVIL},
        provenance={EVIL: EVIL},
        gallery_ids=np.array([EVIL] * 300),
        approve_value=f"{EVIL} {DIGEST}",
    )


def test_names_cannot_bring_markup_into_the_page() -> None:
    calm, page = Page(drawn("inconclusive")), Page(drawn_hostile())
    assert page.open == []
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in calm.tags}, "a name made a tag"
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script>alert(1)</script>|`x`**b**" in page.text and "\u202e" not in page.text


def test_names_cannot_break_the_description() -> None:
    found = hostile()
    text = markdown(found)
    tokens = rendered(text)
    assert not [
        token
        for token in tokens
        if token.type in ("html_block", "fence", "code_block", "heading_open", "ordered_list_open", "blockquote_open", "hr")
    ]
    inner = [child for token in tokens if token.type == "inline" for child in token.children]
    assert {child.type for child in inner} <= {"text", "strong_open", "strong_close", "code_inline", "softbreak", "text_special"}
    assert sum(child.type == "strong_open" for child in inner) == 1, "only the verdict is bold"
    assert [token.level for token in tokens if token.type == "bullet_list_open"] == [0, 0], "no list in a list"
    words = shown(tokens)
    assert "<script>alert(1)</script>|`x`**b** [l](http://evil.example)" in words and "http://" not in text.replace(
        code(found.approve_value), ""
    )
    widths: list[list[int]] = []
    for token in tokens:
        if token.type == "table_open":
            widths.append([])
        if token.type == "tr_open":
            widths[-1].append(0)
        if token.type in ("td_open", "th_open"):
            widths[-1][-1] += 1
    assert len(widths) == 2 and all(len(set(table)) == 1 for table in widths)
    assert len(widths[1]) == 1 + len(found.verdict["gates"])
    cells = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "td_open"]
    gates = np.array(cells[-widths[1][0] * (len(widths[1]) - 1) :]).reshape(-1, widths[1][0])
    assert [cell.partition(" ")[2] for cell in gates[:, 4]] == [gate["outcome"] for gate in found.verdict["gates"]], (
        "a pipe in a name moved a cell"
    )


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        "- list",
        "+ list",
        "12. list",
        "3) list",
        "# head",
        "===",
        "www.evil.example",
        "a@b.example",
        "~~~",
        "&lt;",
        "\\|",
        "$x$",
        "plain words",
    ],
)
def test_escaped_text_means_itself(text: str) -> None:
    for prefix in ("", "- "):
        tokens = rendered(prefix + escape(text, 2000))
        inner = [child for token in tokens if token.type == "inline" for child in token.children]
        assert {child.type for child in inner} <= {"text", "text_special"}
        assert "".join(child.content for child in inner) == plain(text)


@pytest.mark.parametrize("text", ["<your name> 3fa9c01b22aa", "a `b` c", "``", "`", "x``y`"])
def test_a_value_to_copy_is_shown_exactly(text: str) -> None:
    (inner,) = [token for token in rendered(f"- to {code(text)}") if token.type == "inline"]
    assert [child.content for child in inner.children if child.type == "code_inline"] == [text]


@pytest.mark.parametrize("most", [0, 1, 7, 60])
@pytest.mark.parametrize("text", ["|" * 500, "word " * 100, EVIL * 5, "&"])
def test_escaped_text_keeps_its_limit_and_no_reference_is_cut(text: str, most: int) -> None:
    found = escape(text, most)
    assert len(found) <= most and re.sub(r"&#\d+;", "", found).count("&") == 0


@pytest.mark.parametrize("filler", ["word ", "|", "`", "<b>", "長", "-"])
@pytest.mark.parametrize("count", [1, 40, 400])
def test_the_description_stays_short_whatever_is_written(filler: str, count: int) -> None:
    long = filler * 3000
    base = review_of("passed" if count == 40 else "refused")
    gates = [
        Measurement(long, -1.25e7, -1e300, 1e300, 9, 0.5, outcome="refused" if i % 2 else "passed", note=long, gate=gate).to_json()
        for i in range(count)
        for gate in (*GATES, long)
    ]
    metrics = base.verdict["metrics"] | {f"{i}{long}": base.verdict["metrics"]["known"] for i in range(min(count, 40))}
    verdict = base.verdict | {
        "model": long,
        "gates": gates,
        "problems": [long] * count,
        "covers": {f"{i}{long}": long for i in range(count)},
        "metrics": metrics,
    }
    review = replace(base, verdict=verdict, costs={f"{long}{i}": long for i in range(count)}, provenance={long: long}, approve_value=long)
    text = markdown(review)
    assert len(text) < MOST
    assert ("fct approve 2" in text) == (count == 40) and "fct reject 2" in text and "report.html in the run of this upgrade" in text
    if count == 40:
        assert f"<your name> {DIGEST}" in text, "a value cut short would approve nothing"
    assert count == 1 or "more measurements" in text


def test_the_description_says_it_all_when_there_is_room(review: Review) -> None:
    text = markdown(review)
    words = shown(rendered(text))
    assert len(text) < MOST and "more measurements" not in words
    for row in metric_rows(review):
        if row["metric"] != "top-5":
            assert row["oo"] in words and row["rho"] in words
    for row in gate_rows(review):
        assert row["title"] in words and row["note"] in words
    assert "fitting h 41.2 s" in words and "embedder abababababab" in words and "version 1 serves unchanged" in words
    assert words.startswith(" ") or "icons version 2 passed its gates" in words
    assert "%" not in text and "report.html in the run of this upgrade" in text


def every_gate(review: Review) -> list[dict[str, Any]]:
    """Measurements of all gates with notes as long as real ones are."""
    assert review.values is not None
    v = review.values | further(review.values)
    v["threshold_after"] = 40 * v["threshold_before"] / 10
    found = [replace(m, outcome=m.outcome or "passed") for m in of_sample(v, SETTINGS, seed=0)]
    others = [gate for gate in GATES if gate not in {m.gate for m in found}]
    note = "about 35 more queries would settle it, if they are like the ones that were asked until now"
    found += [
        Measurement(f"known {name}", 0.123, 0.101, 0.145, 1620, 0.1, outcome="passed", note=note, gate=gate)
        for gate in others
        for name in ("top-1", "mAP")
    ]
    return [m.to_json() for m in found]


def test_a_verdict_of_all_gates_fits_with_a_row_for_each_and_the_new_threshold(review: Review) -> None:
    full = replace(review, verdict=review.verdict | {"gates": every_gate(review)})
    text = markdown(full)
    words = shown(rendered(text))
    assert len(text) < MOST and len(full.verdict["gates"]) > 25
    for gate in declared().values():
        assert gate.title in words
    sentence = "If an application compares scores with a threshold: set the threshold to 0.7700 with the promotion"
    assert sentence in words and "more measurements" in words
    page = Page(html(full)).text
    assert sentence in page and sentence not in Page(drawn()).text
    assert all(plain(gate["note"], 400) in page for gate in full.verdict["gates"])


def test_a_gate_in_one_row_shows_its_worst_measurement(review: Review) -> None:
    gates = every_gate(review)
    worst = next(gate for gate in gates if gate["gate"] == "no_dip" and gate["subject"] == "unseen mAP")
    worst |= {"outcome": "refused", "value": -0.4321}
    words = shown(rendered(markdown(replace(review, verdict=review.verdict | {"gates": gates}))))
    assert "unseen mAP (and 3 more)" in words and "−0.432" in words and "✗ refused" in words


# backfilling curves


def with_curves(review: Review) -> Review:
    assert review.values is not None
    return replace(review, values=review.values | further(review.values))


def test_the_curves_are_means_over_the_queries_of_a_population(review: Review) -> None:
    found = with_curves(review)
    v = found.values
    assert v is not None
    means = curves(found)
    assert list(means) == ["known", "unseen"] and curves(review) == {}
    for population in means:
        for name in ("shipped_top1", "random_mAP", "oracle_mAP"):
            wanted = [np.mean(row[v["curve_populations"] == population]) for row in v[f"curve_{name}"]]
            np.testing.assert_allclose(means[population][name], wanted)
    rows = curve_rows(means)
    assert [(row["population"], row["metric"]) for row in rows] == [
        (f"{p} classes", m) for p in ("known", "unseen") for m in ("top-1", "mAP")
    ]
    assert rows[1]["random"] == number(float(means["known"]["random_mAP"].mean())) and rows[1]["start"] == number(
        float(means["known"]["shipped_mAP"][0])
    )


def test_the_page_draws_the_backfilling_curves_and_says_them_aloud(review: Review) -> None:
    found = with_curves(review)
    text = html(found)
    page = Page(text)
    assert page.open == [] and sum(tag == "svg" for tag, _ in page.tags) == 4 and "Backfilling" in page.text
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    spoken = next(label for label in labels if label and label.startswith("Backfilling curves"))
    for row in curve_rows(curves(found)):
        assert f"from {row['start']} to {row['end']}, mean {row['shipped']}" in spoken
        assert f"mean {row['oracle']}" in spoken and row["random"] in page.text
    assert text == html(with_curves(review_of())) and "Backfilling" not in Page(drawn()).text
    charts = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}", charts) and not re.search(r"https?:", text)


def test_curves_of_one_population_and_level_ones_are_drawn(review: Review) -> None:
    level = {f"{order}_{name}": np.full(11, 0.5) for order in ("shipped", "random", "oracle") for name in ("top1", "mAP")}
    assert figures.backfilling({"unseen": level}).startswith("<svg") and figures.backfilling({}) == ""


# the picture of one search


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32), np.uint8)).save(tmp_path / "query.png")
    return tmp_path / "query.png"


def test_right_answers_are_framed_green_and_wrong_ones_red(drawing: Path, tmp_path: Path) -> None:
    good: list[Answer] = [(drawing, "anchor", True)] * 5
    bad: list[Answer] = [(drawing, "alarm", False)] * 5

    def colours(old: list[Answer], new: list[Answer]) -> np.ndarray:
        search_picture(drawing, old, new, tmp_path / "out.png", "one search", "before", "after")
        pixels = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
        half = 98 + (len(pixels) - 98) // 2 - 10  # between the rows
        return np.array(
            [
                [(part == np.array(colour)).all(axis=2).sum() for colour in ((21, 128, 61), (198, 40, 40))]
                for part in (pixels[:half], pixels[half:])
            ]
        )

    first, second = colours(bad, good), colours(good, bad)
    assert first[0, 0] == 0 and first[1, 1] == 0 and min(first[0, 1], first[1, 0]) > 5000
    assert second[0, 1] == 0 and second[1, 0] == 0 and min(second[0, 0], second[1, 1]) > 5000


def test_a_picture_bears_missing_images_long_names_and_too_many_answers(drawing: Path, tmp_path: Path) -> None:
    many: list[Answer] = [(None, EVIL, False), (tmp_path / "absent.png", "長" * 300, True), *[(drawing, "", True)] * 9]
    search_picture(drawing, many, [], tmp_path / "a.png", EVIL, "x" * 500, "")
    search_picture(drawing, many[:5], [], tmp_path / "b.png", EVIL, "x" * 500, "")
    size = Image.open(tmp_path / "a.png").size
    search_picture(drawing, [], [], tmp_path / "c.png", "", "", "")
    assert Image.open(tmp_path / "c.png").size == size
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes(), "answers after the fifth are left out"


def test_a_query_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.png"):
        search_picture(tmp_path / "absent.png", [], [], tmp_path / "out.png", "", "", "")
    assert list(tmp_path.iterdir()) == []
