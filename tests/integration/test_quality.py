"""One row of the results is computed again from nothing: data, both embedders, ψ, every h of the cell, search."""

import math

from benchmarks.quality import rows, runner
from benchmarks.quality.suites import TINY

# On another processor both embedders round otherwise while they train, and come out as from another seed: seen, up to 0.04 for a map
# that fits. How two spaces lie to each other before a map, or under a rotation, is left to chance: seen, up to 0.10.
BY_CHANCE = ("none", "mean-shift", "procrustes")


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
        by_chance = any(f"/{method}" in path for method in BY_CHANCE)
        assert math.isclose(a, b, abs_tol=0.15 if by_chance else 0.06), path


def test_the_tiny_row_is_computed_again(tmp_path):
    plan = runner.Plan(tmp_path / "cache", tmp_path / "rows", "", "cpu", "", 32, 0, 1)
    what, _ = runner.compute(plan, TINY)
    assert what == "computed"
    again, kept = rows.find(plan.rows, TINY.suite, TINY.name), rows.find(rows.ROWS, "tiny", "digits-ridge")
    assert again and kept
    for key in ("suite", "name", "spec", "spec_digest", "inputs", "command"):
        assert again[key] == kept[key], key
    close(kept["numbers"], again["numbers"])
    assert runner.compute(plan, TINY) == ("there already", 0.0)
