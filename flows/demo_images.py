"""The gallery's images, moved away while the demo's upgrade runs and put back whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.items.arrivals import GALLERY_SPLITS
from registry.workspace import Workspace


def _away(ws: Workspace) -> Path:
    return ws.data.with_name(ws.data.name + ".gallery-away")


def restore(ws: Workspace) -> bool:
    """Bring the gallery's images back, also after a killed run. True when there was something to bring back."""
    away = _away(ws)
    if not away.is_dir():
        return False
    for folder in away.iterdir():
        target = ws.data / "images" / folder.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            folder.rename(target)
    shutil.rmtree(away)
    return True


@contextmanager
def gallery_images_away(ws: Workspace) -> Iterator[None]:
    """The gallery's image folders are really not there inside the block; they come back whatever happens."""
    away = _away(ws)
    away.mkdir()
    try:
        for split in GALLERY_SPLITS:
            folder = ws.data / "images" / split
            if folder.is_dir():
                folder.rename(away / split)
        yield
    finally:
        restore(ws)
