"""A mended fault does not keep its results: what a step was finished by is known by a number, which changes with what it computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fct.arrays import digests
from fct.arrays.files import write_json
from fct.gallery.names import SPACE, space_name
from fct.sample import evaluation
from registry import steps
from tests import recipes


@pytest.mark.parametrize("step", steps.RECIPES)
def test_a_step_computes_what_its_recipe_says(step: str, tmp_path: Path) -> None:
    kept = json.loads(recipes.FILE.read_text(encoding="utf-8"))
    assert kept.keys() == steps.RECIPES.keys()
    told = recipes.problem(step, steps.RECIPES[step], kept[step], recipes.measured(step, tmp_path))
    assert told is None, told


def test_other_numbers_without_another_recipe_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads(recipes.FILE.read_text(encoding="utf-8"))["evaluate"]
    real = evaluation.search
    monkeypatch.setattr(evaluation, "search", lambda sample, query, gallery, metric: real(sample, gallery, query, metric))
    now = recipes.measured("evaluate", tmp_path)
    told = recipes.problem("evaluate", kept["recipe"], kept, now)
    assert told is not None and "raise its recipe" in told
    told = recipes.problem("evaluate", kept["recipe"] + 1, kept, now)
    assert told is not None and "writes down" in told
    assert recipes.problem("evaluate", kept["recipe"], kept, kept["numbers"]) is None


def test_a_number_may_differ_as_another_processor_s_does_and_no_more() -> None:
    before = {"x": [100.0, 0.5, 0.2, 0.01]}
    assert recipes.differing(before, {"x": [100.0, 0.5004, 0.2, 0.0103]}) == []
    for now in ({"x": [101.0, 0.5, 0.2, 0.01]}, {"x": [100.0, 0.51, 0.2, 0.01]}, {"x": [100.0, 0.5, 0.2, 0.02]}, {}, before | {"y": [1.0]}):
        assert recipes.differing(before, now)


def test_a_finished_step_is_done_again_by_another_recipe_and_by_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, made = tmp_path / "h", []

    def make() -> int:
        output.touch()
        made.append(1)
        return len(made)

    def run() -> tuple[int, bool]:
        return steps.once("fit", output, {"seed": 0}, make)

    monkeypatch.setitem(steps.RECIPES, "fit", 1)
    assert [run(), run()] == [(1, True), (1, False)]
    monkeypatch.setitem(steps.RECIPES, "fit", 2)
    assert [run(), run()] == [(2, True), (2, False)]
    monkeypatch.setitem(steps.RECIPES, "fit", 3)
    assert run() == (3, True)


def test_what_earlier_code_finished_counts_until_the_recipe_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its markers know of no recipe: they mean the first."""
    output = tmp_path / "h"
    output.touch()
    write_json(steps.marker(output), {"inputs": digests.of_json({"seed": 0}), "result": "kept"})
    monkeypatch.setitem(steps.RECIPES, "fit", 1)
    assert steps.once("fit", output, {"seed": 0}, lambda: "made") == ("kept", False)
    monkeypatch.setitem(steps.RECIPES, "fit", 2)
    assert steps.once("fit", output, {"seed": 0}, lambda: "made") == ("made", True)


def test_a_space_of_another_recipe_has_another_name() -> None:
    names = [space_name(2, h, recipe) for h in ({}, {1: "ab" * 32}, {1: "ab" * 32, 2: "cd" * 32}) for recipe in (1, 2, 3)]
    assert len(set(names)) == 9 and all(SPACE.fullmatch(name) for name in names)
    assert space_name(2, {1: "ab" * 32}, 1) == space_name(2, {1: "ab" * 32}) == "spaces/v2-abababababab"
