"""Reading images of any common kind as uint8 arrays on white.

Legend: N images, C channels (1 grey, 3 RGB), H = W = size in pixels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Condition

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fct.device import memory
from fct.errors import BadInput

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
# What is opened, by content. Pillow knows forty kinds more; EPS among them starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
MAX_PIXELS = 128_000_000  # of a file; a small one can unpack to gigabytes
MAX_UPLOADED = 16_000_000  # of what is sent to a server
STRIP = 1 << 20  # pixels that are converted at once
CHANNELS = {"L": 1, "RGB": 3}
# Bytes a pixel that reading takes at its height, decoder and conversion together (`python -m benchmarks.images`)
COST = {"PNG": 10, "JPEG": 10, "WEBP": 18, "GIF": 10, "BMP": 10, "TIFF": 12, "AVIF": 12, "JPEG2000": 30}
ROOM = 0.25  # share of this machine's memory that all images being read may take together


class Room:
    """Memory that threads share: a piece is begun when what it needs is free. What needs more than there is, is worked on alone."""

    def __init__(self, size: int):
        self._size, self._taken, self._change = size, 0, Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Hold ``count`` bytes, or all there are."""
        count = min(count, self._size)
        with self._change:
            self._change.wait_for(lambda: self._taken + count <= self._size)
            self._taken += count
        try:
            yield
        finally:
            with self._change:
                self._taken -= count
                self._change.notify_all()


@cache
def _room() -> Room:
    return Room(round(ROOM * memory()))


def from_pil(image: Image.Image, size: int, mode: str) -> np.ndarray:
    """Convert an opened image: turned as its EXIF says, centre square, put on white, resized. uint8 (C, size, size)."""
    ImageOps.exif_transpose(image, in_place=True)
    side = min(image.size)
    if image.size != (size, size) and image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    image = _on_white(image, mode)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Of a large image one strip after the other, since each of Pillow's conversions is another image."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        return _strip_on_white(image, mode)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(_strip_on_white(strip, mode), (0, top))
    return whole


def _strip_on_white(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255 to white
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert(mode) if image.mode in ("L", "RGB", "1") else image.convert("RGB").convert(mode)


def read_image(path: str | Path, size: int, mode: str) -> np.ndarray:
    """Read one image file (of an animation, the first picture) as uint8 (C, size, size).

    Raises:
        BadInput: no such file, empty, damaged, not an image, or more than :data:`MAX_PIXELS` pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput("there is no such image", where=path)
    if path.stat().st_size == 0:
        raise BadInput("an image file is empty (0 bytes)", where=path, todo="remove or replace it")
    return _read(path, path, size, mode)


def read_bytes(data: bytes, size: int, mode: str, most: int = MAX_PIXELS) -> np.ndarray:
    """As :func:`read_image`, from the bytes of an image file, of at most ``most`` pixels."""
    if not data:
        raise BadInput("an image is empty (0 bytes)")
    return _read(io.BytesIO(data), None, size, mode, most)


def _read(source: Path | io.BytesIO, where: Path | None, size: int, mode: str, most: int = MAX_PIXELS) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata; what matters is checked below
            with Image.open(source, formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > most:
                    raise Image.DecompressionBombError
                if pixels > MAX_UPLOADED:  # a JPEG unpacks to an eighth of its side at the least, and many times quicker
                    image.draft(None, (8 * size, 8 * size))
                    pixels = image.width * image.height
                with _room().take(pixels * COST[str(image.format)]):
                    return from_pil(image, size, mode)
    except Image.DecompressionBombError as error:
        raise BadInput("an image is too large to unpack safely", wanted=f"at most {most} pixels", where=where) from error
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        said = "it is no image of a known kind" if isinstance(error, UnidentifiedImageError) and where is None else str(error)
        todo = "remove or replace it" if where is not None else None
        raise BadInput(f"an image {'file ' if where else ''}cannot be read", got=said, where=where, todo=todo) from error


def read_images(paths: Sequence[str | Path], size: int, mode: str, title: str = "images") -> np.ndarray:
    """Read many image files as uint8 (N, C, size, size), with a progress bar called ``title``."""
    images = np.empty((len(paths), CHANNELS[mode], size, size), np.uint8)
    for row, path in enumerate(tqdm(paths, title, unit="image", leave=False)):
        images[row] = read_image(path, size, mode)
    return images


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write uint8 (C, H, W) as an 8-bit PNG. Its folder is made; an interruption may leave half a file there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path, format="PNG")


def ink(pixels: np.ndarray, side: int = 32) -> np.ndarray:
    """Darkness (255 − grey) at ``side`` × ``side``, flat: uint8 (side²,) from uint8 (C, H, W)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).convert("L")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BOX)
    return 255 - np.asarray(image, dtype=np.uint8).reshape(-1)
