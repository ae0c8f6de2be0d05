"""What DVC's stages depend on: the code that a stage runs, found by following its imports, is what dvc.yaml names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.verdicts.names import GATES

ROOT = Path(__file__).parents[3]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ROOMS = ("fct", "registry")  # no step is decided in flows
# what a setting says is a `params` of its stage; words, processes and locks are no numbers
APART = {"registry/settings.py", "registry/params.py", "fct/errors.py", "fct/children.py", "fct/__init__.py", "registry/__init__.py"}


def stage(name: str) -> dict[str, Any]:
    return STAGES[name].get("do", STAGES[name])  # type: ignore[no-any-return]


def place(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((one for one in (path / "__init__.py", path.with_suffix(".py")) if one.exists()), None)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All below ``node`` that runs: not what is imported for annotations alone."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from nodes(child)


def lazy(module: str) -> dict[str, str]:
    """Name → module of what a package imports when it is first used (its ``PLACES``)."""
    path = place(module)
    if path is None or "PLACES" not in path.read_text(encoding="utf-8"):
        return {}
    found: dict[str, str] = __import__(module, fromlist=["PLACES"]).PLACES
    return {name: f"{module}.{where}" for name, where in found.items()}


def by_name(path: Path) -> set[str]:
    """Modules that one imports by name, whatever they are: where the gates are declared, each of them."""
    return {f"registry.verdicts.gates.{gate}" for gate in GATES} if path == place("registry.verdicts.declaration") else set()


def imported(node: ast.AST) -> set[str]:
    """Modules that running ``node`` imports: packages on the way, and what lazy packages give under the names that are used."""
    found: set[str] = set()
    names: dict[str, str] = {}  # alias → module
    for one in nodes(node):
        if isinstance(one, ast.Import):
            found |= {alias.name for alias in one.names}
            names |= {alias.asname: alias.name for alias in one.names if alias.asname}
        elif isinstance(one, ast.ImportFrom) and one.module:
            found |= {one.module} | {f"{one.module}.{alias.name}" for alias in one.names}
            found |= {lazy(one.module)[alias.name] for alias in one.names if alias.name in lazy(one.module)}
            names |= {alias.asname or alias.name: f"{one.module}.{alias.name}" for alias in one.names}
    for one in nodes(node):
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id in names:
            found |= {where for name, where in lazy(names[one.value.id]).items() if name == one.attr}
    return found


def of_command(module: str, function: str) -> set[str]:
    """Modules of our rooms that a function of the command line imports, itself or through functions of the command line that it uses."""
    body = tree(ROOT.joinpath(*module.split(".")).with_suffix(".py"))
    here = {one.name: one for one in body.body if isinstance(one, ast.FunctionDef)}
    elsewhere = {alias.name: one.module for one in body.body if isinstance(one, ast.ImportFrom) and one.module for alias in one.names}
    found, todo, done = imported(here[function]), [function], set()
    while todo:
        done.add(name := todo.pop())
        called = {one.func.id for one in ast.walk(here[name]) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
        for one in called - done:
            if one in here:
                found |= imported(here[one])
                todo.append(one)
            elif elsewhere.get(one, "").startswith("flows."):
                found |= of_command(elsewhere[one], one)
    return found


def closure(modules: set[str]) -> set[str]:
    """Paths of the modules of our rooms that these import, and those import, and so on."""
    found: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = place(module) if module.split(".")[0] in ROOMS else None
        name = path.relative_to(ROOT).as_posix() if path else ""
        if path is None or name in found | APART:
            continue
        found.add(name)
        todo += [*imported(tree(path)), *by_name(path), module.rpartition(".")[0]]
        if path.name == "__init__.py" and "iter_modules(__path__)" in path.read_text(encoding="utf-8"):  # it imports all that lie beside it
            todo += [f"{module}.{one.stem}" for one in path.parent.glob("*.py") if one != path]
    return found


def runs(name: str) -> set[str]:
    command = stage(name)["cmd"].split()[1]
    files = sorted((ROOT / "flows/cli").glob("*.py"))
    (module,) = [f"flows.cli.{f.stem}" for f in files if any(isinstance(n, ast.FunctionDef) and n.name == command for n in tree(f).body)]
    return closure(of_command(module, command))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_runs_and_on_no_other(name: str) -> None:
    wanted = runs(name)
    code = [dep for dep in stage(name)["deps"] if dep.split("/")[0] in ROOMS]
    assert all((ROOT / dep).exists() for dep in code)
    lacking = sorted(path for path in wanted if not any(path == dep or path.startswith(f"{dep}/") for dep in code))
    idle = sorted(dep for dep in code if not any(path == dep or path.startswith(f"{dep}/") for path in wanted))
    assert (lacking, idle) == ([], []), f"dvc.yaml, {name}: add {lacking}, remove {idle}"


def test_what_ranks_and_what_fits_is_found() -> None:
    assert {"fct/search/metrics.py", "fct/search/counting.py", "fct/search/levels.py", "fct/search/intervals.py"} <= runs("evaluate")
    assert {"fct/forward/api.py", "fct/forward/ladder.py", "fct/forward/fitting.py"} <= runs("fit")
    assert {"fct/forward/methods/ridge.py", "fct/forward/losses.py"} <= runs("fit")
    assert "fct/forward/transformation.py" in runs("transform") and "registry/verdicts/gates/canary.py" not in runs("evaluate") | runs(
        "train"
    )
    assert {"registry/verdicts/gates/canary.py", "fct/forward/closed.py"} <= runs("validate")
