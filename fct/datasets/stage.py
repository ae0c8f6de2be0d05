"""The data stage: candidates are drawn or converted, cleaned, checked for leaks, and written with a manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fct import children
from fct.arrays import digests
from fct.arrays.files import whole_folder, write_json
from fct.datasets import folder, icons, splits, torchsets
from fct.datasets.images import ink, write_image
from fct.datasets.items import EVALUATED, SPLITS, Item
from fct.datasets.manifest import FILE, write_manifest
from fct.datasets.packs import DEFAULT_CACHE, fetch_packs
from fct.datasets.settings import DIGITS, ICONS, TORCHVISION, DataSettings
from fct.datasets.sheet import contact_sheet
from fct.device import cores
from fct.errors import BadInput

WORTH_PROCESSES = 2000  # icons: starting processes takes as long as drawing so many
AT_ONCE = 64  # images that a process is given at a time


def prepare(settings: DataSettings, out: Path, npm_cache: Path = DEFAULT_CACHE) -> dict[str, Any]:
    """Make the data: ``images/``, ``manifest.csv``, ``summary.json`` and ``contact_sheet.png`` in ``out``, all or nothing.

    The same settings and source give the same bytes.

    Returns:
        The summary: per split images, classes and sources; what was removed and why; the licence of every source; queries with a match.

    Raises:
        BadInput: the source cannot be used, or gives too few images.
        OperationFailed: the icon packs cannot be fetched, or the disk is full.
        FctError: a leak rule is broken.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / FILE).is_file())):
        raise BadInput("the output folder holds something else, which would be lost", where=out, todo="choose a new or empty folder")
    drawing: Callable[[Item], Callable[[], np.ndarray]]
    notes: list[str] = []
    from_icons = settings.source == ICONS
    from_set = settings.source == DIGITS or settings.source.startswith(TORCHVISION)
    if from_icons:
        packs = icons.read_packs(fetch_packs(npm_cache), settings.packs)
        items = icons.candidates(packs, settings)
        drawing = partial(icons.drawing, packs, size=settings.image_size, mode=settings.mode)
    elif from_set:
        items, pictures, notes = torchsets.candidates(settings)
        drawing = partial(partial, torchsets.convert, pictures, size=settings.image_size, mode=settings.mode)
    else:
        items, paths, notes = folder.candidates(Path(settings.source), settings)
        drawing = partial(partial, folder.convert, paths, size=settings.image_size, mode=settings.mode)
    drawn = Counter(item.split for item in items)
    with whole_folder(out) as part:
        inks, pixels, unread = _write_images(part, items, drawing, beside=from_icons, spare=not (from_icons or from_set))
        if 2 * len(unread) > len(items):
            raise BadInput("more than half of the images cannot be read", got=next(iter(unread.values())), where=settings.source)
        items, unreadable = [one for row, one in enumerate(items) if row not in unread], [items[row].split for row in unread]
        keep, removed = splits.clean(
            items,
            inks,
            pixels,
            settings.near_duplicate_cosine,
            blank=from_icons,
            centred=not from_icons,
            pool=settings.pool_images,
            canaries=settings.canaries,
        )
        for row in np.flatnonzero(~keep):
            _remove(part / items[row].file)
        if unread:
            removed["unreadable"] = dict(sorted(Counter(unreadable).items()))
            notes.append(f"{len(unread)} left out, such as this one: {next(iter(unread.values()))}")
        kept = [items[row] for row in np.flatnonzero(keep)]
        _check_enough(kept, settings)
        short = settings.canaries - sum(item.split == "canary" for item in kept)
        if short > 0 and from_icons:
            raise BadInput(
                "too few icons can be canaries", wanted=settings.canaries, got=settings.canaries - short, todo="lower data.canaries"
            )
        if short > 0:
            notes.append(f"{settings.canaries - short} of {settings.canaries} canaries could be taken")
        splits.check_leaks(kept, inks[keep], settings.near_duplicate_cosine, centred=not from_icons)
        write_manifest(part, kept)
        summary = summarise(settings, drawn, kept, removed, notes)
        write_json(part / "summary.json", summary)
        contact_sheet(part, kept, settings)
    return summary


def _write_images(
    part: Path, items: list[Item], drawing: Callable[[Item], Callable[[], np.ndarray]], *, beside: bool, spare: bool
) -> tuple[np.ndarray, list[str], dict[int, str]]:
    """Ink (M, 1024) and digests of the pixels of the images that were written, and row of ``items`` → why it could not be read.

    Args:
        drawing: item → what makes its picture; ``beside``: in processes of its own, as what draws icons lets no other thread go on.
        spare: leave out what cannot be read; else it is raised.
    """
    inks = np.empty((len(items), 1024), np.uint8)
    pixels: list[str] = []
    unread: dict[int, str] = {}
    many = cores() > 1 and len(items) > WORTH_PROCESSES
    with children.workers(cores()) if beside and many else ThreadPoolExecutor(cores(), "drawing") as pool:
        found = _made(pool, [part / item.file for item in items], map(drawing, items), spare)
        for row, made in enumerate(tqdm(found, "drawing", len(items), unit="image", leave=False)):
            if isinstance(made, str):
                unread[row] = made
                continue
            inks[len(pixels)], digest = made
            pixels.append(digest)
    return inks[: len(pixels)], pixels, unread


def _made(
    pool: Executor, files: list[Path], drawings: Iterable[Callable[[], np.ndarray]], spare: bool
) -> Iterator[tuple[np.ndarray, str] | str]:
    return pool.map(_make, files, drawings, repeat(spare), chunksize=AT_ONCE)


def _make(file: Path, draw: Callable[[], np.ndarray], spare: bool) -> tuple[np.ndarray, str] | str:
    try:
        image = draw()
    except BadInput as error:
        if spare:
            return str(error)
        raise
    write_image(file, image)
    return ink(image), digests.of_bytes(image.tobytes())


def _remove(path: Path) -> None:
    path.unlink()
    with suppress(OSError):  # other images are there
        path.parent.rmdir()


def _check_enough(items: list[Item], settings: DataSettings) -> None:
    for split in ("train", "fitting", "validation", "gallery"):
        classes = len({item.name for item in items if item.split == split})
        if classes < 2:
            raise BadInput(
                f"the split {split} is too small after duplicates are gone", wanted="at least 2 classes", got=classes, where=settings.source
            )


def summarise(
    settings: DataSettings, drawn: Counter[str], items: list[Item], removed: dict[str, dict[str, int]], notes: list[str]
) -> dict[str, Any]:
    """Counts per split, what was removed and why, licences, and the queries that have a match in another source (or at all)."""
    by_split: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_split[item.split].append(item)
    table = {
        split: {
            "candidates": drawn[split],
            "images": len(by_split[split]),
            "classes": len({item.label for item in by_split[split] if item.label}),
            "names": len({item.name for item in by_split[split]}),
            "sources": sorted({item.source for item in by_split[split] if item.source}),
        }
        for split in SPLITS
    }
    queries = {}
    for split in EVALUATED:
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for item in by_split[split]:
            found[item.label][item.source] += 1
        matches = sum(
            1 for item in by_split[split] if found[item.label].total() - (found[item.label][item.source] if item.source else 1) > 0
        )
        queries[split] = {"queries": len(by_split[split]), "with_a_match": matches}
    return {
        "source": settings.source,
        "images": len(items),
        "cross_source": any(item.source for item in items),
        "splits": table,
        "removed": removed,
        "queries": queries,
        "licences": {item.source: item.licence for item in sorted(items, key=lambda item: item.source) if item.source},
        "notes": notes,
    }
