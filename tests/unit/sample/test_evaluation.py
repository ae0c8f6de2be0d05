import json

import numpy as np
import oracles
import pytest

from fct.errors import BadInput
from fct.sample import evaluation
from fct.sample.folder import Sample


def sample(seed=0, n=100):
    """Small-integer vectors; known and unseen classes, two packs, an image whose class nobody else has."""
    rng = np.random.default_rng(seed)
    labels = np.array([f"class-{i % 10}" for i in range(n - 1)] + ["alone"])
    populations = np.where(labels > "class-4", "unseen", "known")
    sources = rng.choice(["pack-a", "pack-b", "pack-c", ""], n)
    centres = {name: rng.integers(-3, 4, 6) for name in sorted(set(labels))}

    def vectors(noise):
        found = np.array([centres[name] for name in labels]) + rng.integers(-noise, noise + 1, (n, 6))
        found[~found.any(axis=1)] = 1
        return found.astype(np.float32)

    ids = np.array([f"item-{i}" for i in range(n)])
    return Sample(ids, labels, sources, populations, vectors(4), np.zeros((n, 2), dtype=np.int8), vectors(2)), vectors(3)


def test_all_rows_are_paired_and_those_of_a_naive_search():
    s, carried = sample()
    found = evaluation.measure(s, carried, "l2")
    same = {"query_ids": s.ids, "gallery_ids": s.ids, "query_sources": s.sources, "gallery_sources": s.sources}
    for row, query, gallery in (("oo", s.old, s.old), ("nh", s.new, carried), ("nn", s.new, s.new)):
        wanted = oracles.per_query(query, gallery, s.labels, s.labels, metric="l2", **same)
        assert found["rows"].tolist() == [row for row, *_ in wanted]
        assert found[f"{row}_top1"].tolist() == [float(rank == 1) for _, rank, *_ in wanted]
        assert found[f"{row}_top5"].tolist() == [float(rank <= 5) for _, rank, *_ in wanted]
        np.testing.assert_allclose(found[f"{row}_mAP"], [ap for _, _, ap, _ in wanted])
        assert found[f"{row}_tied"].tolist() == [float(tied) for *_, tied in wanted]
    assert len(s.ids) - 1 not in found["rows"].tolist()
    assert found["labels"].tolist() == s.labels[found["rows"]].tolist()
    assert found["populations"].tolist() == s.populations[found["rows"]].tolist()


def test_old_is_the_champion_as_served_where_that_is_given():
    s, carried = sample()
    served = s.new[:, :4], carried[:, :4]
    found, plain = evaluation.measure(s, carried, "l2", served), evaluation.measure(s, carried, "l2")
    wanted = oracles.per_query(
        *served, s.labels, s.labels, metric="l2", query_ids=s.ids, gallery_ids=s.ids, query_sources=s.sources, gallery_sources=s.sources
    )
    np.testing.assert_allclose(found["oo_mAP"], [ap for _, _, ap, _ in wanted])
    for name in ("nh_mAP", "nn_mAP"):
        np.testing.assert_array_equal(found[name], plain[name])


def test_carrying_over_perfectly_is_as_good_as_new():
    s, _ = sample()
    found = evaluation.measure(s, s.new, "cosine")
    for name in evaluation.NAMES:
        np.testing.assert_array_equal(found[f"nh_{name}"], found[f"nn_{name}"])
    table = evaluation.summarise(found, seed=0)["known"]
    assert table["recovered"]["top1"]["value"] == 1 == table["recovered"]["mAP"]["lower"]


def test_the_summary_says_means_by_population_with_bounds_around_them():
    s, carried = sample()
    values = evaluation.measure(s, carried, "l2")
    table = evaluation.summarise(values, seed=0)
    assert sorted(table) == ["known", "unseen"]
    for population in table:
        rows = values["populations"] == population
        for row in evaluation.ROWS:
            for name in evaluation.NAMES:
                found = table[population][row][name]
                assert found["value"] == pytest.approx(values[f"{row}_{name}"][rows].mean(), abs=1e-6)
                assert found["lower"] <= found["value"] <= found["upper"] and found["n"] == rows.sum()
            assert table[population]["tie_rate"][row] == pytest.approx(values[f"{row}_tied"][rows].mean(), abs=1e-6)
        means = {name: values[f"{name}_mAP"][rows].mean() for name in evaluation.ROWS}
        assert table[population]["recovered"]["mAP"]["value"] == pytest.approx(
            (means["nh"] - means["oo"]) / (means["nn"] - means["oo"]), abs=1e-5
        )


def test_a_recovered_fraction_that_is_undefined_is_null():
    s, _ = sample()
    same = Sample(s.ids, s.labels, s.sources, s.populations, s.old, s.side, s.old)
    table = evaluation.summarise(evaluation.measure(same, s.old, "l2"), seed=0)
    assert table["known"]["recovered"]["top1"]["value"] is None


def test_what_is_written_is_read_back_and_the_same_bytes_for_the_same_seed(tmp_path):
    s, carried = sample()
    for name in ("a", "b"):
        summary = evaluation.write(s, carried, "l2", tmp_path / name, seed=0)
    values = evaluation.measure(s, carried, "l2")
    found = evaluation.load(tmp_path / "a")
    assert set(found) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == summary
    for name in ("metrics.json", "recovery.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_further_arrays_lie_beside_the_measured_ones_and_do_not_disturb_the_bootstrap(tmp_path):
    s, carried = sample()
    plain = evaluation.write(s, carried, "l2", tmp_path / "a", seed=0)
    beside = {"curve": np.zeros((3, 5)), "at": np.array(0.25), "name": np.array(["x"])}
    asked = []

    def further(values):
        asked.append(sorted(values))
        return beside

    assert evaluation.write(s, carried, "l2", tmp_path / "b", seed=0, further=further) == plain
    found, values = evaluation.load(tmp_path / "b"), evaluation.measure(s, carried, "l2")
    assert asked == [sorted(values)] and set(found) == set(values) | set(beside)
    assert evaluation.bootstrap(found, "known", 0).means == evaluation.bootstrap(values, "known", 0).means


def test_the_plot_file_has_one_line_a_number(tmp_path):
    s, carried = sample()
    summary = evaluation.write(s, carried, "l2", tmp_path / "a", seed=0)
    lines = (tmp_path / "a" / "recovery.csv").read_text().splitlines()
    assert lines[0] == "population,row,metric,value"
    rows = {tuple(line.split(",")[:3]): float(line.split(",")[3]) for line in lines[1:]}
    assert len(rows) == len(lines) - 1 == 2 * 3 * 3
    assert rows["known", "new/h(old)", "mAP"] == summary["known"]["nh"]["mAP"]["value"]


def test_carried_vectors_that_do_not_correspond_are_refused():
    s, carried = sample()
    broken = carried.copy()
    broken[5] = np.nan
    for wrong, sentence in ((carried[1:], "number of rows"), (carried[:, 1:], "dimension"), (broken, "NaN or infinity; in row 5")):
        with pytest.raises(BadInput, match=f"transformed sample .*{sentence}"):
            evaluation.measure(s, wrong, "cosine")


def test_a_population_without_queries_is_refused():
    s, carried = sample()
    with pytest.raises(BadInput, match="no query of this population; got other"):
        evaluation.bootstrap(evaluation.measure(s, carried, "l2"), "other", 0)


def test_missing_and_damaged_measurements_are_bad_input(tmp_path):
    s, carried = sample()
    evaluation.write(s, carried, "l2", tmp_path / "a", seed=0)
    path = tmp_path / "a" / "per_query.npz"
    whole = path.read_bytes()
    for content in (None, b"", b"hello", whole[: len(whole) // 2]):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInput, match=r"measurements cannot be read.*run the evaluate step"):
            evaluation.load(tmp_path / "a")
