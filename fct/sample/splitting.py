"""One split of a user's rows: fitting rows for h, evaluation rows that h never sees.

Rows of one source, and copies (:mod:`fct.search.copies`), are never on both sides. With labels a share of the classes is kept from h entirely (unseen classes), because
classes that h was fitted on flatter it. Legend: N rows given, F fitting rows, V evaluation rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fct.errors import BadInput

EVALUATION_SHARE, EVALUATION_ROWS, FITTING_ROWS, FEWEST = 0.5, 5000, 12_000, 40
UNSEEN_CLASSES, UNSEEN_ROWS, FEWEST_CLASSES = 0.2, 0.4, 10  # shares of classes and of evaluation rows; fewer classes: none is held out


@dataclass(frozen=True)
class Split:
    """Row numbers, sorted: ``fitting`` (F,) and ``evaluation`` (V,); ``unseen`` (V,) bool, rows of classes that h never sees.
    ``left_out``: rows used for neither (unseen classes in fitting sources, and what is beyond the limits)."""

    fitting: np.ndarray
    evaluation: np.ndarray
    unseen: np.ndarray
    left_out: int


def _numbers(name: str, values: np.ndarray, rows: int) -> np.ndarray:
    if np.shape(values) != (rows,):
        raise BadInput(f"{name} have the wrong length", wanted=rows, got=" × ".join(map(str, np.shape(values))))
    return np.unique(np.asarray(values), return_inverse=True)[1]


def class_numbers(labels: np.ndarray | None, rows: int) -> np.ndarray | None:
    """(N,) class numbers from labels of any kind; −1 where a label is negative or empty, which means unknown.

    Raises:
        BadInput: another length, or all labels equal: nothing could be wrong then.
    """
    if labels is None:
        return None
    codes = _numbers("labels", labels, rows)
    values = np.asarray(labels)
    unknown = values < 0 if values.dtype.kind in "if" else values.astype(str) == ""
    if len(np.unique(codes[~unknown])) < 2:
        raise BadInput("the labels name fewer than two classes", wanted="at least two", todo="leave labels out, or check them")
    return np.where(unknown, -1, codes)


def unsplit(sources: np.ndarray | None, ids: np.ndarray | None, rows: int) -> np.ndarray:
    """(N,) numbers of what is never split: sources, without them items, without ids rows.

    Raises:
        BadInput: another length, or one item in two sources.
    """
    items = np.arange(rows) if ids is None else _numbers("ids", ids, rows)
    if sources is None:
        return items
    units = _numbers("sources", sources, rows)
    units = np.where(np.asarray(sources).astype(str) == "", units.max(initial=0) + 1 + items, units)  # without a source an item is its own
    first = np.zeros(items.max() + 1, dtype=np.int64)
    first[items] = units  # any one source of each item
    apart = np.flatnonzero(first[items] != units)
    if len(apart):
        raise BadInput("one id occurs in two sources", where=f"row {apart[0]}", todo="give both rows the same source, or different ids")
    return units


def fill(units: np.ndarray, sizes: np.ndarray, most: float, enough: float = 0.99) -> list[int]:
    """The first of ``units`` that together have at most ``most`` rows; more than the share ``enough`` of them will do."""
    chosen, total = [], 0
    for unit in units.tolist():
        if total + sizes[unit] <= most:
            chosen.append(unit)
            total += int(sizes[unit])
        if total > enough * most:
            break
    return chosen


def split(rows: int, labels: np.ndarray | None, units: np.ndarray, *, seed: int) -> Split:
    """Split ``rows`` into fitting and evaluation.

    Args:
        labels: (N,) class numbers, −1 where unknown; None without labels.
        units: (N,) numbers of what is never split (a source; without sources an item; with all its copies).

    Raises:
        BadInput: too few rows, or too few sources to leave some on both sides.
    """
    if rows < FEWEST:
        raise BadInput("there are too few rows for a trial", wanted=f"at least {FEWEST}", got=rows)
    rng = np.random.default_rng(seed)
    target = min(int(rows * EVALUATION_SHARE), EVALUATION_ROWS)
    held = np.zeros(rows, dtype=bool)
    if labels is not None:
        counts = np.bincount(labels[labels >= 0], minlength=1)
        usable = rng.permutation(np.flatnonzero(counts >= 2))
        if len(usable) >= FEWEST_CLASSES:
            held = np.isin(labels, usable[: round(UNSEEN_CLASSES * len(usable))])
    sizes = np.bincount(units)
    only_held = np.bincount(units, weights=held) == sizes  # sources of unseen classes alone
    seen = rng.permutation(np.flatnonzero(sizes))
    chosen = fill(seen[only_held[seen]], sizes, UNSEEN_ROWS * target)
    chosen += fill(seen[~only_held[seen]], sizes, target - sizes[chosen].sum())
    if len(chosen) < 2:  # a query's own source is hidden from it: one source alone answers nothing
        chosen = np.argsort(np.where(sizes, sizes, rows + 1), kind="stable")[:2].tolist()
    inside = np.isin(units, chosen)
    fitting = np.flatnonzero(~inside & ~held & ~only_held[units])
    if len(fitting) < FEWEST // 4:
        raise BadInput(
            "copies and sources cannot be split into fitting and evaluation rows",
            wanted="at least 4 of like size",
            got=f"{int((sizes > 0).sum())}, the largest with {int(sizes.max())} of {rows} rows",
            todo="give finer sources, or none",
        )
    if len(fitting) > FITTING_ROWS:
        fitting = np.sort(rng.choice(fitting, FITTING_ROWS, replace=False))
    evaluation = np.flatnonzero(inside)
    return Split(fitting, evaluation, held[evaluation], rows - len(fitting) - len(evaluation))
