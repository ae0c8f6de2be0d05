"""Forward-compatible releases for embedding models, the numeric core.

``fct.fit(old, new, side=…)`` fits a forward transformation, ``h.transform(old, side)`` carries vectors over,
``fct.load(folder)`` loads one. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.forward import FitSettings, Forward, fit, load

__all__ = ["FitSettings", "Forward", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from fct import forward

        return getattr(forward, name)
    raise AttributeError(f"module 'fct' has no attribute {name!r}")
