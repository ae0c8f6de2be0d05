"""The examples in docstrings give what they show. Each begins with nothing imported, so that one can copy it as it stands."""

from __future__ import annotations

import ast
import doctest
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[3]
SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC = ("fct", "fct.forward", "fct.release", "fct.side")  # and fct.errors, whose classes are alike


def examples() -> Iterator[tuple[str, str]]:
    """(name, docstring) of all that shows an example. Read from the source: a decorator may hide a function from doctest's own search."""
    for top in ("fct", "registry"):
        for path in sorted((ROOT / top).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if ">>>" in text else ():
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ">>>" in (said := ast.get_docstring(node) or ""):
                    yield f"{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}.{getattr(node, 'name', '')}", said


FOUND = dict(examples())


@pytest.mark.parametrize("name", FOUND)
def test_an_example_gives_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with patch.dict(os.environ):  # open_workspace sets what the tools read
        shown = doctest.DocTestParser().get_doctest(FOUND[name], {}, name, None, None)
        doctest.DocTestRunner(optionflags=SHOWN).run(shown, out=said.append)
    assert shown.examples and not said, "".join(said)


@pytest.mark.parametrize("package", PUBLIC)
def test_what_is_public_is_shown_by_an_example(package: str) -> None:
    names = [name for name in import_module(package).__all__ if not name.startswith("_") and not name.isupper()]
    own = {name.rpartition(".")[2] for name in FOUND if name.startswith("fct.")}
    assert len(names) > 4 and [name for name in names if name not in own | {"Bridge"}] == []  # Bridge: what bridge gives


def test_an_example_that_is_wrong_is_noticed() -> None:
    said: list[str] = []
    doctest.DocTestRunner(optionflags=SHOWN).run(
        doctest.DocTestParser().get_doctest(">>> 1 + 1\n3", {}, "sum", None, None), out=said.append
    )
    assert "Expected:\n    3\nGot:\n    2" in "".join(said)
