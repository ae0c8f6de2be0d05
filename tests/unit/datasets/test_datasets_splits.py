import numpy as np
import pytest

from fct.arrays import digests
from fct.datasets.items import GROUPS, Item
from fct.datasets.splits import BLOCK, check_leaks, clean, distinct, near_duplicates
from fct.errors import FctError

RNG_SEED = 3
OPTIONS = {"blank": True, "centred": False, "pool": 100, "canaries": 100}


def item(split, name, source, number=0):
    return Item(f"{source}:{name}-{number}-{split}", name, source, split, "MIT", f"images/{split}/{name}/{source}-{number}.png")


def marks(*places):
    """One row a place: ink in a single pixel, so that different places have cosine 0."""
    rows = np.zeros((len(places), 64), np.uint8)
    for row, place in enumerate(places):
        if place is not None:
            rows[row, place] = 255
    return rows


def run(items, inks, **options):
    return clean(items, inks, [digests.of_array(row) for row in inks], 0.95, **{**OPTIONS, **options})


@pytest.mark.parametrize("centred", [False, True])
def test_near_duplicates_agree_with_a_loop_over_all_pairs(centred):
    generator = np.random.default_rng(RNG_SEED)
    right = generator.integers(0, 256, (30, 16), dtype=np.uint8)
    left = np.concatenate(
        [right[:10] // 2 + generator.integers(0, 60, (10, 16), dtype=np.uint8), generator.integers(0, 256, (20, 16), dtype=np.uint8)]
    )
    expected = []
    for row in left.astype(float):
        cosines = []
        for other in right.astype(float):
            a, b = (row - row.mean(), other - other.mean()) if centred else (row, other)
            cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        expected.append(max(cosines) > 0.93)
    assert 0 < sum(expected) < len(expected)
    assert near_duplicates(left, right, 0.93, centred).tolist() == expected


def test_near_duplicates_are_found_in_every_block():
    generator = np.random.default_rng(RNG_SEED)
    many = generator.integers(0, 256, (2 * BLOCK + 5, 8), dtype=np.uint8)
    many[-1] = [255, 0, 0, 0, 0, 0, 0, 0]
    few = many[-1:].copy()
    assert near_duplicates(few, many, 0.9999).tolist() == [True]
    assert near_duplicates(many, few, 0.9999)[-1]


def test_of_twins_the_split_group_that_evaluates_keeps_its_image():
    order = ["gallery_unseen", "validation_unseen", "canary", "fitting", "train", "pool"]
    assert [GROUPS[split] for split in order] == list(dict.fromkeys(GROUPS.values()))
    for first in range(len(order) - 1):
        pair = [order[first], order[first + 1]]
        items, places = [], []
        for split in reversed(pair):  # the order of the rows must not matter
            for source in ("a", "b"):  # two sources, so that matches exist
                items.append(item(split, "x", source))
                places.append(1 if source == "a" else 2)
        items.append(item("train", "x", "c"))
        places.append(9)
        keep, removed = run(items, marks(*places))
        assert {it.split for it, kept in zip(items, keep, strict=True) if kept} - {"train"} == {pair[0]} - {"train"}
        assert removed["near_duplicate"] == {pair[1]: 2}


def test_equal_drawings_of_one_pack_and_class_are_kept_once_and_of_two_packs_twice():
    items = [item("train", "x", "a", 0), item("train", "x", "a", 1), item("train", "x", "b"), item("train", "y", "a")]
    keep, removed = run(items, marks(1, 1, 1, 1))
    assert keep.tolist() == [True, False, True, True]
    assert removed == {"exact_duplicate": {"train": 1}}


def test_blank_drawings_are_dropped_only_when_asked():
    items = [item("train", "x", "a"), item("train", "x", "b")]
    assert run(items, marks(None, 3))[0].tolist() == [False, True]
    assert run(items, marks(None, 3), blank=False)[0].tolist() == [True, True]


def test_images_of_one_colour_are_still_recognised_as_equal():
    items = [item("gallery", "x", "a"), item("gallery", "x", "b"), item("train", "x", "c"), item("train", "x", "d")]
    inks = np.stack([np.full(64, 7), np.arange(64), np.full(64, 7), np.arange(64)[::-1]]).astype(np.uint8)
    keep, removed = run(items, inks, centred=True)
    assert keep.tolist() == [True, True, False, True] and removed == {"near_duplicate": {"train": 1}}


def test_an_evaluated_class_with_a_single_source_is_dropped():
    items = [item("train", "x", "t"), item("gallery", "x", "a", 0), item("gallery", "x", "a", 1), item("train", "y", "t")]
    items += [item("gallery", "y", "a"), item("gallery", "y", "b")]
    keep, removed = run(items, marks(*range(6)))
    assert keep.tolist() == [True, False, False, True, True, True] and removed == {"no_match": {"gallery": 2}}


def test_without_sources_two_images_are_a_match():
    items = [item("train", "x", "", 0), item("gallery", "x", "", 1), item("gallery", "x", "", 2)]
    assert run(items, marks(0, 1, 2))[0].all()


def test_a_known_class_that_nothing_is_trained_on_is_dropped_but_an_unseen_one_is_not():
    items = [item(split, "x", source) for split in ("validation", "gallery_unseen") for source in ("a", "b")]
    keep, removed = run(items, marks(*range(4)))
    assert keep.tolist() == [False, False, True, True] and removed == {"class_not_trained": {"validation": 2}}


def test_the_pool_and_the_canaries_are_cut_to_size_in_their_order():
    items = [item("pool", f"p{number}", "a") for number in range(4)] + [item("canary", f"c{number}", "b") for number in range(4)]
    keep, removed = run(items, marks(0, 1, 2, 3, 4, 4, 5, 6), pool=3, canaries=2)
    assert keep.tolist() == [True, True, True, False, True, False, True, False]
    assert removed["not_taken"] == {"canary": 1, "pool": 1} and removed["exact_duplicate"] == {"canary": 1}


def test_distinct_rows_are_pairwise_different_and_the_first_ones():
    rows = np.random.default_rng(RNG_SEED).integers(0, 256, (60, 6), dtype=np.uint8)
    chosen = distinct(rows, 60, 0.8, False)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    for row in range(60):
        earlier = [other for other in chosen if other < row]
        assert (row in chosen) == all(cosines[row, other] <= 0.8 for other in earlier)
    assert 1 < len(chosen) < 60 and distinct(rows, 3, 0.8, False) == chosen[:3]


SOUND = [item("train", "x", "t"), item("pool", "z", "t"), item("fitting", "x", "f"), item("pool", "w", "f"), item("validation", "x", "v")]
SOUND += [
    item("canary", "q", "v"),
    item("gallery", "x", "g"),
    item("gallery_unseen", "new-thing", "g"),
    item("validation_unseen", "n", "v"),
]


def test_sound_splits_pass_the_leak_rules():
    check_leaks(SOUND, marks(*range(len(SOUND))), 0.95, False)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (item("pool", "new-thing", "t"), "an unseen class leaks"),
        (item("fitting", "thing-new", "f"), "an unseen class leaks"),
        (item("train", "newthings", "t"), "an unseen class leaks"),
        (item("canary", "new-thing", "v"), "an unseen class leaks"),
        (item("validation_unseen", "new-thing", "v"), "in two splits"),
        (item("train", "x", "g"), "a source is in two parts"),
        (item("fitting", "x", "t"), "a source is in two parts"),
        (item("pool", "y", "v"), "a source is in two parts"),
        (item("canary", "y", "g"), "a source is in two parts"),
    ],
)
def test_each_broken_leak_rule_is_named(extra, message):
    items = [*SOUND, extra]
    with pytest.raises(FctError, match=message):
        check_leaks(items, marks(*range(len(items))), 0.95, False)


@pytest.mark.parametrize("twin", range(1, len(SOUND)))
def test_a_twin_in_another_split_group_is_found_wherever_it_is(twin):
    places = list(range(len(SOUND)))
    places[twin] = 0
    if GROUPS[SOUND[twin].split] == GROUPS[SOUND[0].split]:
        check_leaks(SOUND, marks(*places), 0.95, False)
    else:
        with pytest.raises(FctError, match="near-duplicate"):
            check_leaks(SOUND, marks(*places), 0.95, False)
