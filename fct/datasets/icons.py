"""Icons: which drawings go into which split, and how one is drawn."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fct.datasets import names
from fct.datasets.images import from_pil
from fct.datasets.items import Item, lot
from fct.datasets.packs import PACKS, PART_OF, Box, Pack, read_pack
from fct.datasets.settings import DataSettings
from fct.errors import BadInput

Drawings = dict[str, dict[str, list[str]]]  # concept → pack → icons, best first

# Near-duplicates are known only after drawing, so more candidates are drawn than the pool and the canaries need.
POOL_SPARE = 1.3
CANARY_SPARE = 6
LEAST_PACKS = {"train": 1, "fitting": 1, "validation": 2, "test": 2}


def read_packs(packs: Path, wanted: Iterable[str]) -> dict[str, Pack]:
    """Read the wanted packs (none named: all).

    Raises:
        BadInput: an unknown pack, or too few packs of one part to evaluate across packs.
    """
    chosen = tuple(wanted) or tuple(sorted(PART_OF))
    for name in chosen:
        if name not in PART_OF:
            raise BadInput("data.packs names an unknown pack", wanted=" ".join(sorted(PART_OF)), got=name)
    for part, least in LEAST_PACKS.items():
        if sum(PART_OF[name] == part for name in set(chosen)) < least:
            raise BadInput(
                f"data.packs has too few {part} packs", wanted=f"at least {least} of {' '.join(PACKS[part])}", got=" ".join(chosen)
            )
    return {name: read_pack(packs, name) for name in sorted(set(chosen))}


def drawings(packs: dict[str, Pack], settings: DataSettings) -> Drawings:
    """Concept → pack → at most ``max_drawings`` icons; of drawings that differ in size only, the one nearest to 24 pixels."""
    found: dict[str, dict[str, dict[str, tuple[float, str]]]] = defaultdict(lambda: defaultdict(dict))
    for pack in packs.values():
        for icon in pack.icons:
            concept, style, size = names.parse(pack.name, icon)
            if names.dropped(concept):
                continue
            styles = found[concept][pack.name]
            choice = (abs((size or names.USUAL_SIZE) - names.USUAL_SIZE), icon)
            styles[style] = min(styles.get(style, choice), choice)
    return {
        concept: {
            pack: sorted((icon for _, icon in styles.values()), key=lambda icon: lot(settings.seed, pack, icon))[: settings.max_drawings]
            for pack, styles in by_pack.items()
        }
        for concept, by_pack in sorted(found.items())
    }


def classes(drawn: Drawings, settings: DataSettings) -> tuple[list[str], list[str], list[str]]:
    """Choose the (known, validation-unseen, test-unseen) classes.

    Known: drawn in at least ``known_min_packs`` packs, by a train pack, and by two validation and two test packs.
    Unseen: other classes drawn in at least ``unseen_min_packs`` packs and not just another spelling of a known class. A class that only
    the validation packs (or only the test packs) draw twice goes there; the rest is halved by lot, spellings of one concept together.
    """

    def parts(concept: str, part: str) -> int:
        return sum(PART_OF[pack] == part for pack in drawn[concept])

    ranked = sorted(drawn, key=lambda concept: (-len(drawn[concept]), concept))
    known = [
        concept
        for concept in ranked
        if len(drawn[concept]) >= settings.known_min_packs
        and parts(concept, "train") >= 1
        and parts(concept, "validation") >= 2
        and parts(concept, "test") >= 2
    ][: settings.known_classes or None]
    taken = {key for concept in known for key in names.spellings(concept)}
    halves: tuple[list[str], list[str]] = ([], [])
    home: dict[str, int] = {}
    for concept in ranked:
        keys = names.spellings(concept)
        if len(drawn[concept]) < settings.unseen_min_packs or not taken.isdisjoint(keys):
            continue
        possible = [half for half, part in enumerate(("validation", "test")) if parts(concept, part) >= 2]
        related = {home[key] for key in keys if key in home}
        possible = [half for half in possible if related <= {half}]
        if settings.unseen_classes:
            possible = [half for half in possible if len(halves[half]) < (settings.unseen_classes + half) // 2]
        if not possible:
            continue
        half = possible[int(lot(settings.seed, "half", min(keys)), 16) % len(possible)]
        halves[half].append(concept)
        home.update(dict.fromkeys(keys, half))
    return sorted(known), sorted(halves[0]), sorted(halves[1])


def candidates(packs: dict[str, Pack], settings: DataSettings) -> list[Item]:
    """Every icon that may enter a split; the pool and the canaries with some to spare, in the order in which they are taken.

    Raises:
        BadInput: the settings leave no known class.
    """
    drawn = drawings(packs, settings)
    known, *unseen = classes(drawn, settings)
    if not known:
        raise BadInput("no class is drawn in enough packs", wanted=f"{settings.known_min_packs} packs", todo="lower data.known_min_packs")
    taken = {key for concept in (*known, *unseen[0], *unseen[1]) for key in names.spellings(concept)}
    split_of = {"train": "train", "fitting": "fitting", "validation": "validation", "test": "gallery"}
    items: list[Item] = []
    other: dict[str, list[tuple[int, str, Item]]] = {"pool": [], "canary": []}

    def item(pack: str, icon: str, concept: str, split: str) -> Item:
        # by class where classes count; ten thousand folders with one image each cost every tool that walks through them
        place = f"{pack}/{icon}" if split in other else f"{concept}/{pack}--{icon}"
        return Item(f"{pack}:{icon}", concept, pack, split, packs[pack].licence, f"images/{split}/{place}.png")

    known_set, halves = set(known), (set(unseen[0]), set(unseen[1]))
    for concept, by_pack in drawn.items():
        free = taken.isdisjoint(names.spellings(concept))
        for pack, icons in by_pack.items():
            part = PART_OF[pack]
            split = ""
            if concept in known_set:
                split = split_of[part]
            elif concept in halves[0] and part == "validation":
                split = "validation_unseen"
            elif concept in halves[1] and part == "test":
                split = "gallery_unseen"
            elif free and part in ("train", "fitting"):
                split = "pool"
            elif free and part == "validation":
                split = "canary"
            for rank, icon in enumerate(icons if split else ()):
                if split in other:  # first drawings of every concept come before second ones: more concepts
                    other[split].append((rank, lot(settings.seed, split, pack, icon), item(pack, icon, concept, split)))
                else:
                    items.append(item(pack, icon, concept, split))
    room = {"pool": math.ceil(POOL_SPARE * settings.pool_images), "canary": CANARY_SPARE * settings.canaries}
    for split, found in other.items():
        items += [entry for *_, entry in sorted(found, key=lambda row: row[:2])[: room[split]]]
    return items


def drawing(packs: dict[str, Pack], item: Item, size: int, mode: str) -> Callable[[], np.ndarray]:
    """What draws one icon (:func:`render`); another process can be given it, for it holds no more than that icon."""
    return partial(render, *packs[item.source].icons[item.id.split(":", 1)[1]], size, mode)


def render(body: str, view: Box, size: int, mode: str) -> np.ndarray:
    """Draw the body of an SVG on white, its view box centred in a square: uint8 (C, size, size)."""
    import resvg_py

    left, top, width, height = view
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" width="{size}" height="{size}">{body}</svg>'
    # Looking for the system's fonts takes most of the time, and no icon has text.
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        return from_pil(image, size, mode)
