"""Rows of vectors that cannot be used: of which kind, how many, which; so that they are refused by name, or left out.

A row is counted once, under the first kind that holds. Legend: N rows, D dimensions, K rows of a kind.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fct.errors import BadInput

NULL, LENGTH, HOLE = "no vector (null)", "a vector of another length", "a null coordinate"
NAN, ZERO, BEYOND = "NaN or infinity", "a zero-norm vector", "numbers beyond float32"
OVERFLOWED = f"numbers that overflowed float16 (beyond {np.finfo(np.float16).max:,.0f}; write float32, or scale before the cast)"
SHORT, LONG = "a norm whose square is zero in float32", "a norm whose square is infinite in float32"
SMALL, LARGE = "a norm of less than a millionth of the median", "a norm of more than a million times the median"
FAR = 1e6  # times the median norm
FEWEST = 3  # rows whose median says what is usual
SHOWN = 8
NUMBERS = 1 << 22  # looked at at once
LEAST, MOST = float(np.finfo(np.float32).tiny) ** 0.5, float(np.finfo(np.float32).max) ** 0.5


@dataclass(frozen=True)
class Flaws:
    """The rows of an array that cannot be used. ``name``: what the user calls it; ``count``: N; ``kinds``: kind → (K,) ascending rows."""

    name: str
    count: int
    kinds: dict[str, np.ndarray]

    @property
    def bad(self) -> np.ndarray:
        """(N,) bool: the rows of any kind."""
        found = np.zeros(self.count, dtype=bool)
        for rows in self.kinds.values():
            found[rows] = True
        return found

    def refuse(self, ids: np.ndarray | None = None) -> None:
        """Say all kinds with their rows (and their ids (N,), where they are known) in one sentence (:class:`BadInput`); nothing if none."""
        if not self.kinds:
            return
        todo = "correct these rows or leave them out (--skip-bad, if the command has that option)"
        if len(self.kinds) == 1:
            ((kind, rows),) = self.kinds.items()
            many = f"{len(rows):,} of {self.count:,} rows" if len(rows) > 1 else None
            raise BadInput(f"{self.name} contains {kind}", got=many, where=_named(rows, ids), todo=todo)
        said = ", ".join(f"{kind} in {_named(rows, ids)} ({len(rows):,} in all)" for kind, rows in self.kinds.items())
        raise BadInput(f"{self.name} contains rows that cannot be used", got=f"of {self.count:,} rows {said}", todo=todo)

    def listed(self, ids: np.ndarray | None = None) -> list[tuple[str, str]]:
        """(id or row, kind) of every row that cannot be used, by kind."""
        return [(f"row {row}" if ids is None else str(ids[row]), f"{self.name}: {kind}") for kind in self.kinds for row in self.kinds[kind]]


def _named(rows: np.ndarray, ids: np.ndarray | None) -> str:
    shown = [f"{row}" + (f" ({str(ids[row])[:64]})" if ids is not None and row < len(ids) else "") for row in rows[:SHOWN].tolist()]
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(shown)}{more}"


def find(
    name: str, array: np.ndarray, known: Mapping[str, np.ndarray] | None = None, *, directions: bool = True, alike: bool = False
) -> Flaws:
    """Look at every row of ``array`` (N, D), block by block.

    Args:
        known: kind → rows that are known to be bad, whose numbers mean nothing.
        directions: whether a row is to have a direction (side-information need not).
        alike: whether its length is to be one that float32 can compare with the others': for whole arrays at the door, not for parts.
    """
    kinds = {kind: np.asarray(rows) for kind, rows in (known or {}).items() if len(rows)}
    open_, norms = np.ones(len(array), dtype=bool), np.empty(len(array))
    for rows in kinds.values():
        open_[rows] = False

    def take(kind: str, rows: np.ndarray) -> None:
        rows = rows[open_[rows]] if len(rows) else rows
        if len(rows):
            kinds[kind] = np.sort(np.concatenate([kinds[kind], rows])) if kind in kinds else rows
            open_[rows] = False

    step = max(1, NUMBERS // max(1, array.shape[1]))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        norms[start : start + step], odd = _norms(block)
        if len(odd):
            rows = np.asarray(block[odd], dtype=np.float64)
            finite, held = np.isfinite(rows).all(axis=1), np.abs(rows).max(axis=1)
            take(OVERFLOWED if array.dtype == np.float16 else NAN, start + odd[np.isinf(rows).any(axis=1)])
            take(NAN, start + odd[~finite])
            take(BEYOND, start + odd[held > np.finfo(np.float32).max])
        if alike and array.dtype.kind == "f":  # what a cast that saturates leaves
            full = np.flatnonzero(norms[start : start + step] >= np.finfo(np.float16).max)
            take(OVERFLOWED, start + full[(np.abs(block[full]) == np.finfo(np.float16).max).any(axis=1)])
        _forget(array)
    if directions:
        take(ZERO, np.flatnonzero(norms == 0))
    if directions and alike:
        take(SHORT, np.flatnonzero(norms < LEAST))
        take(LONG, np.flatnonzero(norms > MOST))
        usual = float(np.median(norms[open_])) if open_.sum() >= FEWEST else np.nan
        take(SMALL, np.flatnonzero(norms < usual / FAR))
        take(LARGE, np.flatnonzero(norms > usual * FAR))
    return Flaws(name, len(array), kinds)


def _norms(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) float64 norms of ``block`` (n, D), and (K,) rows of which float32's squares say nothing: zero, NaN, infinite, tiny, huge."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rows = np.asarray(block, dtype=np.float32)
        squares = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
        norms = np.sqrt(squares)
        odd = np.flatnonzero(~((squares > 1e-30) & (squares < 1e37)))
        if len(odd):
            exact = np.asarray(block[odd], dtype=np.float64)
            largest = np.abs(exact).max(axis=1, initial=0.0)
            scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
            norms[odd] = scale * np.sqrt(((exact / scale[:, None]) ** 2).sum(axis=1))
    return norms, odd


def _forget(array: np.ndarray) -> None:
    """Give back the pages of a memory-mapped file that were only read, so that checking 1,000,000 rows does not fill the memory."""
    pages = getattr(array, "_mmap", None)
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def together(found: Sequence[Flaws]) -> np.ndarray | None:
    """(N,) bool: the rows that are usable in all of several arrays whose rows correspond; None where all are, or the lengths differ."""
    counts = {one.count for one in found}
    if len(counts) != 1 or not any(one.kinds for one in found):
        return None
    return ~np.logical_or.reduce([one.bad for one in found])
