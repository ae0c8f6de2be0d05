"""A file holds one concept and a function one thought: none has more lines than that takes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILE, CODE = 300, 60  # lines of a file; lines of a function below its signature and docstring
LONGER = {
    "benchmarks/operator_models.py": "one model after another, each in a common way of writing it",
    "registry/ledger.py": "the one commit point, whose protocol of files is read as a whole",
}


def files() -> Iterator[Path]:
    for top in ("fct", "registry", "flows", "benchmarks"):
        yield from sorted((ROOT / top).rglob("*.py"))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_file_is_longer_than_that_but_those_with_a_reason() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {name for name, count in lines.items() if count > FILE} == LONGER.keys() and len(LONGER) <= 5


def test_no_function_has_more_code_than_that() -> None:
    found = {
        f"{path.relative_to(ROOT)}::{node.name}": code_lines(node)
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(found) > 1000 and {name: count for name, count in found.items() if count > CODE} == {}
