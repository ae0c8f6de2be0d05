"""Shapes and dtypes in annotations are checked in tests: each is read, and a call that breaks one is seen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

from fct.arrays import shapes
from fct.arrays.shapes import Float
from fct.forward import losses
from fct.search import order
from tests.shapes import ROOMS, checked, shaped

ROOT = Path(__file__).parents[3]


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (
                one for one in (node.returns, *(part.annotation for part in ast.walk(node.args) if isinstance(part, ast.arg))) if one
            )


def test_each_annotation_of_a_shape_is_read() -> None:
    unread, count = [], 0
    for room in ROOMS:
        for path in sorted((ROOT / room.replace(".", "/")).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
            for one in annotations(ast.parse(path.read_text(encoding="utf-8"))):
                if any(isinstance(part, ast.Name) and part.id in shapes.__all__ for part in ast.walk(one)):
                    count += 1
                    try:
                        read = shaped(eval(ast.unparse(one), vars(import_module(name))))
                    except Exception:  # whatever it is, jaxtyping would leave the annotation out without a word
                        read = False
                    unread += [] if read else [f"{name}: {ast.unparse(one)}"]
    assert count > 100 and unread == []


def test_rows_that_do_not_correspond_are_seen() -> None:
    assert order.moves(np.arange(4), np.linspace(0, 1, 3)).tolist() == [1, 1, 2, 2]
    with pytest.raises(jaxtyping.TypeCheckError, match="'beta'"):
        order.moves(np.arange(4), np.zeros((2, 2)))
    with pytest.raises(jaxtyping.TypeCheckError, match="'target'"):
        losses.squared_error(torch.zeros(3, 2), torch.zeros(1, 2))  # it would be spread over all rows


@jaxtyping.jaxtyped(typechecker=checked)
def first(rows: Float[np.ndarray, "N D"], count: int) -> Float[np.ndarray, " N"]:
    return rows[:count, 0]


def test_what_is_given_back_is_seen_and_other_types_are_left_alone() -> None:
    assert first(np.ones((3, 2)), np.int64(3)).tolist() == [1, 1, 1]  # type: ignore[arg-type]
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        first(np.ones((3, 2)), 2)
