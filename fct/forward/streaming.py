"""Rows that may be larger than memory, carried over from file to file.

Legend: N rows, D old, P side, E new dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fct.arrays import given, vectors
from fct.arrays.files import whole_file
from fct.errors import BadInput
from fct.forward.joined import CARRIED, OLD, SIDE
from fct.forward.transformation import BLOCK, Forward


def transform_to(
    h: Forward,
    old: np.ndarray,
    side: np.ndarray | None,
    out: str | Path,
    sigma: str | Path | None = None,
    *,
    device: str = "cpu",
) -> int:
    """Write what the gallery holds into ``out`` (:meth:`Forward.gallery`) and, where wanted, σ of h into ``sigma`` (N,) float32, both ``.npy``.

    Inputs and output may be larger than memory. Both files appear whole at the end, or neither does.

    Returns:
        how many rows were written.

    Raises:
        BadInput: as :meth:`Forward.transform`, the two names are one, or a folder lies there.

    Examples:
        >>> import numpy as np, fct
        >>> from fct.forward import transform_to
        >>> old = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
        >>> h = fct.fit(old, -old, method="procrustes")
        >>> np.save("old.npy", old)
        >>> transform_to(h, np.load("old.npy", mmap_mode="r"), None, "carried.npy", "sigma.npy")
        50
        >>> np.load("carried.npy").shape, np.load("sigma.npy").shape
        ((50, 4), (50,))
    """
    if sigma is not None and Path(sigma).absolute() == Path(out).absolute():
        raise BadInput("vectors and uncertainty cannot go into one file", got=out)
    given.place(out)
    if sigma is not None:
        given.place(sigma)
    h.check(old, side, alike=True)
    needed = sigma is not None or h.joined is None or CARRIED in h.joined.parts  # old vectors alone need no h
    spread = np.empty(len(old), dtype=np.float32)
    with whole_file(out) as part:
        table: np.memmap | None = None
        with tqdm(total=len(old), desc="transform", unit="row", mininterval=1) as bar:
            for rows, carried, values in h.blocks(old, side, device=device) if needed else _plain(len(old)):
                held = carried
                if h.joined is not None:
                    held = h.joined.rows({OLD: old[rows], CARRIED: carried} | ({} if side is None else {SIDE: side[rows]}))
                if table is None:  # its width and dtype follow from the parts: old vectors alone stay as they are
                    table = np.lib.format.open_memmap(part, mode="w+", dtype=held.dtype, shape=(len(old), held.shape[1]))
                table[rows], spread[rows] = held, values
                bar.update(len(held))
        assert table is not None  # there are rows: h.check
        table.flush()
        del table
        if sigma is not None:
            vectors.save(sigma, spread)
    return len(old)


def _plain(count: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The blocks of so many rows, without anything carried over."""
    nothing = np.zeros(0, dtype=np.float32)
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count)), nothing, np.ones(1, dtype=np.float32)
