"""What may stay in which split: no twins between split groups, no unseen name in training, a match for every query.

Legend: N items, D = 1024 pixels of ink.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from fct.datasets.items import EVALUATED, GROUPS, Item
from fct.datasets.names import spellings
from fct.errors import FctError

BLOCK = 2048
CANARY_COSINE = 0.8  # canaries must be told apart, by far


def directions(inks: np.ndarray, centred: bool) -> np.ndarray:
    """uint8 (N, D) → float32 rows of norm 1 (zero rows stay zero); centred: the cosine becomes a correlation."""
    rows = inks.astype(np.float32)
    if centred:
        rows -= rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def near_duplicates(inks: np.ndarray, of: np.ndarray, cosine: float, centred: bool = False, bar: tqdm | None = None) -> np.ndarray:
    """For each row of ``inks`` (N, D) whether some row of ``of`` (M, D) has a larger cosine than ``cosine``: bool (N,)."""
    found = np.zeros(len(inks), bool)
    for start in range(0, len(of), BLOCK):
        right = directions(of[start : start + BLOCK], centred).T
        for at in range(0, len(inks), BLOCK):
            rows = slice(at, at + BLOCK)
            found[rows] |= (directions(inks[rows], centred) @ right).max(axis=1) > cosine
        if bar is not None:
            bar.update(len(inks) * right.shape[1])
    return found


def _drop(keep: np.ndarray, rows: Iterable[int], items: list[Item], reason: str, removed: dict[str, Counter[str]]) -> None:
    for row in rows:
        if keep[row]:
            keep[row] = False
            removed[reason][items[row].split] += 1


def clean(
    items: list[Item], inks: np.ndarray, pixels: list[str], cosine: float, *, blank: bool, centred: bool, pool: int, canaries: int
) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """Decide which items stay.

    In this order: blank drawings go (``blank``); of equal pixels in one split, source and class one stays; of near-duplicates in two split
    groups the one in the group of :data:`GROUPS` that comes first stays; canaries must differ clearly from each other; classes without
    training images go, and in the evaluated splits classes without two sources (without sources: two images); the pool is cut to size.

    Args:
        items: N items; those of the pool and the canaries in the order in which they are taken.
        inks: uint8 (N, D).
        pixels: N digests of the pixels.
        cosine: above it two images are near-duplicates.
        centred: compare correlations: photographs are grey all over, so their plain cosines are always high.
        pool, canaries: how many of each are wanted.

    Returns:
        keep, bool (N,), and how many were removed: reason → split → count.
    """
    removed: dict[str, Counter[str]] = defaultdict(Counter)
    keep = np.ones(len(items), bool)
    if blank:
        _drop(keep, np.flatnonzero(~inks.any(axis=1)), items, "blank", removed)
    seen: set[tuple[str, ...]] = set()
    for row, item in enumerate(items):
        key = (item.split, item.source, item.label, pixels[row])
        if keep[row] and key in seen:
            _drop(keep, [row], items, "exact_duplicate", removed)
        seen.add(key)
    split = np.array([item.split for item in items])
    group = np.array([GROUPS[name] for name in split])
    order = list(dict.fromkeys(GROUPS.values()))
    with tqdm(desc="near-duplicates", unit="pair", unit_scale=True, leave=False) as bar:
        for first, name in enumerate(order):
            rows = np.flatnonzero(keep & (group == name))
            earlier = np.flatnonzero(keep & np.isin(group, order[:first]))
            if len(rows) and len(earlier):
                twins = near_duplicates(inks[rows], inks[earlier], cosine, centred, bar)
                there = {pixels[row] for row in earlier}  # equal images of one colour have no direction
                twins |= np.array([pixels[row] in there for row in rows])
                _drop(keep, rows[twins], items, "near_duplicate", removed)
            if name == "canary":
                rows = np.flatnonzero(keep & (group == name))
                chosen = distinct(inks[rows], canaries, min(CANARY_COSINE, cosine), centred)
                _drop(keep, np.delete(rows, chosen), items, "not_taken", removed)
    _matchless(keep, items, removed)
    rows = np.flatnonzero(keep & (split == "pool"))
    _drop(keep, rows[pool:], items, "not_taken", removed)
    return keep, {reason: dict(sorted(counts.items())) for reason, counts in sorted(removed.items())}


def distinct(inks: np.ndarray, count: int, cosine: float, centred: bool) -> list[int]:
    """The first ``count`` rows of ``inks`` (N, D) that are pairwise no more alike than ``cosine``."""
    chosen: list[int] = []
    held = np.empty((min(count, len(inks)), inks.shape[1]), np.float32)
    for row, direction in enumerate(directions(inks, centred)):
        if len(chosen) == count:
            break
        if not chosen or (held[: len(chosen)] @ direction).max() <= cosine:
            held[len(chosen)] = direction
            chosen.append(row)
    return chosen


def _matchless(keep: np.ndarray, items: list[Item], removed: dict[str, Counter[str]]) -> None:
    trained = {item.name for item, kept in zip(items, keep, strict=True) if kept and item.split == "train"}
    known = ("fitting", "validation", "gallery")
    _drop(
        keep,
        [row for row, item in enumerate(items) if item.split in known and item.name not in trained],
        items,
        "class_not_trained",
        removed,
    )
    alone = [row for row, item in enumerate(items) if item.split in EVALUATED and keep[row]]
    sources: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in alone:
        sources[items[row].split, items[row].name].add(items[row].source or items[row].id)
    _drop(keep, [row for row in alone if len(sources[items[row].split, items[row].name]) < 2], items, "no_match", removed)


def check_leaks(items: list[Item], inks: np.ndarray, cosine: float, centred: bool) -> None:
    """Hold the rules that keep evaluation honest.

    Raises:
        FctError: an unseen class's name in training, fitting, pool or canaries; a source in two parts; near-duplicates across groups.
    """
    unseen = {key for item in items if item.split.endswith("_unseen") for key in spellings(item.name)}
    halves: dict[str, set[str]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split.endswith("_unseen"):
            halves[item.name].add(item.split)
        elif not unseen.isdisjoint(spellings(item.name)):
            raise FctError("an unseen class leaks", got=f"{item.id} shows {item.name}", where=f"the split {item.split}")
        if item.source:
            part = GROUPS[item.split]
            # The pool draws from the train and the fitting packs, canaries from the validation packs.
            parts[item.source].add({"canary": "validation"}.get(part, part))
    for name, found in halves.items():
        if len(found) > 1:
            raise FctError("an unseen class is in two splits", got=name, where=" and ".join(sorted(found)))
    for source, found in parts.items():
        if len(found - {"pool"}) > 1 or ("pool" in found and not found <= {"pool", "train", "fitting"}):
            raise FctError("a source is in two parts", got=source, where=" and ".join(sorted(found)))
    group = np.array([GROUPS[item.split] for item in items])
    order = list(dict.fromkeys(GROUPS.values()))
    for first, name in enumerate(order[:-1]):
        rows, others = np.flatnonzero(group == name), np.flatnonzero(np.isin(group, order[first + 1 :]))
        twins = near_duplicates(inks[rows], inks[others], cosine, centred)
        if twins.any():
            raise FctError("a near-duplicate is in two split groups", got=items[rows[int(np.argmax(twins))]].id)
