"""What annotations say of shapes and dtypes holds in each call of a test: jaxtyping and beartype, in the rooms of arrays alone.

``install`` must run before anything imports these rooms. Only words of :mod:`fct.arrays.shapes` are checked: what a function at the door is given
may be anything, and it refuses that with a sentence of its own, which the tests want to see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype

ROOMS = ("fct.arrays", "fct.forward", "fct.search", "fct.side")


def install() -> None:
    from fct.arrays import shapes

    for word in shapes.__all__:
        setattr(shapes, word, getattr(jaxtyping, word))
    jaxtyping.install_import_hook(ROOMS, f"{__name__}.checked")


def shaped(hint: object) -> bool:
    """Whether a word for shapes is anywhere in it."""
    return (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(shaped, get_args(hint)))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which compares what it is given, and gives, with its annotations of shapes."""
    hints = {name: hint for name, hint in function.__annotations__.items() if shaped(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)
