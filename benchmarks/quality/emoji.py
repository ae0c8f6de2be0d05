"""A set kept apart: emoji in colour. Class = emoji, image = how one designer draws it. No choice of this project was made on it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

from benchmarks.quality import npm
from fct.datasets.icons import render
from fct.datasets.images import write_image
from fct.datasets.packs import Box, icons_of

SIZE = 32
LEAST = 9  # a class is drawn in so many of the sets
SETS = {
    "emojione": "1.2.3",
    "emojione-monotone": "1.2.1",
    "emojione-v1": "1.2.3",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6",
    "fxemoji": "1.2.2",
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "openmoji": "1.2.29",
    "streamline-emojis": "1.2.4",
    "twemoji": "1.2.5",
}


def draw(folder: Path) -> Path:
    """``folder``/emoji/set.png, 32×32 RGB on white.

    Raises:
        OperationFailed: npm is missing, or a package cannot be fetched (:func:`benchmarks.quality.npm.pack`).
    """
    if (folder / "done").exists():
        return folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    drawn = {name: _fetch(name) for name in SETS}
    counts = Counter(emoji for icons in drawn.values() for emoji in icons)
    for name, icons in drawn.items():
        for emoji, (body, view) in icons.items():
            if counts[emoji] >= LEAST:
                write_image(folder / "images" / emoji / f"{name}.png", render(body, view, SIZE, "RGB"))
    (folder / "done").touch()
    return folder / "images"


def _fetch(name: str) -> dict[str, tuple[str, Box]]:
    """The drawings of one set of the npm scope @iconify-json."""
    with npm.pack(f"@iconify-json/{name}@{SETS[name]}") as archive:
        return icons_of(json.loads(npm.read(archive, "package/icons.json")))
