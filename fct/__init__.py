"""Forward-compatible releases for embedding models, the numeric core.

``fct.fit(old, new, side=…)`` fits a forward transformation, ``h.transform(old, side)`` carries vectors over,
``fct.load(folder)`` loads one, ``fct.evaluate(query, gallery, …)`` judges what is found. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.errors import BadInput
    from fct.forward import FitSettings, Forward, fit, load
    from fct.search.retrieval import Retrieval, evaluate

    __version__: str

__all__ = ["BadInput", "FitSettings", "Forward", "Retrieval", "__version__", "evaluate", "fit", "load"]
_HOMES = {"BadInput": "fct.errors", "Retrieval": "fct.search.retrieval", "evaluate": "fct.search.retrieval"}  # the others: fct.forward


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("forward-compatible-releases")
        except PackageNotFoundError:  # the source alone, not installed
            return "0"
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "fct.forward")), name)
    raise AttributeError(f"module 'fct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
