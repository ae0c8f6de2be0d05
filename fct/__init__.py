"""Forward-compatible releases for embedding models, the numeric core.

``fct.fit(old, new, side=…)`` fits a forward transformation, ``h.transform(old, side)`` carries vectors over,
``fct.load(folder)`` loads one, ``fct.evaluate(query, gallery, …)`` judges what is found. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.forward import FitSettings, Forward, fit, load
    from fct.retrieval import evaluate

__all__ = ["FitSettings", "Forward", "evaluate", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("fct.retrieval" if name == "evaluate" else "fct.forward"), name)
    raise AttributeError(f"module 'fct' has no attribute {name!r}")
