"""Release folders: everything that version n of an embedder is released with. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fct.release.examining import open_release, problems
    from fct.release.folder import Release, read_head
    from fct.release.wrapped import Preprocess, Wrapped
    from fct.release.wrapping import wrap
    from fct.release.writing import write, write_adopted

__all__ = ["Preprocess", "Release", "Wrapped", "open_release", "problems", "read_head", "wrap", "write", "write_adopted"]
PLACES = {
    "Release": "folder",
    "read_head": "folder",
    "write": "writing",
    "write_adopted": "writing",
    "open_release": "examining",
    "problems": "examining",
    "Preprocess": "wrapped",
    "Wrapped": "wrapped",
    "wrap": "wrapping",
}


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"fct.release.{PLACES[name]}"), name)
    raise AttributeError(f"module 'fct.release' has no attribute {name!r}")
