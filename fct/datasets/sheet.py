"""The contact sheet: one picture on which a person sees what the splits hold."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fct.datasets.items import SPLITS, UNLABELLED, Item, lot
from fct.datasets.settings import DataSettings

FILE = "contact_sheet.png"
COLUMNS, ROWS = 13, 3
CELL, PICTURE, MARGIN, LABEL = 68, 48, 32, 150
TITLE, BAND, HEAD = 76, 50, 30
PAPER, INK, SOFT, LINE = "#ffffff", "#1b1f24", "#6a737d", "#d8dee4"
# Training side blue, validation side amber, gallery side green, canaries violet.
COLOURS = {
    "train": "#1f6feb",
    "pool": "#79a9f5",
    "fitting": "#0b4aa8",
    "validation": "#bf8700",
    "validation_unseen": "#e0b64a",
    "gallery": "#1a7f37",
    "gallery_unseen": "#66b57c",
    "canary": "#8250df",
}
MEANING = {
    "train": "known classes; the embedders learn from these",
    "pool": "other names, unlabelled",
    "fitting": "known classes in images that no embedder saw; h is fitted on these",
    "validation": "known classes",
    "validation_unseen": "classes that nothing saw",
    "gallery": "known classes; the final evaluation",
    "gallery_unseen": "classes that nothing saw; the final evaluation",
    "canary": "other names, unlabelled, easily told apart",
}


def contact_sheet(root: Path, items: list[Item], settings: DataSettings) -> None:
    """Draw ``root/contact_sheet.png``: a band a split, in it classes × sources (without labels or sources: a selection)."""
    bands = {split: [item for item in items if item.split == split] for split in SPLITS}
    bands = {split: found for split, found in bands.items() if found}
    grids = {split: _grid(split, found, items) for split, found in bands.items()}
    heads = {split: HEAD if bands[split][0].source and split not in UNLABELLED else 0 for split in bands}
    height = TITLE + sum(BAND + heads[split] + CELL * len(grids[split]) for split in bands) + MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + LABEL + COLUMNS * CELL, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    big, middle, small, tiny = (ImageFont.load_default(size) for size in (24, 15, 13, 10))
    pen.text((MARGIN, 22), "Forward-compatible releases: the data", INK, big)
    what = "icon packs" if settings.source == "icons" else Path(settings.source).name
    pen.text((MARGIN, 54), f"{len(items):,} images of {settings.image_size} by {settings.image_size} pixels from {what}", SOFT, small)
    top = TITLE
    for split, found in bands.items():
        pen.rectangle((MARGIN, top + 16, MARGIN + 6, top + 34), COLOURS[split])
        pen.text((MARGIN + 14, top + 16), split.replace("_", " "), INK, middle)
        pen.text((MARGIN + LABEL, top + 18), f"{_counts(found)}: {MEANING[split]}", SOFT, small)
        pen.line((MARGIN, top + 42, sheet.width - MARGIN, top + 42), LINE)
        top += BAND
        if heads[split]:
            sources = sorted({item.source for item in found})[:COLUMNS]
            for column, source in enumerate(sources):
                centre = MARGIN + LABEL + column * CELL + CELL // 2
                for line, word in enumerate(_two_lines(source)):
                    pen.text((centre, top + 6 + 12 * line), word, SOFT, tiny, anchor="ma")
            top += HEAD
        for name, row in grids[split]:
            pen.text((MARGIN + 14, top + CELL // 2), name[:20], INK, small, anchor="lm")
            for column, item in enumerate(row):
                left, upper = MARGIN + LABEL + column * CELL, top
                if item is None:
                    x, y = left + CELL // 2, upper + CELL // 2
                    pen.ellipse((x - 2, y - 2, x + 2, y + 2), LINE)
                    continue
                corner = (left + (CELL - PICTURE) // 2, upper + (CELL - PICTURE) // 2)
                with Image.open(root / item.file) as picture:
                    sheet.paste(picture.convert("RGB").resize((PICTURE, PICTURE), Image.Resampling.BICUBIC), corner)
            top += CELL
    sheet.save(root / FILE)


def _counts(items: list[Item]) -> str:
    parts = [f"{len(items):,} images"]
    labels, sources = len({item.label for item in items if item.label}), len({item.source for item in items if item.source})
    if labels:
        parts.append(f"{labels} classes")
    if sources:
        parts.append(f"{sources} packs")
    return ", ".join(parts)


def _grid(split: str, found: list[Item], items: list[Item]) -> list[tuple[str, list[Item | None]]]:
    """Rows of a band: (name, images); None where a source has no drawing."""
    if split in UNLABELLED:
        count = min(len(found), 2 * COLUMNS)
        chosen: list[Item | None] = [found[place * len(found) // count] for place in range(count)]
        return [("", chosen[start : start + COLUMNS]) for start in range(0, count, COLUMNS)]
    by_class: dict[str, dict[str, Item]] = defaultdict(dict)
    for item in found:
        by_class[item.name].setdefault(item.source or item.id, item)
    # The known classes shown are the same in every band: those that most sources draw.
    width: dict[str, set[str]] = defaultdict(set)
    for item in items:
        width[item.name].add(item.source or item.id)
    names = sorted(by_class, key=lambda name: (-len(width[name]), lot(0, name)))[:ROWS]
    if not found[0].source:
        sources = {name: list(by_class[name])[:COLUMNS] for name in names}
    else:
        sources = dict.fromkeys(names, sorted({item.source for item in found})[:COLUMNS])
    return [(name, [by_class[name].get(source) for source in sources[name]]) for name in names]


def _two_lines(name: str) -> list[str]:
    words = name.split("-")
    return [name] if len(name) <= 10 or len(words) == 1 else ["-".join(words[:-1]) + "-", words[-1]]
