import json

import numpy as np
import oracles
import pytest

import fct
from fct.errors import BadInput
from fct.search import retrieval


def world(seed=0, n=60, g=90, classes="abcd"):
    rng = np.random.default_rng(seed)
    of_query, of_gallery = rng.choice([*classes, "e"], n), rng.choice(list(classes), g)
    return rng.normal(size=(n, 6)), rng.normal(size=(g, 6)).astype(np.float16), of_query, of_gallery


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_number_is_that_of_a_naive_walk(metric):
    arrays = world()
    arrays[1][40:] = arrays[1][:50]  # ties
    found = fct.evaluate(*arrays, metric=metric, top_k=(1, 3, 10))
    wanted = oracles.plain_per_query(*arrays, metric=metric)
    assert found["mAP"] == pytest.approx(np.mean([ap for *_, ap, _ in wanted]), abs=1e-9)
    for k in (1, 3, 10):
        assert found[f"top{k}"] == np.mean([rank <= k for _, rank, *_ in wanted])
    assert 0 < found["tie_rate"] == np.mean([tied for *_, tied in wanted])
    assert found["n_queries"] == len(wanted) == np.sum(arrays[2] != "e") and found["n_gallery"] == 90
    assert found["seconds"] > 0 and 1e7 < found["peak_memory_bytes"] < 1e12
    assert "max_queries" not in found


def test_intervals_surround_their_values_and_are_those_of_subsets_of_the_classes():
    arrays = world(n=300, classes="abcdfgh")
    found = fct.evaluate(*arrays, top_k=(1, 2))
    wanted = oracles.plain_per_query(*arrays)
    means = oracles.subset_means([ap for *_, ap, _ in wanted], [arrays[2][row] for row, *_ in wanted])
    for name in ("top1", "top2", "mAP"):
        assert found[f"{name}_ci"][0] < found[name] < found[f"{name}_ci"][1]
    ends = oracles.typical_value(means, 0.05), -oracles.typical_value(sorted(-x for x in means), 0.05)
    assert found["mAP_ci"] == pytest.approx(ends)


def test_a_result_prints_itself_as_a_table_and_gives_plain_json():
    found = fct.evaluate(*world(n=300, classes="abcdfgh"), top_k=(1,))
    told = found.to_dict()
    assert json.loads(json.dumps(told)) == told and list(told)[:4] == ["top1", "top1_ci", "mAP", "mAP_ci"]
    lines = str(found).splitlines()
    assert lines[0].startswith(f"top1    {found['top1']:8.4f}   90 % interval {told['top1_ci'][0]:.4f} … ") and lines[1].startswith("mAP ")
    assert lines[2].startswith(f"{found.n_queries} queries with a positive, 90 gallery rows")
    assert str(fct.evaluate(*world(classes="abc"))).splitlines()[0].endswith("no interval: that needs queries of 5 classes")


def test_drawn_queries_are_said_and_measured_as_if_they_were_all():
    query, gallery, of_query, of_gallery = world(n=200)
    ids, other = np.arange(200), np.arange(90)
    found = fct.evaluate(query, gallery, of_query, of_gallery, query_ids=ids, gallery_ids=other, max_queries=50, seed=3)
    rows = retrieval.sample(200, 50, 3)
    assert len(set(rows.tolist())) == 50
    alone = fct.evaluate(query[rows], gallery, of_query[rows], of_gallery, query_ids=ids[rows], gallery_ids=other, seed=3)
    for name in ("top1", "mAP", "mAP_ci", "n_queries"):
        assert found[name] == alone[name]
    assert (found["max_queries"], found["n_queries_given"]) == (50, 200)
    assert retrieval.sample(200, 50, 4).tolist() != rows.tolist()
    assert "max_queries" not in fct.evaluate(query, gallery, of_query, of_gallery, max_queries=200).to_dict()


@pytest.mark.parametrize("dim", [2, 17, 4096])
def test_any_dimension_serves(dim):
    rng = np.random.default_rng(dim)
    labels = rng.integers(0, 3, 30)
    x = rng.normal(size=(3, dim))[labels] + 0.01 * rng.normal(size=(30, dim))
    ids = np.arange(30)
    assert fct.evaluate(x, x, labels, labels, query_ids=ids, gallery_ids=ids)["mAP"] == pytest.approx(1)


def test_bad_input_is_refused():
    arrays = world()
    for options, sentence in (
        ({"top_k": (0, 1)}, "top-k"),
        ({"top_k": ()}, "top-k"),
        ({"max_queries": 0}, "max_queries"),
        ({"metric": "dot"}, "unknown metric"),
        ({"max_queries": 5, "query_ids": np.arange(3), "gallery_ids": np.arange(90)}, "ids have another length"),
    ):
        with pytest.raises(BadInput, match=sentence):
            fct.evaluate(*arrays, **options)
    with pytest.raises(BadInput, match="labels have the wrong shape"):
        fct.evaluate(arrays[0], arrays[1], arrays[2][:, None], arrays[3])
    with pytest.raises(BadInput, match="no query has an item of its class"):
        fct.evaluate(arrays[0], arrays[1], np.full(60, "z"), arrays[3])
