"""The gallery: items, features and spaces in Lance tables, and the FAISS index of a space. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.gallery.gallery import Gallery

__all__ = ["Gallery"]
PLACES = dict.fromkeys(__all__, "gallery")


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"fct.gallery.{PLACES[name]}"), name)
    raise AttributeError(f"module 'fct.gallery' has no attribute {name!r}")
