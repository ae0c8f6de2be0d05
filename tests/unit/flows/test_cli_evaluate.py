"""``fct evaluate`` and ``fct curve`` on files: the entry point that the command runs, in this process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import lance
import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main

EVALUATE = ["query", "gallery", "query-labels", "gallery-labels"]
CURVE = ["query", "transformed", "native", "sigma", "query-labels", "gallery-labels"]


def run(*args: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err, code, before = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["fct", *args]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Arrays, each saved as ``name.npy`` in the folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    of_query, of_gallery = rng.choice(list("abcdef"), 40), rng.choice(list("abcdef"), 70)
    centres = {name: rng.normal(size=5) for name in "abcdef"}
    native = np.array([centres[name] for name in of_gallery]) + 0.8 * rng.normal(size=(70, 5))
    off = rng.uniform(0, 2, 70)
    found = {
        "query": (np.array([centres[name] for name in of_query]) + 0.8 * rng.normal(size=(40, 5))).astype("f4"),
        "native": native.astype("f4"),
        "transformed": (native + off[:, None] * rng.normal(size=(70, 5))).astype("f2"),
        "sigma": off.astype("f4"),
        "query-labels": of_query,
        "gallery-labels": of_gallery,
        "query-ids": np.arange(40),
        "gallery-ids": np.arange(70) + 30,
        "query-sources": rng.choice(["s", "t", ""], 40),
        "gallery-sources": rng.choice(["s", "t", ""], 70),
    }
    found["gallery"] = found["native"]
    for name, array in found.items():
        np.save(f"{name}.npy", array)
    return found


def options(names: list[str], **instead: str) -> list[str]:
    """``--name name.npy`` for each, or what stands instead."""
    return [part for name in names for part in (f"--{name}", instead.get(name.replace("-", "_"), f"{name}.npy"))]


def test_with_fewer_than_five_classes_there_is_no_interval(files: dict[str, np.ndarray]) -> None:
    for name in ("query-labels", "gallery-labels"):
        np.save(f"{name}.npy", np.where(files[name] > "b", "other", files[name]))
    for command, names, key in (("evaluate", EVALUATE, "mAP_ci"), ("curve", CURVE, "auc_mAP_gain_ci")):
        found = json.loads(run(command, *options(names), "--json")[1])
        assert found[key] == [None, None]
        assert "no interval: that needs queries of 5 classes" in run(command, *options(names))[1]


HIDE = ["query-ids", "gallery-ids", "query-sources", "gallery-sources"]


@pytest.mark.parametrize("hide", [[], HIDE])
def test_evaluate_prints_one_json_object_with_the_numbers_of_a_naive_walk(files: dict[str, np.ndarray], hide: list[str]) -> None:
    code, out, err = run("evaluate", *options(EVALUATE + hide), "--json", "--metric", "l2", "--top-k", "1,2")
    found = json.loads(out)
    assert code == 0 and "{" not in err
    arrays = [files[name] for name in EVALUATE]
    scaled = [np.rint(1000 * array.astype("f8")).astype(int) for array in arrays[:2]]  # for the exact oracle, which hides
    extra = {name.replace("-", "_"): files[name] for name in hide}
    wanted = oracles.per_query(*scaled, *arrays[2:], metric="l2", **extra)
    assert found["mAP"] == pytest.approx(np.mean([ap for *_, ap, _ in wanted]), abs=1e-3)
    assert found["top2"] == pytest.approx(np.mean([rank <= 2 for _, rank, *_ in wanted]))
    keys = {"top1", "top1_ci", "top2", "top2_ci", "mAP", "mAP_ci", "n_queries", "n_gallery", "tie_rate", "seconds", "peak_memory_bytes"}
    keys |= {"classes_of_one", "in_gallery", "warnings"}
    assert set(found) == keys and found["n_queries"] == len(wanted) and found["n_gallery"] == 70


def test_evaluate_reads_columns_of_tables(files: dict[str, np.ndarray]) -> None:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(files["gallery"].ravel()), 5)
    table = pa.table({"vector": rows, "label": pa.array(files["gallery-labels"].tolist())})
    pq.write_table(table, "g.parquet")
    lance.write_dataset(table, "g.lance")
    plain = json.loads(run("evaluate", *options(EVALUATE), "--json")[1])
    for kind in ("parquet", "lance"):
        given = options(EVALUATE, gallery=f"g.{kind}::vector", gallery_labels=f"g.{kind}::label")
        found = json.loads(run("evaluate", *given, "--json")[1])
        assert found["mAP"] == plain["mAP"] and found["top1"] == plain["top1"]


def test_evaluate_for_people_is_a_small_table_and_says_that_queries_were_drawn(files: dict[str, np.ndarray]) -> None:
    code, out, err = run("evaluate", *options(EVALUATE), "--max-queries", "10")
    assert code == 0 and "{" not in out
    assert all(word in out for word in ("top1", "top5", "mAP", "interval", "70 gallery rows"))
    assert "10 of 40 queries, drawn at random" in err
    assert json.loads(run("evaluate", *options(EVALUATE), "--max-queries", "10", "--json")[1])["n_queries_given"] == 40


def test_curve_prints_one_json_object_whose_ends_are_what_evaluate_says(files: dict[str, np.ndarray]) -> None:
    code, out, _ = run("curve", *options(CURVE + HIDE), "--steps", "5", "--json")
    found = json.loads(out)
    assert code == 0 and found["beta"] == [0, 0.25, 0.5, 0.75, 1]
    for place, name in ((0, "transformed"), (-1, "native")):
        end = json.loads(run("evaluate", *options(EVALUATE + HIDE, gallery=f"{name}.npy"), "--json")[1])
        for metric in ("top1", "mAP"):
            assert found[metric][place] == pytest.approx(end[metric]) == pytest.approx(found["random"][metric][place])
    for metric in ("top1", "mAP"):
        assert found[f"auc_{metric}"] == pytest.approx(np.mean(found[metric]))
        assert found[f"dip_{metric}"] == pytest.approx(min(found[metric]) - min(found[metric][0], found[metric][-1]))
        gain = found[f"auc_{metric}"] - found["random"][f"auc_{metric}"]
        low, high = found[f"auc_{metric}_gain_ci"]
        assert found[f"auc_{metric}_gain"] == pytest.approx(gain) and low <= gain <= high
    assert found["auc_mAP_gain"] > 0  # sigma is the true size of the error
    assert found["n_queries"] <= 40 and found["n_gallery"] == 70 and found["seconds"] > 0


def test_curve_is_the_same_for_the_same_seed_and_its_random_part_is_not_for_another(files: dict[str, np.ndarray]) -> None:
    first, again, other = (json.loads(run("curve", *options(CURVE), "--json", "--seed", seed)[1]) for seed in "001")
    for found in (first, again, other):
        del found["seconds"]
    assert first == again and first["mAP"] == other["mAP"] and first["random"]["mAP"] != other["random"]["mAP"]


def test_curve_for_people_is_a_row_a_share_and_one_for_the_area(files: dict[str, np.ndarray]) -> None:
    code, out, err = run("curve", *options(CURVE), "--steps", "3", "--random", "2", "--max-queries", "20")
    lines = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines[:5]] == ["β", "0.00", "0.50", "1.00", "AUC"]
    assert "2 random orders" in out and "dip" in out and "20 of 40 queries" in err
    drawn = json.loads(run("curve", *options(CURVE), "--max-queries", "20", "--json")[1])
    assert drawn["n_queries"] == 20 and (drawn["max_queries"], drawn["n_queries_given"]) == (20, 40)


def change(files: dict[str, np.ndarray], name: str, how: str) -> None:
    """Save a damaged ``name.npy``."""
    array = files[name].copy()
    if how == "short":
        array = array[:-1]
    elif how == "narrow":
        array = array[:, :-1]
    elif how == "empty":
        array = array[:0]
    elif how == "flat":
        array = array[:, 0]
    elif how == "other":
        array = np.full(len(array), "z")
    elif how == "texts":
        array = np.full(array.shape, "x")
    else:
        array[3] = {"nan": np.nan, "inf": np.inf, "zero": 0}[how]
    np.save(f"{name}.npy", array)


VECTOR = ["nan", "inf", "zero", "narrow", "short", "empty", "flat", "texts"]
BAD = [("evaluate", name, how) for name in ("query", "gallery") for how in VECTOR]
BAD += [("evaluate", name, how) for name in ("query-labels", "gallery-labels", *HIDE) for how in ("short", "empty")]
BAD += [("evaluate", "query-labels", "other"), ("curve", "gallery-labels", "other")]
BAD += [("curve", name, how) for name in ("transformed", "native") for how in VECTOR]
BAD += [("curve", "sigma", how) for how in ("short", "empty", "texts", "nan", "inf")]


@pytest.mark.parametrize(("name", "file", "how"), BAD)
def test_files_that_cannot_be_used_are_one_sentence_and_exit_2(files: dict[str, np.ndarray], name: str, file: str, how: str) -> None:
    change(files, file, how)
    code, out, err = run(name, *options((EVALUATE if name == "evaluate" else CURVE) + HIDE), "--json")
    assert code == 2, err
    (sentence,) = err.strip().splitlines()
    assert sentence.startswith("fct: ") and "Error" not in sentence
    error = json.loads(out)["error"]
    assert error["code"] == "bad-input" and sentence == f"fct: {error['sentence']}"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["evaluate"], "--query is missing"),
        (["evaluate", *options(EVALUATE[:3])], "--gallery-labels is missing"),
        (["curve", *options([name for name in CURVE if name != "sigma"])], "--sigma is missing"),
        (["evaluate", *options(EVALUATE), "--query-ids", "query-ids.npy"], "ids are given for one side only"),
        (["evaluate", *options(EVALUATE), "--top-k", "1,x"], "--top-k"),
        (["evaluate", *options(EVALUATE), "--top-k", "0"], "--top-k"),
        (["evaluate", *options(EVALUATE), "--metric", "dot"], "unknown metric"),
        (["curve", *options(CURVE), "--metric", "dot"], "unknown metric"),
        (["evaluate", *options(EVALUATE), "--max-queries", "0"], "max_queries"),
        (["curve", *options(CURVE), "--random", "0"], "--random"),
        (["curve", *options(CURVE), "--steps", "1"], "both ends"),
        (["curve", *options(CURVE), "--steps", "1000000000"], "so many steps"),
        (["evaluate", *options(EVALUATE), "--seed", "-1"], "the seed cannot be used"),
        (["curve", *options(CURVE), "--seed", "-1"], "the seed cannot be used"),
        (["evaluate", *options(EVALUATE, gallery="number.npy")], "gallery is a single value"),
        (["evaluate", *options(EVALUATE, gallery="archive.npy")], "gallery is not a readable .npy file"),
        (["evaluate", *options(EVALUATE, query_labels="ones.npy", gallery_labels="one.npy")], "all labels are equal"),
        (["curve", *options(CURVE, query_labels="ones.npy", gallery_labels="one.npy")], "all labels are equal"),
        (["evaluate", *options(EVALUATE, query_labels="gaps.npy", gallery_labels="gallery-labels-gaps.npy")], "labels contain NaN"),
        (["evaluate", *options(EVALUATE, gallery="none.npy")], "gallery: there is no such file"),
        (["evaluate", *options(EVALUATE, gallery="text.txt")], "gallery is not a readable .npy file"),
        (["evaluate", *options(EVALUATE, query_labels="objects.npy")], "query labels is not a readable .npy file"),
        (["curve", *options(CURVE, native="none.lance::v")], "native: there is no such table"),
        (["evaluate", "--pairs", "."], "--pairs needs"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence_and_exit_2(files: dict[str, np.ndarray], args: list[str], words: str) -> None:
    Path("text.txt").write_text("no array")
    np.save("number.npy", np.float32(3))
    np.savez("archive.npz", a=files["gallery"])
    Path("archive.npz").rename("archive.npy")
    for name, array in (("ones", np.ones(40)), ("one", np.ones(70, dtype=int)), ("gaps", np.full(40, np.nan))):
        np.save(f"{name}.npy", array)
    np.save("gallery-labels-gaps.npy", np.full(70, np.nan))
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    code, out, err = run(*args)
    assert (code, out) == (2, "") and words in err and err.startswith("fct: ") and len(err.strip().splitlines()) == 1, err


def test_evaluate_says_how_many_queries_do_not_count_and_a_depth_asked_twice_is_reported_once(files: dict[str, np.ndarray]) -> None:
    labels = files["query-labels"].astype("<U5")
    labels[:3] = ["", "alone", ""]
    np.save("query-labels.npy", labels)
    code, out, err = run("evaluate", *options(EVALUATE), "--top-k", "5,5")
    assert code == 0 and "not counted: 3 of the queries" in err and out.count("top5") == 1


def test_unknown_labels_are_no_class_of_their_own(files: dict[str, np.ndarray]) -> None:
    numbers = {name: np.unique(files[name], return_inverse=True)[1] for name in ("query-labels", "gallery-labels")}
    for name, array in numbers.items():
        array[::4] = -1
        np.save(f"{name}.npy", array)
    found = json.loads(run("evaluate", *options(EVALUATE), "--json")[1])
    assert found["n_queries"] == (numbers["query-labels"] >= 0).sum() and found["n_gallery"] == 70
    other = numbers["gallery-labels"].copy()
    other[other < 0] = 900 + np.arange((other < 0).sum())
    known = numbers["query-labels"] >= 0
    wanted = oracles.per_query(
        *(np.rint(1000 * files[name].astype("f8")).astype(int) for name in ("query", "gallery")),
        numbers["query-labels"],
        other,
        metric="l2",
    )
    l2 = json.loads(run("evaluate", *options(EVALUATE), "--metric", "l2", "--json")[1])
    assert l2["mAP"] == pytest.approx(np.mean([ap for row, _, ap, _ in wanted if known[row]]), abs=1e-3)


def test_large_ids_of_signed_and_unsigned_numbers_are_told_apart(files: dict[str, np.ndarray]) -> None:
    np.save("query-ids.npy", np.arange(40, dtype=np.int64) + 2**60)
    np.save("gallery-ids.npy", np.arange(70, dtype=np.uint64) + np.uint64(2**60 + 40))
    ids = options(["query-ids", "gallery-ids"])
    plain, hidden = (json.loads(run("evaluate", *options(EVALUATE), *more, "--json")[1]) for more in ([], ids))
    assert hidden["mAP"] == plain["mAP"]  # no two are equal, though all are in float64


def same_items(files: dict[str, np.ndarray], **instead: np.ndarray) -> tuple[dict[str, object], str]:
    """``fct evaluate`` of vectors that tell no class apart, as queries and gallery: its JSON and what it said."""
    vectors = np.random.default_rng(1).normal(size=(60, 8)).astype("f4")
    labels = np.arange(60) % 5
    labels[0] = 77  # alone in its class
    arrays = {"query": vectors, "gallery": vectors, "query-labels": labels, "gallery-labels": labels} | instead
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    code, out, err = run("evaluate", *options(list(arrays)), "--json")
    assert code == 0, err
    return json.loads(out), err


def test_queries_that_find_themselves_are_counted_and_the_way_out_is_said(files: dict[str, np.ndarray]) -> None:
    found, err = same_items(files)
    assert found["top1"] == 1.0 and found["in_gallery"] == 60
    assert "60 of 60 queries are in the gallery" in err and "--query-ids and --gallery-ids" in err
    ids = {"query-ids": np.arange(60), "gallery-ids": np.arange(60)}
    found, err = same_items(files, **ids)
    assert found["top1"] < 0.4 and found["in_gallery"] == 0 and "find themselves" not in err
    assert found["classes_of_one"] == 1 and "classes with one item in the gallery: 1" in err and "not counted: 1 of the queries" in err
    found, err = same_items(files, **(ids | {"gallery-ids": np.array([f"item {row}" for row in range(60)])}))
    assert found["in_gallery"] == 60, "ids that are never equal hide nothing"
    found, err = same_items(files, **(ids | {"gallery-ids": np.where(np.arange(60) < 50, np.arange(60), 999)}))
    assert found["in_gallery"] == 10 and "10 of 60 queries" in err, "nor do those that some queries lack"


def test_a_part_of_the_gallery_as_queries_and_other_dtypes_are_seen_too(files: dict[str, np.ndarray]) -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 8)).astype("f4")
    labels = np.arange(60) % 5
    some = {"query": np.concatenate([vectors[10:19], -vectors[:4]]), "query-labels": labels[:13]}
    assert same_items(files, **some)[0]["in_gallery"] == 9
    assert same_items(files, **some, gallery=vectors.astype("f2"))[0]["in_gallery"] == 9
    assert same_items(files, query=vectors[::-1] * 2, **{"query-labels": labels[::-1]})[0]["in_gallery"] == 0
    found, err = same_items(files, query=vectors + 1)  # the same items by two models
    assert found["in_gallery"] == 60 and "all 60 queries have the labels of the gallery, row by row" in err


def test_curve_says_it_too(files: dict[str, np.ndarray]) -> None:
    np.save("query.npy", files["native"][:40])
    code, _, err = run("curve", *options(CURVE), "--steps", "2")
    assert code == 0 and "40 of 40 queries are in the gallery" in err


def test_ids_and_labels_of_two_types_are_the_same_thing(files: dict[str, np.ndarray]) -> None:
    numbers = {name: np.unique(files[name], return_inverse=True)[1] - 1 for name in ("query-labels", "gallery-labels")}  # a is unknown
    plain = {
        name: json.loads(run("evaluate", *given, "--json")[1])
        for name, given in {"no": options(EVALUATE), "ids": options(EVALUATE + HIDE[:2])}.items()
    }
    pq.write_table(
        pa.table(
            {
                "id": pa.array(files["gallery-ids"].astype(float)),
                "label": pa.array([None if one < 0 else str(one) for one in numbers["gallery-labels"]]),
            }
        ),
        "g.parquet",
    )
    np.save("query-ids.npy", files["query-ids"].astype(str))
    given = options(EVALUATE + HIDE[:2], gallery_ids="g.parquet::id")
    assert json.loads(run("evaluate", *given, "--json")[1])["mAP"] == plain["ids"]["mAP"] != plain["no"]["mAP"]
    for name, array in numbers.items():
        np.save(f"{name}.npy", array)
    wanted = json.loads(run("evaluate", *options(EVALUATE), "--json")[1])
    found = json.loads(run("evaluate", *options(EVALUATE, gallery_labels="g.parquet::label"), "--json")[1])
    assert (found["mAP"], found["n_queries"]) == (wanted["mAP"], wanted["n_queries"])


@pytest.mark.parametrize("name", ["evaluate", "curve"])
def test_bad_rows_are_named_by_id_and_left_out_of_everything(files: dict[str, np.ndarray], name: str) -> None:
    side = "gallery" if name == "evaluate" else "native"
    whole = files[side].astype("f8")
    whole[[3, 30]], whole[9] = np.nan, whole[9] * 1e-30
    np.save(f"{side}.npy", whole)
    given = options((EVALUATE if name == "evaluate" else CURVE) + HIDE)
    code, _, err = run(name, *given, "--json")
    assert code == 2 and "rows 3 (33), 30 (60)" in err and "row 9 (39)" in err
    found = json.loads(run(name, *given, "--json", "--skip-bad")[1])
    assert sorted(one for one, _ in found["left_out"]) == ["33", "39", "60"] and found["n_gallery"] == 67
    keep = np.setdiff1d(np.arange(70), [3, 9, 30])
    for file in [side, "transformed", "sigma", *(one for one in EVALUATE + HIDE if one.startswith("gallery"))]:
        np.save(f"{file}.npy", files[file][keep])
    assert json.loads(run(name, *given, "--json")[1])["mAP"] == found["mAP"]


def test_codes_and_bits_are_no_vectors(files: dict[str, np.ndarray]) -> None:
    codes = np.rint(files["gallery"] / np.abs(files["gallery"]).max(axis=1, keepdims=True) * 127).astype("i1")
    np.save("gallery.npy", codes)
    code, _, err = run("evaluate", *options(EVALUATE), "--json")
    assert code == 2 and "whose scale differs by row" in err
    np.save("gallery.npy", codes // 2)
    found = json.loads(run("evaluate", *options(EVALUATE), "--json")[1])
    assert len(found["warnings"]) == 1 and "whole numbers (int8)" in found["warnings"][0]
