"""Numbers that are not the vectors they look like: codes without their scale, bits of another type, dimensions that never change.

What cannot be meant is refused with the cast to make; what may be meant is taken with a word. Legend: N rows, D dimensions.
"""

from __future__ import annotations

import re

import numpy as np

from fct.errors import BadInput

LOOKED_AT = 10_000  # rows, evenly spread
CODED = 0.9  # share of rows that reach the largest code, each in one or two places: a scale of its own for every row
BITS = 0.99  # share of 16-bit numbers that are of a usual size as bfloat16
SCALES = frozenset(
    ["scale", "scales", "norm", "norms", "offset", "offsets", "zero", "zeropoint", "quant", "factor"]
)  # words in a column's name
DROWNED = 0.5  # share of the squared length that a constant may have
CAST = "multiply each row by its scale (or unpack it) and give float32; if these very numbers are meant, cast them to float32"


def look(name: str, array: np.ndarray, beside: tuple[str, ...] = ()) -> list[str]:
    """Sentences about what is odd in ``array`` (N, D) as a whole.

    Args:
        name: what the user calls it. beside: columns of its table that may hold a scale.

    Raises:
        BadInput: whole numbers that are codes with a scale of their own in each row, or the bits of bfloat16.
    """
    rows = np.asarray(array[:: max(1, -(-len(array) // LOOKED_AT))])
    if array.dtype.kind in "iu":
        return _codes(name, rows, beside)
    return _constants(name, rows)


def _codes(name: str, rows: np.ndarray, beside: tuple[str, ...]) -> list[str]:
    kind = rows.dtype.name
    if rows.dtype.itemsize == 2:
        size = np.abs((rows.astype(np.uint16).astype(np.uint32) << 16).view(np.float32))
        with np.errstate(invalid="ignore"):
            usual = float(((size == 0) | ((size > 1e-8) & (size < 1e4))).mean())
        if usual >= BITS and (size > 0).mean() >= BITS / 2:
            raise BadInput(
                f"{name} are whole numbers ({kind}) that look like the bits of bfloat16",
                got=f"{usual:.0%} of them are of a usual size as bfloat16",
                todo="cast to float32 before saving: tensor.float().numpy()",
            )
    full = 0.0
    if rows.dtype.itemsize == 1:
        places = (np.abs(rows.astype(np.int16)) >= np.iinfo(rows.dtype).max).sum(axis=1)
        full = float(((places > 0) & (places <= max(2, rows.shape[1] // 64))).mean())
    scales = [column for column in beside if SCALES & set(re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()))]
    if scales or (full >= CODED and len(rows) > 1):
        raise BadInput(
            f"{name} are codes ({kind}) whose scale differs by row",
            got=f"{full:.0%} of the rows reach the largest code" + (f"; columns beside: {', '.join(scales)}" if scales else ""),
            todo=CAST,
        )
    return [f"{name} are whole numbers ({kind}) in 100 % of the rows and are taken as they are; if they are codes or packed bits: {CAST}"]


def _constants(name: str, rows: np.ndarray) -> list[str]:
    if len(rows) < 2:
        return []
    held = np.flatnonzero((rows == rows[0]).all(axis=0))
    if not len(held) or len(held) == rows.shape[1]:
        return []
    values = rows[0, held].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float((np.asarray(rows, dtype=np.float64) ** 2).sum(axis=1).mean())
        share = float((values**2).sum()) / squares
    where = f"{len(held)} of {rows.shape[1]} dimensions of {name} are constant in 100 % of the rows (dimension {held[0]}: {values[0]:g})"
    if share >= DROWNED:
        return [
            f"{where} and make up {share:.0%} of the squared length, so that cosines hardly differ; leave them out, or subtract the mean"
        ]
    return [f"{where}; if that is padding, leave it out"]
