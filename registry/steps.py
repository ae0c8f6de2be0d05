"""Steps that are done once: a step whose inputs did not change is not run again.

A step writes its output whole or not at all; afterwards ``<output>.done.json`` says from which inputs and by which recipe. Running an
upgrade again continues where it stopped; a step whose recipe is another one now is done anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fct.arrays import digests
from fct.arrays.files import read_json, write_json

# step → number of its recipe. Whoever changes what a step computes from the same inputs raises it, and `python -m tests.recipes` writes
# down the new numbers; tests/unit/project/test_recipes.py fails until both is done. 1 is what was computed before there were recipes.
RECIPES = {
    "embed": 2,  # 2: fitting images that copy evaluated ones are left out
    "embed given": 3,  # from given pairs. 2: copies of one thing have one number. 3: more of them are found
    "fit": 3,  # the closed form on the same pairs, too. 2: copies stay on one side. 3: more of them are found
    "transform": 1,
    "index": 2,  # 2: vectors for l2 are centred
    "evaluate": 3,  # 2: vectors for l2 are centred. 3: bounds by subsets of the classes
    "publish": 1,
}


def keyed(step: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a step with the number of its recipe; recipe 1 adds nothing, so that what was finished before counts."""
    return inputs | ({} if RECIPES[step] == 1 else {"recipe": RECIPES[step]})


def marker(output: Path) -> Path:
    return output.with_name(output.name + ".done.json")


def once(step: str, output: Path, inputs: dict[str, Any], make: Callable[[], Any]) -> tuple[Any, bool]:
    """Run ``make`` unless ``output`` was made from the same ``inputs`` by the same recipe (compared by digest).

    Args:
        step: of :data:`RECIPES`.

    Returns:
        what ``make`` returned (JSON; kept in the marker) and whether it ran now.
    """
    digest = digests.of_json(keyed(step, inputs))
    done = marker(output)
    if done.exists() and output.exists():
        said = read_json(done)
        if said.get("inputs") == digest:
            return said.get("result"), False
    done.unlink(missing_ok=True)
    result = make()
    write_json(done, {"inputs": digest, "result": result})
    return result, True
