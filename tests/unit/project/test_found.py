"""The texts that bring faults back still fit the code, and the tests they name exist; ``python -m tests.found`` runs them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.found.points import ROOT, Point, Undo, functions, points


def _defined(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


@pytest.mark.parametrize("point", points(), ids=lambda point: point.name)
def test_what_takes_a_fix_back_fits_the_code(point: Point) -> None:
    assert point.found and point.now and point.tests and point.undo
    for undo in point.undo:
        text = (ROOT / undo.file).read_text(encoding="utf-8")
        assert text.count(undo.old) == 1, f"{undo.file}: {undo.old.splitlines()[0]!r}"
        assert undo.old != undo.new
        if undo.file.endswith(".py"):
            ast.parse(text.replace(undo.old, undo.new))
    for test in point.tests:
        assert "::" in test, test
        path = ROOT / test.split("::")[0]
        assert set(functions(test)) <= _defined(path), test


def test_an_undo_that_no_longer_fits_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a = 1\na = 1\n")
    with pytest.raises(ValueError, match="2 times, wanted once"):
        Undo("x.py", "a = 1", "a = 2").apply(tmp_path)
    Undo("x.py", "a = 1\na", "a = 2\na").apply(tmp_path)
    assert (tmp_path / "x.py").read_text() == "a = 2\na = 1\n"
