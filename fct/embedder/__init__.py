"""Embedders and their training, for those who bring none of their own. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.embedder.networks import ARCHITECTURES, build

__all__ = ["ARCHITECTURES", "build"]
PLACES = dict.fromkeys(__all__, "networks")


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"fct.embedder.{PLACES[name]}"), name)
    raise AttributeError(f"module 'fct.embedder' has no attribute {name!r}")
