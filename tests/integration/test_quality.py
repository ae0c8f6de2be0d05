"""One row of the results is computed again from nothing: data, both embedders, ψ, every h of the cell, search."""

import math

from benchmarks.quality import runner
from benchmarks.quality.suites import TINY
from fct.files import read_json


def close(a, b, path=""):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            close(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            close(x, y, f"{path}/{i}")
    elif isinstance(a, float) and "ρ" not in path:  # ρ divides by a small gain; another processor's rounding moves it
        assert math.isclose(a, b, abs_tol=0.03), path


def test_the_tiny_row_is_computed_again(tmp_path):
    plan = runner.Plan(tmp_path / "cache", tmp_path / "rows", "", "cpu", "", 32, 0, 1)
    what, _ = runner.compute(plan, TINY)
    assert what == "computed"
    again, kept = read_json(runner.row_path(plan, TINY)), read_json(runner.ROWS / "tiny" / "digits-ridge.json")
    for key in ("suite", "name", "spec", "spec_digest", "inputs", "command"):
        assert again[key] == kept[key], key
    close(kept["numbers"], again["numbers"])
    assert runner.compute(plan, TINY) == ("there already", 0.0)
