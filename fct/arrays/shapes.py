"""Words for shapes and dtypes in annotations: ``Float64[np.ndarray, "N D"]`` is an ``np.ndarray``; the letters are those of the file's legend.

Nothing is checked at runtime, and no package is needed. Type checkers read jaxtyping's words, and the tests put those in place of these, so that
every call in the array rooms is checked there (tests/conftest.py). A single letter has a space before it, as jaxtyping writes it: ``" N"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, Int32, Int64, Num, Shaped, UInt8
else:

    class Word:
        """``Word[array, shape]`` is ``array``."""

        def __class_getitem__(cls, given: tuple[Any, str]) -> Any:
            return given[0]

    Bool = Float = Float32 = Float64 = Int = Int8 = Int32 = Int64 = Num = Shaped = UInt8 = Word

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int8", "Int32", "Int64", "Num", "Shaped", "UInt8"]
