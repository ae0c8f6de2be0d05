from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """Synthetic vectors of 16 topics in 8 sources; the new model sees more of what tells them apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(16), 15)
    latent = rng.normal(size=(16, 10))[labels] + 0.6 * rng.normal(size=(240, 10))
    np.save(tmp_path / "old.npy", (latent[:, :4] @ rng.normal(size=(4, 8))).astype(np.float16))
    np.save(tmp_path / "new.npy", latent @ rng.normal(size=(10, 12)))
    np.save(tmp_path / "side.npy", np.clip(latent[:, 4:] * 30, -127, 127).astype(np.int8))
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "sources.npy", np.arange(240) % 8)
    np.save(tmp_path / "ids.npy", np.arange(240).astype(str))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``fct try``, by the cheapest method where none is named."""
    method = [] if "--method" in arguments else ["--method", "ridge"]
    monkeypatch.setattr(sys, "argv", ["fct", "try", *arguments, *method])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


BOTH = ("--old", "old.npy", "--new", "new.npy")


def test_two_files_of_vectors_give_ten_lines_and_a_page(files, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *BOTH)
    assert code == 0
    lines = out.strip().split("\n")
    assert len(lines) == 10
    assert "LABELS NEEDED" in lines[1]
    assert lines[-1].endswith("trial.html")
    assert (files / "trial.html").read_text().startswith("<!doctype html>")


def test_json_is_one_object_and_says_what_the_page_says(files, monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, *BOTH, "--side", "side.npy", "--labels", "labels.npy", "--sources", "sources.npy", "--ids", "ids.npy",
        "--price-per-million", "40", "--gallery-rows", "500000", "--out", "p/page.html", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert list(found["answers"]) == sorted(["upgrade", "recovered", "side", "queries", "backfill", "saves", "open"])
    assert found["answers"]["upgrade"]["outcome"] == "yes"
    assert found["metrics"]["all"]["nn_mAP"]["value"] > found["metrics"]["all"]["oo_mAP"]["value"]
    assert found["savings"]["price"] == 20
    assert found["given"]["side_bytes"] == 6
    assert found["rows"]["fitting"] + found["rows"]["evaluation"] + found["rows"]["left_out"] == 240
    assert found["queries"]["gained"] == len(found["queries"]["gained_rows"])
    page = (files / "p" / "page.html").read_text()
    assert found["given"]["digests"]["evaluation new"] in page
    assert "fitting h with side-information" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--old", "old.npy", "--new", "short.npy"), "new has the wrong number of rows; wanted 240; got 239"),
        (("--old", "nothing.npy", "--new", "new.npy"), "there is no such file"),
        (("--old", "text.npy", "--new", "new.npy"), "not a readable .npy"),
        (("--old", "pickle.npy", "--new", "new.npy"), "not a readable .npy"),
        ((*BOTH, "--labels", "ones.npy"), "fewer than two classes"),
        ((*BOTH, "--labels", "short_labels.npy"), "labels have the wrong length; wanted 240; got 239"),
        ((*BOTH, "--metric", "dot"), "unknown metric; wanted cosine or l2; got dot"),
        ((*BOTH, "--method", "magic"), "unknown method"),
        ((*BOTH, "--images", "nowhere"), "no such folder or list"),
        ((*BOTH, "--sources", "two.npy"), "sources cannot be split"),
        ((*BOTH, "--seed", "-1"), "the seed cannot be used"),
        ((*BOTH, "--out", "."), "a folder has that name"),
        ((*BOTH, "--out", "old.npy/trial.html"), "what should be a folder is a file"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_no_page(files, monkeypatch, capsys, arguments, sentence):
    np.save("short.npy", np.load("new.npy")[:-1])
    np.save("short_labels.npy", np.load("labels.npy")[:-1])
    np.save("ones.npy", np.ones(240, dtype=int))
    np.save("two.npy", np.r_[np.zeros(238), 1, 1])
    np.save("pickle.npy", np.array([{"a": 1}], dtype=object))
    (files / "text.npy").write_text("not an array")
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert out == ""
    last = err.strip().split("\n")[-1]
    assert last.startswith("fct: ")
    assert sentence in last
    assert not list(files.glob("*trial.html*")) + list(files.glob(".trial*"))


def test_bad_rows_are_named_by_id_and_left_out(files, monkeypatch, capsys):
    old, new = np.load("old.npy").astype("f4"), np.load("new.npy")
    old[10], new[200] = 0, new[200] * 1e-30
    np.save("old.npy", old)
    np.save("new.npy", new)
    given = (*BOTH, "--labels", "labels.npy", "--ids", "ids.npy", "--json")
    code, out, err = run(monkeypatch, capsys, *given)
    assert code == 2 and "row 10 (10)" in err and json.loads(out)["error"]["code"] == "bad-input" and not (files / "trial.html").exists()
    code, out, err = run(monkeypatch, capsys, *given, "--skip-bad")
    assert code == 0 and "2 rows are left out" in err
    assert [one for one, _ in json.loads(out)["left_out"]] == ["10", "200"] and json.loads(out)["given"]["rows"] == 238
