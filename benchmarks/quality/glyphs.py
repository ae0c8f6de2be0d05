"""A set kept apart: printed characters. Class = character, image = how one typeface draws it. No choice of this project was made on it."""

from __future__ import annotations

import io
import shutil
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality import npm
from fct.datasets.images import write_image

SIZE = 32
FACES = """
abril-fatface alegreya amatic-sc anton archivo-black arvo asap baloo-2 bangers barlow-condensed bebas-neue bitter cabin caveat cinzel comfortaa comic-neue
cormorant-garamond courier-prime crimson-text dancing-script domine dosis eb-garamond exo-2 fira-sans fjalla-one fredoka gloria-hallelujah heebo inconsolata
indie-flower inter josefin-sans kalam karla lato libre-baskerville lobster lora merriweather montserrat nunito old-standard-tt orbitron oswald pacifico patrick-hand
playfair-display poppins press-start-2p quicksand raleway righteous roboto roboto-mono roboto-slab rokkitt sacramento satisfy shadows-into-light slabo-27px
source-code-pro space-mono special-elite teko titan-one ubuntu vollkorn zilla-slab
""".split()  # noqa: SIM905
CHARACTERS = [chr(code) for code in (*range(0x21, 0x7F), *range(0xC0, 0x100))]


def draw(folder: Path) -> Path:
    """``folder``/character/typeface.png, 32×32, black on white, one size and one baseline for all characters of a typeface.

    Raises:
        OperationFailed: npm is missing, or a package cannot be fetched (:func:`benchmarks.quality.npm.pack`).
    """
    if (folder / "done").exists():
        return folder / "images"
    shutil.rmtree(folder, ignore_errors=True)
    for face in FACES:
        font = ImageFont.truetype(io.BytesIO(_fetch(face)), 20)
        missing = _pixels(font, "\uffff")
        for character in CHARACTERS:
            pixels = _pixels(font, character)
            if (pixels == missing).all() or (pixels > 250).all():
                continue
            name = unicodedata.name(character).lower().replace(" ", "-")
            write_image(folder / "images" / name / f"{face}.png", pixels[None])
    (folder / "done").touch()
    return folder / "images"


def _pixels(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """(32, 32) uint8."""
    image = Image.new("L", (SIZE, SIZE), 255)
    ImageDraw.Draw(image).text((SIZE // 2, 24), character, fill=0, font=font, anchor="ms")
    return np.asarray(image)


def _fetch(face: str) -> bytes:
    """The Latin regular of a typeface of the npm scope @fontsource."""
    with npm.pack(f"@fontsource/{face}@5") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith("-normal.woff") and "-latin-" in name)
        regular = [name for name in names if "-latin-400-" in name] or names
        return npm.read(archive, regular[0])
