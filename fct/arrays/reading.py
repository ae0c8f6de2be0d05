"""Columns whose rows correspond, read together: what is wrong with a row of one is said by its id, or leaves the row out of all.

Legend: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fct.arrays import columns, flaws, vectors

Kind = Literal["vectors", "side", "numbers", "labels", "texts", "ids"]


@dataclass(frozen=True)
class Column:
    """``spec``: as for :func:`fct.arrays.columns.read`; ``name``: what the user calls it."""

    spec: str
    name: str
    kind: Kind = "vectors"


@dataclass(frozen=True)
class Together:
    """``arrays``: by key, rows corresponding; ``left``: (id or row, why) of the rows that were left out."""

    arrays: dict[str, np.ndarray]
    left: list[tuple[str, str]]


def together(asked: dict[str, Column], *, skip_bad: bool = False) -> Together:
    """Read columns.

    Args:
        skip_bad: leave out rows of which one column cannot be used, in place of refusing them. What remains of a memory map is then held
            in memory.

    Raises:
        BadInput: as :func:`fct.arrays.columns.read`; without ``skip_bad`` rows that a table holds no usable vector for.
    """
    of_ids = next((column for column in asked.values() if column.kind == "ids"), None)
    ids = None if of_ids is None else columns.ids(of_ids.spec, of_ids.name)
    arrays: dict[str, np.ndarray] = {}
    found: list[flaws.Flaws] = []
    for key, column in asked.items():
        if column is of_ids and ids is not None:
            arrays[key] = ids
        elif column.kind in ("labels", "texts", "ids"):
            arrays[key] = columns.labels(column.spec, column.name) if column.kind == "labels" else columns.texts(column.spec, column.name)
        elif column.kind == "numbers" or not skip_bad:
            arrays[key] = columns.read(column.spec, column.name, ids)
        else:
            arrays[key], known = columns.rows(column.spec, column.name)
            vectors.formed(column.name, arrays[key])
            found.append(flaws.find(column.name, arrays[key], known, directions=column.kind == "vectors", alike=True))
    keep = flaws.together(found)
    if keep is None or any(len(array) != len(keep) for array in arrays.values()):
        return Together(arrays, [])  # columns of different lengths are refused where they are used
    left = [one for each in found for one in each.listed(ids)]
    return Together({key: array[keep] for key, array in arrays.items()}, left)
