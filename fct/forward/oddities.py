"""What is odd about inputs whose shapes correspond: columns that never change, labels that tell nothing apart.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

import numpy as np

from fct.errors import BadInput

BLOCK = 8192


def constants(array: np.ndarray) -> np.ndarray:
    """(D,) bool: columns of (N, D) with one value in all rows. It stops reading where no such column is left."""
    same = np.ones(array.shape[1], dtype=bool)
    for start in range(0, len(array), BLOCK):
        if not same.any():
            break
        same &= (array[start : start + BLOCK] == array[0]).all(axis=0)
    return same


def of_columns(old: np.ndarray, side: np.ndarray | None, new: np.ndarray) -> list[str]:
    """A sentence for each array with constant columns, which no fit can use.

    Raises:
        BadInput: all rows of old or of new are equal.
    """
    found = []
    for name, array in (("old", old), ("side", side), ("new", new)):
        if array is None:
            continue
        same = constants(array)
        if same.all() and name != "side" and len(array) > 1:
            raise BadInput(
                f"all {name} vectors are equal", where=f"{len(array)} rows", todo="equal vectors distinguish nothing; check the file"
            )
        if same.any() and len(array) > 1:
            found.append(f"{int(same.sum())} of {len(same)} columns of {name} are constant and tell nothing")
    return found


def of_labels(labels: np.ndarray | None) -> list[str]:
    """A sentence about labels that only one row has.

    Args:
        labels: (N,) int64 numbers, −1 = unknown.

    Raises:
        BadInput: every row has the same label.
    """
    if labels is None:
        return []
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    if len(counts) == 1 and len(labels) > 2 and counts[0] == len(labels):
        raise BadInput("all labels are equal", wanted="at least two classes", todo="leave labels out, or check them")
    alone = int((counts == 1).sum())
    return [f"{alone} of {len(counts)} labels are seen once: such rows have no partner to be judged by"] if alone else []
