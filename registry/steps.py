"""Steps that are done once: a step whose inputs did not change is not run again.

A step writes its output whole or not at all; afterwards ``<output>.done.json`` says from which inputs. Running an upgrade again
continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fct import digests
from fct.files import read_json, write_json


def marker(output: Path) -> Path:
    return output.with_name(output.name + ".done.json")


def once(output: Path, inputs: dict[str, Any], make: Callable[[], Any]) -> tuple[Any, bool]:
    """Run ``make`` unless ``output`` was made from the same ``inputs`` (compared by digest).

    Returns:
        what ``make`` returned (JSON; kept in the marker) and whether it ran now.
    """
    digest = digests.of_json(inputs)
    done = marker(output)
    if done.exists() and output.exists():
        said = read_json(done)
        if said.get("inputs") == digest:
            return said.get("result"), False
    done.unlink(missing_ok=True)
    result = make()
    write_json(done, {"inputs": digest, "result": result})
    return result, True
