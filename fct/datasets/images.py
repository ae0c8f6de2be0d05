"""Reading images of any common kind as uint8 arrays on white.

Legend: N images, C channels (1 grey, 3 RGB), H = W = size in pixels.
"""

from __future__ import annotations

import importlib.util
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Condition
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fct.device import memory
from fct.errors import BadInput

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
# What is opened, by content. Pillow knows forty kinds more; EPS among them starts another program. Where pillow-heif is installed, HEIF too.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
# how such a file begins; AVIF and HEIF say their kind a little later
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
BEGINS = 64  # bytes that tell the kind
HEIC = "HEIC, which is read where pillow-heif is installed"
_HEVC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
MOST_BYTES = 512 * 1024**2  # of a file
MAX_PIXELS = 128_000_000  # of a file; a small one can unpack to gigabytes
MAX_UPLOADED = 16_000_000  # of what is sent to a server
STRIP = 1 << 20  # pixels that are converted at once
CHANNELS = {"L": 1, "RGB": 3}
# Bytes a pixel that reading takes at its height, decoder and conversion together (`python -m benchmarks.images`)
COST = {"PNG": 10, "JPEG": 10, "WEBP": 18, "GIF": 10, "BMP": 10, "TIFF": 12, "AVIF": 12, "JPEG2000": 30, "HEIF": 12}
SMALLER, BITS, PHOTOMETRIC, WHITE_IS_ZERO = 254, 258, 262, 0  # tags of a TIFF, and a value of the last
TILE = 322, 323  # more of them: how wide and high a tile is
ROOM = 0.25  # share of this machine's memory that all images being read may take together


T = TypeVar("T")


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


def kind(begins: bytes) -> str | None:
    """``image``, :data:`HEIC`, or None: what a file is whose first :data:`BEGINS` bytes these are."""
    if begins[4:8] == b"ftyp":  # a box: its length, its name, a brand, a version, further brands
        brands = {begins[at : at + 4] for at in (8, *range(16, min(int.from_bytes(begins[:4], "big"), len(begins)), 4))}
        if brands & {b"avif", b"avis"}:
            return "image"
        return HEIC if brands & {*_HEVC, b"mif1", b"msf1"} else None
    return "image" if begins.startswith(MAGIC) or (begins[:4] == b"RIFF" and begins[8:12] == b"WEBP") else None


@cache
def formats() -> tuple[str, ...]:
    """What is opened here: :data:`FORMATS`, and HEIF where pillow-heif is installed."""
    if importlib.util.find_spec("pillow_heif") is None:
        return FORMATS
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    return (*FORMATS, "HEIF")


def from_pil(image: Image.Image, size: int, mode: str) -> np.ndarray:
    """Convert an opened image: turned as its EXIF says, centre square, put on white, resized. uint8 (C, size, size)."""
    scale = _scale(image)
    ImageOps.exif_transpose(image, in_place=True)
    side = min(image.size)
    if image.size != (size, size) and image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    image = _on_white(image, mode, scale)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _scale(image: Image.Image) -> tuple[int, bool]:
    """Of grey of more than eight bits: its largest value, and whether that is black. Pillow leaves both to the tags of a TIFF."""
    tags = getattr(image, "tag_v2", {})
    return 2 ** min(16, max(tags.get(BITS, (16,)))) - 1, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _on_white(image: Image.Image, mode: str, scale: tuple[int, bool]) -> Image.Image:
    """Of a large image one strip after the other, since each of Pillow's conversions is another image."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        return _strip_on_white(image, mode, scale)
    whole = Image.new(mode, image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(_strip_on_white(strip, mode, scale), (0, top))
    return whole


def _strip_on_white(image: Image.Image, mode: str, scale: tuple[int, bool]) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255 to white
        grey, (top, inverted) = np.asarray(image), scale
        if grey.min() < 0 or grey.max() > top:
            raise ValueError(f"its pixels are whole numbers outside of 0 to {top}")
        eight = (grey.astype(np.uint32) * 255 // top).astype(np.uint8)
        if inverted:
            eight = 255 - eight
        eight[grey == image.info.get("transparency", -1)] = 255
        image = Image.fromarray(eight)
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert(mode) if image.mode in ("L", "RGB", "1") else image.convert("RGB").convert(mode)


def open_plain(path: Path) -> BinaryIO:
    """Open an image file without waiting, whatever it is by now: a pipe would wait for its other end, and a device may never end.

    Raises:
        BadInput: no such file, no plain one, empty, or more than :data:`MOST_BYTES`.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # the latter of a null in its name
        raise BadInput("an image file cannot be read", got=getattr(error, "strerror", error), where=path) from error
    about = os.fstat(opened)
    if stat.S_ISREG(about.st_mode) and 0 < about.st_size <= MOST_BYTES:
        return os.fdopen(opened, "rb")
    os.close(opened)
    if not stat.S_ISREG(about.st_mode):
        raise BadInput("an image file is not a plain file", where=path)
    if about.st_size:
        raise BadInput("an image file is too large", wanted=f"at most {MOST_BYTES} bytes", got=about.st_size, where=path)
    raise BadInput("an image file is empty (0 bytes)", where=path, todo="remove or replace it")


def read_image(path: str | Path, size: int, mode: str) -> np.ndarray:
    """Read one image file (of an animation, the first picture) as uint8 (C, size, size).

    Raises:
        BadInput: as :func:`open_plain`; damaged, not an image, or more than :data:`MAX_PIXELS` pixels.
    """
    with open_plain(Path(path)) as file:
        return read_file(file, path, size, mode)


def read_file(file: BinaryIO, where: str | Path, size: int, mode: str) -> np.ndarray:
    """As :func:`read_image`, from an open file."""
    return unpack(file, where, size, lambda image: from_pil(image, size, mode))


def read_bytes(data: bytes, size: int, mode: str, most: int = MAX_PIXELS) -> np.ndarray:
    """As :func:`read_image`, from the bytes of an image file, of at most ``most`` pixels."""
    if not data:
        raise BadInput("an image is empty (0 bytes)")
    return unpack(io.BytesIO(data), None, size, lambda image: from_pil(image, size, mode), most)


def unpack(source: BinaryIO, where: str | Path | None, size: int, work: Callable[[Image.Image], T], most: int = MAX_PIXELS) -> T:
    """What ``work`` makes of the one image in ``source``, within :data:`ROOM`.

    Args:
        size: side of the square that is wanted in the end: a large JPEG is unpacked no larger than eight times that.

    Raises:
        BadInput: not an image, more than ``most`` pixels, or whatever Pillow raises while it is unpacked and worked on.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata; what matters is checked below
            with Image.open(source, formats=formats()) as image:
                if getattr(image, "tag_v2", {}).get(SMALLER, 0) & 1:
                    raise ValueError("its first picture is a preview of another one, as in a camera's raw files")
                pixels = _unpacked(image)
                if pixels > most:
                    raise Image.DecompressionBombError
                if pixels > MAX_UPLOADED:  # a JPEG unpacks to an eighth of its side at the least, and many times quicker
                    image.draft(None, (8 * size, 8 * size))
                    pixels = image.width * image.height
                with _room().take(pixels * COST[str(image.format)]):
                    return work(image)
    except Image.DecompressionBombError as error:
        raise BadInput("an image is too large to unpack safely", wanted=f"at most {most} pixels", where=where) from error
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        said = str(error)
        if isinstance(error, UnidentifiedImageError):
            said = HEIC if _begins(source) == HEIC and "HEIF" not in formats() else "it is no image of a known kind"
        todo = "remove or replace it" if where is not None else None
        raise BadInput(f"an image {'file ' if where else ''}cannot be read", got=said, where=where, todo=todo) from error


def _unpacked(image: Image.Image) -> int:
    """Pixels that are unpacked: tiles of a TIFF are whole, also where they reach far beyond the picture."""
    width, height = (max(1, getattr(image, "tag_v2", {}).get(tag, 1)) for tag in TILE)
    return -(-image.width // width) * width * -(-image.height // height) * height


def _begins(source: BinaryIO) -> str | None:
    source.seek(0)
    return kind(source.read(BEGINS))


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
