import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.errors import BadInput
from fct.search import metrics

A_FEW = settings(deadline=None, max_examples=40)


def world(seed, *, metric, n=23, g=31, dim=4, classes=4):
    """Integer vectors of few values, so that ties abound. For cosine ±1 in four dimensions: norms and products are exact in float32."""
    rng = np.random.default_rng(seed)
    values = [-1, 1] if metric == "cosine" else [-2, -1, 1, 2]
    query, gallery = rng.choice(values, (n, dim)), rng.choice(values, (g, dim))
    names = np.array([f"class-{i}" for i in range(classes)])
    return query.astype(np.float32), gallery.astype(np.float32), rng.choice(names, n), rng.choice(names, g)


def agree(found, wanted):
    np.testing.assert_array_equal(found.rows, [row for row, *_ in wanted])
    np.testing.assert_array_equal(found.rank, [rank for _, rank, _, _ in wanted])
    np.testing.assert_allclose(found.ap, [ap for _, _, ap, _ in wanted], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.tied, [tied for *_, tied in wanted])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("seed", range(6))
def test_ranks_ap_and_ties_are_those_of_a_naive_walk(metric, seed):
    world_ = world(seed, metric=metric)
    wanted = oracles.per_query(*world_, metric=metric)
    assert any(tied for *_, tied in wanted) and any(rank > 1 for _, rank, _, _ in wanted)
    agree(metrics.per_query(*world_, metric=metric), wanted)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_ids", [True, False])
def test_self_matches_and_own_sources_are_hidden_and_empty_sources_hide_nothing(metric, seed, with_ids):
    vectors, _, labels, _ = world(seed, metric=metric, n=29)
    rng = np.random.default_rng(100 + seed)
    ids = np.array([f"item-{i}" for i in range(29)])
    sources = rng.choice(np.array(["pack-a", "pack-b", ""]), 29)
    extra = {"query_sources": sources, "gallery_sources": sources} | ({"query_ids": ids, "gallery_ids": ids} if with_ids else {})
    wanted = oracles.per_query(vectors, vectors, labels, labels, metric=metric, **extra)
    agree(metrics.per_query(vectors, vectors, labels, labels, metric=metric, **extra), wanted)
    assert wanted != oracles.per_query(vectors, vectors, labels, labels, metric=metric)


def test_sources_that_are_all_empty_change_nothing():
    query, gallery, of_query, of_gallery = world(0, metric="l2")
    empty = {"query_sources": np.full(len(query), ""), "gallery_sources": np.full(len(gallery), "")}
    agree(
        metrics.per_query(query, gallery, of_query, of_gallery, metric="l2", **empty),
        oracles.per_query(query, gallery, of_query, of_gallery, metric="l2"),
    )


def test_a_query_without_a_visible_positive_is_left_out():
    vectors = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    labels, ids = np.array(["a", "a", "alone"]), np.array(["1", "2", "3"])
    found = metrics.per_query(vectors, vectors, labels, labels, query_ids=ids, gallery_ids=ids)
    assert found.rows.tolist() == [0, 1]


@pytest.mark.parametrize("block", [1, 2, 7, 23, 1000])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_size_of_a_block_changes_nothing(block, metric):
    world_ = world(3, metric=metric)
    agree(metrics.per_query(*world_, metric=metric, block=block), oracles.per_query(*world_, metric=metric))


@A_FEW
@given(st.integers(0, 10_000), st.sampled_from(["cosine", "l2"]))
def test_the_order_of_the_gallery_changes_nothing(seed, metric):
    query, gallery, of_query, of_gallery = world(seed, metric=metric, n=6, g=12)
    order = np.random.default_rng(seed).permutation(len(gallery))
    try:
        first = metrics.per_query(query, gallery, of_query, of_gallery, metric=metric)
    except BadInput:
        return
    second = metrics.per_query(query, gallery[order], of_query, of_gallery[order], metric=metric)
    for name in ("rows", "rank", "ap", "tied"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@A_FEW
@given(st.integers(0, 10_000))
def test_a_wrong_item_far_away_changes_nothing_and_one_on_the_query_never_helps(seed):
    query, gallery, of_query, of_gallery = world(seed, metric="l2", n=4, g=10)
    try:
        first = metrics.per_query(query, gallery, of_query, of_gallery, metric="l2")
    except BadInput:
        return
    labels = np.append(of_gallery, "another class")
    far = metrics.per_query(query, np.vstack([gallery, np.full((1, 4), 1000)]), of_query, labels, metric="l2")
    near = metrics.per_query(query, np.vstack([gallery, query[:1]]), of_query, labels, metric="l2")
    np.testing.assert_array_equal(first.rank, far.rank)
    np.testing.assert_array_equal(first.ap, far.ap)
    np.testing.assert_array_equal(first.tied, far.tied)
    assert (near.rank >= first.rank).all() and (near.ap <= first.ap).all()


@A_FEW
@given(st.integers(0, 10_000))
def test_cosine_does_not_see_the_length_of_vectors(seed):
    rng = np.random.default_rng(seed)
    query, gallery, of_query, of_gallery = world(seed, metric="cosine", n=5, g=12)
    try:
        first = metrics.per_query(query, gallery, of_query, of_gallery)
    except BadInput:
        return
    scale = 2.0 ** rng.integers(-3, 4, (len(gallery), 1))  # powers of two: exact
    second = metrics.per_query(query * 8, gallery * scale.astype(np.float32), of_query, of_gallery)
    np.testing.assert_array_equal(first.rank, second.rank)
    np.testing.assert_array_equal(first.ap, second.ap)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dim", [7, 64, 129])
@pytest.mark.parametrize("g", [50, 333, 1001])
def test_a_wrong_item_with_the_very_vector_of_a_right_one_counts_before_it(metric, dim, g):
    rng = np.random.default_rng(dim)
    query, half = rng.normal(size=(20, dim)).astype(np.float32), rng.normal(size=(g, dim)).astype(np.float32)
    labels = np.array(["right"] * g + ["wrong"] * g)
    order = rng.permutation(2 * g)
    found = metrics.per_query(query, np.vstack([half, half])[order], np.full(20, "right"), labels[order], metric=metric)
    assert found.tied.all()
    np.testing.assert_array_equal(found.rank, 2)  # the twin of the best comes first
    assert (found.ap <= 0.5 + 1e-12).all() and (found.ap > 0.499).all()  # below where two pairs have the same score in float32


def test_the_example_of_the_docstring():
    query = np.array([[1.0, 0.0]])
    gallery = np.array([[np.cos(a), np.sin(a)] for a in np.arccos([0.9, 0.8, 0.7])])
    found = metrics.per_query(query, gallery, np.array(["a"]), np.array(["a", "b", "a"]))
    assert found.rank.tolist() == [1]
    assert found.ap[0] == pytest.approx((1 + 2 / 3) / 2)


def test_top_k_counts_ranks_up_to_k():
    found = metrics.PerQuery(np.arange(4), np.array([1, 2, 5, 6]), np.array([1, 0.5, 0.2, 0.1]), np.zeros(4, dtype=bool))
    assert found.top(1).tolist() == [1, 0, 0, 0]
    assert found.metric("top5").tolist() == [1, 1, 1, 0]
    assert found.metric("mAP") is found.ap


def test_numbers_serve_as_labels_and_ids_too_and_any_float_as_vectors():
    query, gallery, of_query, of_gallery = world(1, metric="l2")
    wanted = oracles.per_query(query, gallery, of_query, of_gallery, metric="l2")
    codes = {name: i for i, name in enumerate(np.unique(of_gallery))}
    numbers = [np.array([codes.get(name, 99) for name in names]) for names in (of_query, of_gallery)]
    for dtype in (np.float16, np.float64, np.int8):
        agree(metrics.per_query(query.astype(dtype), gallery.astype(dtype), *numbers, metric="l2"), wanted)


def test_bad_input_is_refused_by_name():
    query, gallery, of_query, of_gallery = world(0, metric="l2")
    broken = gallery.copy()
    broken[3, 1] = np.nan
    zero = query.copy()
    zero[0] = 0
    cases = [
        ((query, gallery, of_query, of_gallery), {"metric": "dot"}, "unknown metric"),
        ((query, broken, of_query, of_gallery), {}, "gallery contains NaN"),
        ((zero, gallery, of_query, of_gallery), {}, "query contains a zero-norm vector"),
        ((query[:, :3], gallery, of_query, of_gallery), {}, "query has the wrong dimension"),
        ((query[:0], gallery, of_query[:0], of_gallery), {}, "query is empty"),
        ((query, gallery, of_query[1:], of_gallery), {}, "labels have another length"),
        ((query, gallery, of_query, of_gallery[1:]), {}, "labels have another length"),
        ((query, gallery, of_query, of_gallery), {"query_ids": of_query}, "ids are given for one side only"),
        ((query, gallery, of_query, of_gallery), {"gallery_sources": of_gallery}, "sources are given for one side only"),
        ((query, gallery, of_query, of_gallery), {"query_ids": of_query[1:], "gallery_ids": of_gallery}, "ids have another length"),
        ((query, gallery, np.full(len(query), "x"), of_gallery), {}, "no query has an item of its class"),
        (
            (query, gallery, of_query, of_gallery),
            {"query_sources": np.full(len(query), "s"), "gallery_sources": np.full(len(gallery), "s")},
            "no query has an item",
        ),
    ]
    for arguments, options, sentence in cases:
        with pytest.raises(BadInput, match=sentence):
            metrics.per_query(*arguments, **options)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("scores", [64, 1000])
@pytest.mark.parametrize("hide", [False, True])
def test_a_gallery_of_many_blocks_gives_the_same_as_one(metric, scores, hide, monkeypatch):
    rng = np.random.default_rng(5)
    monkeypatch.setattr("fct.search.counting.SCORES", scores)
    for seed in range(3):
        query, gallery, of_query, of_gallery = world(seed, metric=metric, n=40, g=170)
        extra = {"query_ids": np.arange(40), "gallery_ids": np.arange(170)} if hide else {}
        extra |= {"query_sources": rng.choice(["a", "b", ""], 40), "gallery_sources": rng.choice(["a", "b", ""], 170)} if hide else {}
        wanted = oracles.per_query(query, gallery, of_query, of_gallery, metric=metric, **extra)
        agree(metrics.per_query(query, gallery, of_query, of_gallery, metric=metric, **extra), wanted)


def test_cosines_that_are_equal_in_exact_arithmetic_tie_although_floating_point_tells_them_apart():
    told_apart = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        query, gallery = rng.integers(1, 4, (10, 3)), rng.integers(1, 4, (40, 3))
        of_query, of_gallery = rng.choice(["a", "b"], 10), rng.choice(["a", "b"], 40)
        agree(
            metrics.per_query(query, gallery, of_query, of_gallery),
            oracles.per_query(query, gallery, of_query, of_gallery, metric="cosine"),
        )
        plain = oracles.plain_per_query(query, gallery, of_query, of_gallery)
        told_apart += plain != oracles.per_query(query, gallery, of_query, of_gallery, metric="cosine")
    assert told_apart > 0


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_on_real_numbers_it_agrees_with_a_naive_walk_in_float64(metric, dtype):
    rng = np.random.default_rng(8)
    query, gallery = rng.normal(size=(60, 48)).astype(dtype), rng.normal(size=(300, 48)).astype(dtype)
    gallery[150:] = gallery[rng.integers(0, 150, 150)]  # twins, of right and wrong labels
    of_query, of_gallery = rng.integers(0, 6, 60), rng.integers(0, 6, 300)
    found = metrics.per_query(query, gallery, of_query, of_gallery, metric=metric)
    wanted = oracles.plain_per_query(query, gallery, of_query, of_gallery, metric=metric)
    agree(found, wanted)
    assert found.tied.any()


def test_a_memory_map_is_read_in_blocks_and_never_as_a_whole(tmp_path, monkeypatch):
    class Counted(np.memmap):
        most = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            if isinstance(found, np.ndarray) and found.ndim == 2:
                Counted.most = max(Counted.most, len(found))
            return np.asarray(found)

        def __array__(self, *_, **__):
            raise AssertionError("the whole gallery was converted")

    monkeypatch.setattr("fct.search.counting.SCORES", 2048)
    monkeypatch.setattr("fct.arrays.flaws.NUMBERS", 800)
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(700, 8)).astype(np.float16)
    gallery.tofile(tmp_path / "g.bin")
    labels = rng.integers(0, 9, 720)
    mapped = Counted(tmp_path / "g.bin", dtype=np.float16, mode="r", shape=(700, 8))
    found = metrics.per_query(query, mapped, labels[:20], labels[20:])
    agree(found, oracles.plain_per_query(query, gallery, labels[:20], labels[20:]))
    assert 0 < Counted.most <= 100


def test_classes_may_be_as_large_as_the_gallery(monkeypatch):
    monkeypatch.setattr("fct.search.counting.COUNTERS", 500)  # one query at a time
    query, gallery, of_query, of_gallery = world(2, metric="l2", classes=1)
    agree(
        metrics.per_query(query, gallery, of_query, of_gallery, metric="l2"),
        oracles.per_query(query, gallery, of_query, of_gallery, metric="l2"),
    )


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_l2_ranks_do_not_depend_on_where_the_origin_is(offset):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, 300)
    rows = rng.normal(size=(8, 16))[labels] + rng.normal(size=(300, 16))
    near = metrics.per_query(rows[:60], rows[60:], labels[:60], labels[60:], metric="l2")
    far = metrics.per_query(rows[:60] + offset, rows[60:] + offset, labels[:60], labels[60:], metric="l2")
    assert np.array_equal(near.rank, far.rank) and not far.tied.any()
    np.testing.assert_allclose(near.ap, far.ap)


def test_ids_of_floats_texts_and_numbers_are_the_same_ids():
    query, gallery, of_query, of_gallery = world(3, metric="cosine")
    of_ids, in_ids = np.arange(len(query)), np.arange(len(gallery))
    wanted = metrics.per_query(query, gallery, of_query, of_gallery, query_ids=of_ids, gallery_ids=in_ids)
    for first, second in (
        (of_ids.astype(float), in_ids.astype(str)),
        (of_ids.astype("S8"), in_ids),
        (of_ids.astype("f4"), in_ids.astype("u8")),
    ):
        found = metrics.per_query(query, gallery, of_query, of_gallery, query_ids=first, gallery_ids=second)
        assert (found.rows == wanted.rows).all() and (found.ap == wanted.ap).all()
    with pytest.raises(BadInput, match="ids have no exact text"):
        metrics.per_query(query, gallery, of_query, of_gallery, query_ids=of_ids + 2.0**53, gallery_ids=in_ids)
