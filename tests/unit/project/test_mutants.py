"""``python -m tests.mutants`` tells killed and surviving mutants apart and goes on where it was cut short; each survivor has a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.mutants.__main__ import Tree
from tests.mutants.making import mutants
from tests.mutants.page import read_reasons

ROOT = Path(__file__).parents[3]
SOURCE = '''"""Adds."""

def total(first: int, second: int = 2) -> int:
    """The sum."""
    if first < 0:
        raise ValueError(f"too small: {first + 1}")
    return first + second

def unseen() -> bool:
    return True
'''
TEST = """import subprocess, sys
from adds import total

def test_total():
    assert total(1, 3) == 4

def test_total_in_another_process():
    assert subprocess.run([sys.executable, "-c", "import adds; print(adds.total(2))"], capture_output=True, text=True).stdout == "4\\n"
"""


def _mutate(tree: Path, *words: str) -> list[dict[str, Any]]:
    subprocess.run([sys.executable, "-m", "tests.mutants", "--root", str(tree), "--workers", "1", *words], cwd=ROOT, check=True)
    return [json.loads(line) for line in (tree / "tests/mutants/results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_killed_and_surviving_mutants_are_told_apart_and_a_cut_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tests/mutants").mkdir(parents=True)
    (tmp_path / "adds.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "tests/test_adds.py").write_text(TEST, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n', encoding="utf-8")
    settings = 'mark = ""\ntests = ["tests/test_"]\n[modules]\nadds = ["adds.py"]\n[[reason]]\n'
    (tmp_path / "tests/mutants/mutants.toml").write_text(settings, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    cut = _mutate(tmp_path, "--sample", "3")
    assert len(cut) == 3
    found = _mutate(tmp_path)
    assert found[:3] == cut  # not run again
    outcomes = {(one["before"], one["after"]): one["outcome"] for one in found}
    assert len(outcomes) == len(found)
    assert outcomes == {
        ("2", "3"): "killed",
        ("2", "1"): "killed",
        ("first < 0", "first <= 0"): "survived",
        ("first < 0", "first >= 0"): "killed",
        ("0", "1"): "survived",
        ("0", "-1"): "survived",
        ("raise ValueError(f'too small: {first + 1}')", "pass"): "survived",
        ("return first + second", "return None"): "killed",
        ("first + second", "first - second"): "killed",
        ("True", "False"): "survived",
    }
    by = {(one["before"], one["after"]): (one["test"], one["tests"]) for one in found}
    assert by["2", "3"] == ("tests/test_adds.py::test_total_in_another_process", 2)
    assert by["first + second", "first - second"] == ("tests/test_adds.py::test_total", 1)
    assert by["True", "False"] == ("", 0)
    assert (tmp_path / "adds.py").read_text(encoding="utf-8") == SOURCE
    page = (tmp_path / "docs/mutants.md").read_text(encoding="utf-8")
    assert "| adds | 10 | 10 | 10 | 5 | 0 | 5 | 50 % |" in page and "not looked at yet" in page


def test_what_is_for_people_has_no_mutants() -> None:
    source = b'''class A:
    """1 < 2"""
    x: "int" = f(todo="a", key="b")

    @over(1)
    def __repr__(self): return 1 + 1

    def g(self, a: int = "one two") -> "int":
        note = 1 < 2
        print(1)
'''
    assert [(one.before, one.after, one.scope) for one in mutants("a.py", source)] == [("'b'", "'b_other'", "")]


def test_each_survivor_has_a_reason() -> None:
    tree = Tree(ROOT)
    now, reasons = {one.key for one in tree.mutants()}, read_reasons(ROOT)
    survivors = {key for key, found in tree.results().items() if found["outcome"] == "survived" and key in now}
    assert survivors <= reasons.keys(), f"without a reason in tests/mutants/reasons.toml: {sorted(survivors - reasons.keys())}"
