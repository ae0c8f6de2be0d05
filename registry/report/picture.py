"""One search as a picture: the query on the left, its answers before and after on the right."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fct.arrays.files import whole_file
from fct.errors import BadInput
from registry.report.review import plain

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from fct.datasets.walk import Walk

SHOWN = 5
THUMBNAIL = 112
FRAME = 5
GAP = 22
LABEL = 34
MARGIN = 40
QUERY = 184
PAPER, INK, SOFT, LINE = "#ffffff", "#1c2430", "#667085", "#d5dae1"
RIGHT, WRONG, RIGHT_PAPER, WRONG_PAPER = "#15803d", "#c62828", "#f0faf3", "#fdf1f1"


def open_image(path: Path, most: int, *, enlarge: bool = False, walked: Walk | None = None) -> Image | None:
    """The image, on white, within a square of ``most`` pixels; None where it cannot be read, or may not.

    Args:
        enlarge: whether a smaller one is scaled up to fit. walked: which files may be read; None for every plain one.
    """
    from PIL import Image, ImageOps

    from fct.datasets.images import open_plain, unpack

    def fitted(image: Image.Image) -> Image.Image:
        image = ImageOps.exif_transpose(image)
        grey = image.mode in ("1", "L")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if grey else "RGB")
        scale = most / max(image.size)
        if scale < 1 or enlarge:
            image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
        return image

    try:
        with open_plain(path) if walked is None else walked.open(path) as file:
            return unpack(file, path, most, fitted)
    except BadInput:
        return None


@lru_cache
def _font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


def _fit(text: str, font: FreeTypeFont, width: int) -> str:
    """As much of the text as fits."""
    text = plain(text, 300)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _tile(canvas: Image, draw: ImageDraw, at: tuple[int, int], side: int, path: Path | None, frame: str, paper: str, thick: int) -> None:
    """One framed image at its top left corner, or an empty frame that says so."""
    x, y = at
    box = (x - thick - 3, y - thick - 3, x + side + thick + 2, y + side + thick + 2)
    draw.rounded_rectangle(box, radius=10, outline=frame, width=thick, fill=paper)
    image = open_image(path, side, enlarge=True) if path is not None else None
    if image is None:
        draw.text((x + side / 2, y + side / 2), "no image", font=_font(14), fill=SOFT, anchor="mm")
        return
    canvas.paste(image, (x + (side - image.width) // 2, y + (side - image.height) // 2))


def _row(canvas: Image, draw: ImageDraw, x: int, y: int, title: str, answers: list[tuple[Path | None, str, bool]]) -> None:
    width = SHOWN * (THUMBNAIL + GAP) - GAP
    hits = sum(right for _, _, right in answers)
    count = f"{hits} of {len(answers)} right" if answers else "no answers"
    draw.text((x + width + FRAME + 2, y), count, font=_font(15), fill=SOFT, anchor="ra")
    draw.text((x - FRAME - 3, y - 1), _fit(title, _font(17, True), width - 140), font=_font(17, True), fill=INK, anchor="la")
    top = y + 38
    for place, (path, label, right) in enumerate(answers):
        left = x + place * (THUMBNAIL + GAP)
        colour, paper = (RIGHT, RIGHT_PAPER) if right else (WRONG, WRONG_PAPER)
        _tile(canvas, draw, (left, top), THUMBNAIL, path, colour, paper, FRAME)
        mark = "✓ " if right else "✗ "
        text = _fit(label, _font(14), THUMBNAIL + 10 - int(_font(14).getlength(mark)))
        draw.text((left + THUMBNAIL / 2, top + THUMBNAIL + FRAME + 9), mark + text, font=_font(14), fill=colour, anchor="ma")


def search_picture(
    query: Path,
    old: list[tuple[Path | None, str, bool]],
    new: list[tuple[Path | None, str, bool]],
    out: Path,
    title: str,
    old_title: str,
    new_title: str,
) -> None:
    """Write a PNG: the query, and its first five answers in two rows; right ones framed green, wrong ones red, labels below.

    Args:
        query: image file of the query.
        old, new: answers best first: (image file or None, label, whether it is right).
        out: the PNG to write, whole or not at all; the same input gives the same bytes.

    Raises:
        BadInput: the query's image cannot be read.
    """
    from PIL import Image, ImageDraw

    if open_image(query, QUERY) is None:
        raise BadInput("the image of the query cannot be read", where=query)
    row = 38 + THUMBNAIL + LABEL + 22
    left = MARGIN + QUERY + 56
    width = left + SHOWN * (THUMBNAIL + GAP) - GAP + MARGIN
    top = MARGIN + 58
    height = top + 2 * row + MARGIN - 18
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN - 5, MARGIN - 8), _fit(title, _font(23, True), width - 2 * MARGIN), font=_font(23, True), fill=INK, anchor="la")
    middle = top + (2 * row - 22 - QUERY) // 2
    _tile(canvas, draw, (MARGIN, middle), QUERY, query, LINE, PAPER, 2)
    draw.text((MARGIN + QUERY / 2, middle + QUERY + 14), "query", font=_font(16), fill=SOFT, anchor="ma")
    draw.line((left - 30, top + 4, left - 30, top + 2 * row - 30), fill=LINE, width=2)
    _row(canvas, draw, left, top, old_title, old[:SHOWN])
    _row(canvas, draw, left, top + row, new_title, new[:SHOWN])
    with whole_file(out) as part:
        canvas.save(part, format="PNG", optimize=True)
