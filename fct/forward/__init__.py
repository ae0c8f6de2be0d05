"""The forward transformation h: (φ_old, ψ) → φ_new space, fitted on pairs, without an image.

Settings alone are imported at once; what needs torch is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fct.forward.settings import METHODS, FitSettings

if TYPE_CHECKING:
    from fct.forward.api import fit
    from fct.forward.bridging import Bridge, blend, bridge
    from fct.forward.storage import load
    from fct.forward.streaming import transform_to
    from fct.forward.transformation import Forward

__all__ = ["METHODS", "Bridge", "FitSettings", "Forward", "blend", "bridge", "fit", "load", "transform_to"]
PLACES = {"fit": "api", "load": "storage", "Forward": "transformation", "transform_to": "streaming"}
PLACES |= dict.fromkeys(("Bridge", "blend", "bridge"), "bridging")


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"fct.forward.{PLACES[name]}"), name)
    raise AttributeError(f"module 'fct.forward' has no attribute {name!r}")
