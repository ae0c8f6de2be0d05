import numpy as np
import pytest

from fct.errors import BadInput, NotPermitted
from fct.gallery.index import Searcher, open_index, recall
from fct.gallery.indexing import build, save
from fct.gallery.settings import IndexSettings

SMALL = {"kind": "auto", "flat_below": 1000, "hnsw_m": 16, "ef_construction": 100, "ef_search": 64}
SMALL |= {"ivf_lists": 16, "ivf_probes": 4, "device": "auto", "seed": 0}
CONTENT = "c" * 64


def settings(**change):
    return IndexSettings(**(SMALL | change))


def rows(n=600, dim=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) * np.linspace(0.5, 3, n, dtype=np.float32)[:, None]


def names(n):
    return np.array([f"id {i * 7919 % n:05d}" for i in range(n)])


def oracle(vectors, query, metric):
    """Scores of all rows, one at a time."""
    if metric == "l2":
        return np.array([-float(((query - row) ** 2).sum()) for row in vectors])
    return np.array([float(query @ row) / float(np.linalg.norm(query) * np.linalg.norm(row)) for row in vectors])


def searcher(vectors, metric="cosine", **change):
    return Searcher(build(vectors, metric, settings(**change)), names(len(vectors)), metric)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_flat_index_answers_as_a_loop_over_all_rows(metric):
    vectors, queries = rows(80), rows(6, seed=1)
    ids, scores = searcher(vectors, metric, kind="flat").search(queries, 5)
    for i, query in enumerate(queries):
        wanted = oracle(vectors, query, metric)
        best = np.argsort(-wanted)[:5]
        assert ids[i].tolist() == names(80)[best].tolist()
        np.testing.assert_allclose(scores[i], wanted[best], rtol=1e-4, atol=1e-4)


def test_a_flat_index_built_twice_is_the_same(tmp_path):
    for name in ("a", "b"):
        save(build(rows(), "cosine", settings()), names(600), tmp_path / name, CONTENT, settings(), "cosine")
    assert (tmp_path / "a" / "index.faiss").read_bytes() == (tmp_path / "b" / "index.faiss").read_bytes()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_search_hides_masked_ids(kind, metric):
    vectors, queries = rows(), rows(4, seed=1)
    index = searcher(vectors, metric, kind=kind)
    first, _ = index.search(queries, 10)
    hidden = set(first[:, :3].ravel().tolist()) | {"never there"}
    then, scores = index.search(queries, 10, exclude=hidden)
    assert not hidden & set(then.ravel().tolist())
    assert (then != "").all() and (np.diff(scores, axis=1) <= 0).all()
    if kind == "flat":
        left = ~np.isin(names(600), list(hidden))
        for i, query in enumerate(queries):
            assert then[i].tolist() == names(600)[left][np.argsort(-oracle(vectors[left], query, metric))[:10]].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_where_nearly_all_rows_are_masked_the_rest_is_found_and_padded(kind, metric):
    index = searcher(rows(), metric, kind=kind)
    left = names(600)[[5, 300, 599]]
    ids, scores = index.search(rows(7, seed=1), 5, exclude=set(names(600)) - set(left))
    for got, score in zip(ids, scores, strict=True):
        assert set(got[:3]) == set(left) and got[3:].tolist() == ["", ""]
        assert np.isfinite(score[:3]).all() and (score[3:] == -np.inf).all()
    ids, scores = index.search(rows(2, seed=1), 3, exclude=names(600))
    assert (ids == "").all() and (scores == -np.inf).all()


def test_more_results_than_rows_are_padded():
    ids, scores = searcher(rows(3)).search(rows(1, seed=1), 5)
    assert sorted(ids[0, :3]) == sorted(names(3)) and ids[0, 3:].tolist() == ["", ""] and (scores[0, 3:] == -np.inf).all()


@pytest.mark.parametrize(
    ("queries", "k", "says"),
    [
        (rows(2, 11), 3, "dimension"),
        (rows(2) * np.nan, 3, "NaN"),
        (rows(2) * 0, 3, "zero-norm"),
        (rows(2), 0, "k ≥ 1"),
        (rows(2)[0], 3, "shape"),
    ],
)
def test_an_unusable_query_is_refused(queries, k, says):
    with pytest.raises(BadInput, match=says):
        searcher(rows()).search(queries, k)


def test_unusable_rows_settings_and_metrics_are_refused():
    for vectors, metric in ((rows() * np.nan, "cosine"), (rows(0), "cosine"), (rows(), "dot")):
        with pytest.raises(BadInput):
            build(vectors, metric, settings())
    for change in ({"kind": "tree"}, {"hnsw_m": 1}, {"ivf_probes": 0}, {"device": "tpu"}):
        with pytest.raises(BadInput):
            settings(**change)
    with pytest.raises(BadInput, match="twice"):
        Searcher(build(rows(3), "l2", settings()), ["a", "b", "a"], "l2")
    with pytest.raises(BadInput, match="length"):
        Searcher(build(rows(3), "l2", settings()), ["a", "b"], "l2")


def test_auto_is_exact_for_a_small_space_and_a_graph_for_a_large_one():
    assert settings(flat_below=601).kind_for(600) == "flat" and settings(flat_below=600).kind_for(600) == "hnsw"
    assert type(build(rows(), "cosine", settings(flat_below=600))).__name__ == "IndexHNSWFlat"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_saved_index_answers_as_before(tmp_path, kind, metric):
    vectors, how = rows(), settings(kind=kind)
    index = build(vectors, metric, how)
    about = save(index, names(600), tmp_path / "index", CONTENT, how, metric)
    opened = open_index(tmp_path / "index", metric, CONTENT, about)
    for one, other in zip(Searcher(index, names(600), metric).search(rows(5, seed=1), 7), opened.search(rows(5, seed=1), 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ids.npy", "index", "index.faiss", "index.json"]
    assert about["kind"] == kind and about["rows"] == 600


def test_the_identity_of_an_index_follows_content_and_build_but_not_its_bytes(tmp_path):
    def identity(content=CONTENT, **change):
        how = settings(**change)
        return save(build(rows(), "l2", how), names(600), tmp_path / "index", content, how, "l2")["identity"]

    assert identity(kind="hnsw") == identity(kind="hnsw")
    assert len({identity(kind="hnsw"), identity(kind="flat"), identity("d" * 64, kind="hnsw"), identity(kind="hnsw", hnsw_m=8)}) == 4


@pytest.mark.parametrize("name", ["index.faiss", "ids.npy"])
def test_a_truncated_altered_or_missing_file_is_refused(tmp_path, name):
    save(build(rows(), "cosine", settings()), names(600), tmp_path, CONTENT, settings(), "cosine")
    file = tmp_path / name
    whole = file.read_bytes()
    for spoiled in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(spoiled)
        with pytest.raises(NotPermitted, match=f"altered.*{name}"):
            open_index(tmp_path, "cosine", CONTENT)
    file.unlink()
    with pytest.raises(NotPermitted, match=f"missing.*{name}"):
        open_index(tmp_path, "cosine", CONTENT)


def test_an_index_of_another_space_or_metric_or_record_is_refused(tmp_path):
    about = save(build(rows(), "cosine", settings()), names(600), tmp_path, CONTENT, settings(), "cosine")
    with pytest.raises(NotPermitted, match="another space"):
        open_index(tmp_path, "cosine", "d" * 64)
    with pytest.raises(BadInput, match="another metric"):
        open_index(tmp_path, "l2", CONTENT)
    with pytest.raises(NotPermitted, match="recorded"):
        open_index(tmp_path, "cosine", CONTENT, about | {"faiss": "0"})
    with pytest.raises(BadInput, match="missing"):
        open_index(tmp_path / "nowhere", "cosine", CONTENT)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_recall_is_one_for_exact_search_and_below_for_a_starved_index(metric):
    vectors, queries = rows(2000, 24), rows(40, 24, seed=1)
    assert (recall(searcher(vectors, metric, kind="flat"), vectors, queries) == 1).all()
    starved = recall(searcher(vectors, metric, kind="ivf", ivf_lists=40, ivf_probes=1), vectors, queries)
    wider = recall(searcher(vectors, metric, kind="ivf", ivf_lists=40, ivf_probes=20), vectors, queries)
    graph = recall(searcher(vectors, metric, kind="hnsw", ef_search=200), vectors, queries)
    assert starved.shape == (40,) and starved.mean() < 0.7 < wider.mean() and graph.mean() > 0.95


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_recall_counts_as_a_loop_does(metric):
    vectors, queries = rows(300), rows(9, seed=1)
    index = searcher(vectors, metric, kind="ivf", ivf_lists=7, ivf_probes=1)
    ids, _ = index.search(queries, 10)
    wanted = [len(set(ids[i]) & set(names(300)[np.argsort(-oracle(vectors, q, metric))[:10]])) / 10 for i, q in enumerate(queries)]
    np.testing.assert_allclose(recall(index, vectors, queries), wanted)


def test_a_tie_in_score_is_no_miss():
    vectors = np.repeat(rows(5), 20, axis=0)
    index = searcher(vectors, kind="flat")
    assert (recall(index, vectors, vectors[::20], k=10) == 1).all()
    reordered = searcher(vectors[::-1].copy(), kind="flat")
    reordered.ids = reordered.ids[::-1]
    assert (recall(reordered, vectors[::-1], vectors[::20], k=10) == 1).all()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_distances_far_from_the_origin_are_as_exact_as_near_it(kind, offset, tmp_path):
    vectors = (np.random.default_rng(0).normal(size=(2000, 64)) + offset).astype(np.float32)
    queries = vectors[:64] + np.float32(0.01)
    index = build(vectors, "l2", settings(kind=kind, ivf_probes=16))
    save(index, names(2000), tmp_path / "i", CONTENT, settings(kind=kind), "l2")
    for one in (Searcher(index, names(2000), "l2"), open_index(tmp_path / "i", "l2", CONTENT)):
        ids, scores = one.search(queries, 3)
        exact = ((queries.astype(np.float64)[:, None] - vectors.astype(np.float64)[None]) ** 2).sum(axis=2)
        assert (ids[:, 0] == names(2000)[:64]).all()
        np.testing.assert_allclose(-scores[:, 1], np.sort(exact, axis=1)[:, 1], rtol=1e-3)
        np.testing.assert_allclose(one.vector(5), vectors[5], atol=1e-3)
        assert recall(one, vectors, queries).mean() > 0.95
        assert recall(one, np.roll(vectors, 1, axis=0), queries).mean() < 0.1, "rows under wrong ids"


def test_small_vectors_are_no_ties(tmp_path):
    vectors = rows(500, 16) * np.float32(1e-4)
    one = searcher(vectors, "l2", kind="flat")
    assert recall(one, vectors, vectors[:20]).mean() == 1 and recall(one, np.roll(vectors, 1, axis=0), vectors[:20]).mean() < 0.3


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("exact_below", [0, 50_000])
def test_filters_cost_no_recall(kind, exact_below):
    """20,000 rows in 40 clumps: where few may be answers, a walk that stops early finds others."""
    rng = np.random.default_rng(0)
    clump = rng.integers(0, 40, 20_000)
    vectors = (rng.normal(size=(40, 48))[clump] + 0.6 * rng.normal(size=(20_000, 48))).astype(np.float32)
    index = build(vectors, "cosine", settings(kind=kind, ivf_lists=64, ivf_probes=16, hnsw_m=32, ef_construction=100, ef_search=128))
    one = Searcher(index, names(20_000), "cosine", exact_below)
    queries = vectors[rng.integers(0, 20_000, 30)] + np.float32(0.05)
    # no walk finds its way to other clumps: that takes looking at each row
    for keep in (rng.random(20_000) < 0.02, rng.random(20_000) < 0.5, *([clump >= 35] if exact_below else [])):
        assert recall(one, vectors, queries, 10, keep).mean() >= 0.99, (keep.mean(), exact_below)


@pytest.mark.parametrize("share", [0.0005, 0.3, 1.0])
def test_recall_with_a_filter_is_that_of_a_loop(share):
    vectors, queries = rows(400), rows(5, seed=1)
    keep = np.random.default_rng(2).random(400) < share
    keep[7] = True
    one = searcher(vectors, kind="hnsw", ef_search=4, hnsw_m=4)
    found, _ = one.search(queries, 10, exclude=names(400)[~keep])
    for query, ids, value in zip(queries, found, recall(one, vectors, queries, 10, keep), strict=True):
        scores = np.where(keep, oracle(vectors, query, "cosine"), -np.inf)
        best = set(names(400)[np.argsort(-scores)[: min(10, int(keep.sum()))]].tolist())
        assert value == pytest.approx(len(best & set(ids.tolist())) / len(best))
