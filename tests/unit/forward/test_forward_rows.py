import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.arrays import digests
from fct.errors import BadInput
from fct.forward import inputs
from fct.forward.rows import BLOCK, held_out, pairs_of, parts


def some(n=50):
    rng = np.random.default_rng(0)
    return pairs_of(rng.normal(size=(n, 3)), rng.integers(-9, 9, (n, 2)).astype(np.int8), rng.normal(size=(n, 4)).astype(np.float16))


@pytest.mark.parametrize("size", [1, 7, 50, 80])
def test_blocks_joined_are_the_rows_in_use(size):
    data = some()
    for chosen in (np.arange(50), np.arange(10, 30), np.array([3, 9, 11, 40]), np.array([5])):
        part = data.take(chosen)
        x, y = (np.concatenate(parts) for parts in zip(*part.blocks(size), strict=True))
        np.testing.assert_array_equal(x, np.hstack([data.old, data.side])[chosen])
        np.testing.assert_array_equal(y, data.new[chosen])
        assert x.dtype == y.dtype == np.float64 and len(part) == len(chosen)


def test_taking_twice_is_taking_of_what_was_taken():
    data = some()
    once = data.take(np.arange(50) % 2 == 0)
    np.testing.assert_array_equal(once.take(np.array([1, 3])).rows, [2, 6])
    old, side, new, labels = once.gather(np.array([1, 3]))
    np.testing.assert_array_equal(old, data.old[[2, 6]].astype(np.float32))
    assert (old.dtype, side.dtype, new.dtype) == (np.float32, np.int8, np.float16) and (labels == -1).all()
    assert data.nbytes == 50 * (3 * 4 + 2 * 1 + 4 * 2) and BLOCK > 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80), st.integers(0, 50), st.integers(1, 5))
def test_no_source_is_split(names, seed, count):
    sources = np.array(names)
    held = held_out(sources, 0.2, None, seed)
    assert not set(sources[held]) & set(sources[~held]) and (~held).any()
    assert held.any() == (len(set(names)) > 1)
    part = parts(sources, count, seed)
    assert all(len(set(part[sources == name])) == 1 for name in set(names)) and set(part) == set(range(min(count, len(set(names)))))


@pytest.mark.parametrize(("rows", "wanted"), [(1, 0), (2, 1), (100, 5), (1000, 50)])
def test_the_asked_share_is_held_out(rows, wanted):
    assert held_out(np.arange(rows), 0.05, None, 0).sum() == wanted


def test_not_more_rows_than_asked_are_held_out_where_sources_allow():
    assert held_out(np.arange(1000), 0.5, 30, 0).sum() == 30
    assert held_out(np.repeat(np.arange(20), 50), 0.5, 120, 0).sum() == 100
    assert held_out(np.repeat(np.arange(20), 50), 0.5, 10, 0).sum() == 50  # one source at least


@pytest.mark.parametrize("array", [np.arange(12).reshape(4, 3), np.array(["a", "bc"]), np.zeros((0, 3)), np.arange(9)[::2]])
def test_the_blocked_digest_is_the_digest(array, monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 3)
    assert inputs.of_array(array) == digests.of_array(array)


def check(**changes):
    given = {
        "old": np.arange(1.0, 19).reshape(6, 3),
        "new": np.arange(1.0, 13).reshape(6, 2),
        "side": None,
        "labels": None,
        "sources": None,
        "head": None,
    }
    given |= {"pool_old": None, "pool_side": None, "pool_new": None} | changes
    return inputs.check(**given)


HEAD = (np.ones((4, 2)), np.zeros(4))


@pytest.mark.parametrize(
    ("labels", "head", "wanted"),
    [
        ([7, 7, 900, -1, -5, 3], None, [[0, 1], [2], [5]]),
        (["b", "a", "", "b", "c", ""], None, [[0, 3], [1], [4]]),
        ([1.0, 2.0, 1.0, 2.0, -1.0, 5.0], None, [[0, 2], [1, 3], [5]]),
        ([3, 0, -1, 3, 0, 0], HEAD, [[1, 4, 5], [0, 3]]),
    ],
)
def test_labels_are_numbered_and_unknown_ones_are_minus_one(labels, head, wanted):
    found = check(labels=labels, head=head).pairs.labels
    groups = sorted(np.flatnonzero(found == value).tolist() for value in np.unique(found[found >= 0]))
    assert groups == sorted(wanted)
    if head is not None:
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": np.ones((6, 1))}, "labels have the wrong length"),
        ({"labels": [0.5] * 6}, "labels have the wrong dtype"),
        ({"labels": [float("nan")] * 6}, "labels have the wrong dtype"),
        ({"labels": ["a"] * 6, "head": HEAD}, "numbers of its rows"),
        ({"labels": [4] * 6, "head": HEAD}, "a label has no row in the head; wanted 0 … 3 or −1; got 4"),
        ({"labels": [-2] * 6, "head": HEAD}, "got -2"),
        ({"sources": [1] * 5}, "sources have the wrong length; wanted 6; got 5"),
        ({"head": (np.ones((4, 2)), np.full(4, np.nan))}, "head bias contains NaN"),
        ({"old": np.ones((1, 3)), "new": np.ones((1, 2))}, "too few pairs"),
        ({"pool_side": np.ones((6, 2))}, "pool is incomplete"),
    ],
)
def test_what_does_not_correspond_is_refused(changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        check(**changes)


def test_what_is_missing_gets_a_sentence_and_few_pairs_a_warning():
    found = check()
    assert [word for word in ("--side", "--labels", "--head", "--pool-old") if any(word in sentence for sentence in found.missing)] == [
        "--side",
        "--labels",
        "--head",
        "--pool-old",
    ]
    assert not found.warnings
    whole = check(
        side=np.arange(18).reshape(6, 3),
        labels=[0, 1] * 3,
        head=HEAD,
        pool_old=np.ones((1, 3)),
        pool_side=np.ones((1, 3)),
        pool_new=np.ones((1, 2)),
    )
    assert not whole.missing and not whole.fewer_than_dimensions
    few = check(side=np.arange(24).reshape(6, 4))
    assert few.fewer_than_dimensions and "fewer pairs (6) than dimensions (7)" in few.warnings[0]


def test_rows_without_a_source_are_no_source_together():
    rng = np.random.default_rng(0)
    sources = np.array(["a", "", "", "a", "b", ""])
    old, new = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    found = inputs.check(old, new, None, None, sources, None, None, None, None).sources
    assert found[0] == found[3] and len(set(found.tolist())) == 5
