"""Side-information ψ: what is stored beside φ for every gallery item. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.side.kinds import Program, fit_drawer, layout, prepare
    from fct.side.settings import SideSettings

__all__ = ["Program", "SideSettings", "fit_drawer", "layout", "prepare"]
PLACES = dict.fromkeys(__all__, "kinds") | {"SideSettings": "settings"}


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"fct.side.{PLACES[name]}"), name)
    raise AttributeError(f"module 'fct.side' has no attribute {name!r}")
