"""Reading images of any common kind as uint8 arrays on white.

Legend: N images, C channels (1 grey, 3 RGB), H = W = size in pixels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fct.errors import BadInput
from fct.files import whole_file

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
MAX_PIXELS = 64_000_000  # a small file can unpack to gigabytes
CHANNELS = {"L": 1, "RGB": 3}


def from_pil(image: Image.Image, size: int, mode: str) -> np.ndarray:
    """Convert an opened image: turned as its EXIF says, put on white, centre square, resized. uint8 (C, size, size)."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip everything above 255 to white
        image = Image.fromarray((np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    image = image.convert(mode) if image.mode in ("L", "RGB", "1") else image.convert("RGB").convert(mode)
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


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


def read_bytes(data: bytes, size: int, mode: str) -> np.ndarray:
    """As :func:`read_image`, from the bytes of an image file."""
    if not data:
        raise BadInput("an image is empty (0 bytes)")
    return _read(io.BytesIO(data), None, size, mode)


def _read(source: Path | io.BytesIO, where: Path | None, size: int, mode: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata; what matters is checked below
            with Image.open(source) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return from_pil(image, size, mode)
    except Image.DecompressionBombError as error:
        raise BadInput("an image is too large to unpack safely", wanted=f"at most {MAX_PIXELS} pixels", where=where) from error
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
    """Write uint8 (C, H, W) as an 8-bit PNG, whole or not at all."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    with whole_file(path) as part:
        image.save(part, format="PNG")


def ink(pixels: np.ndarray, side: int = 32) -> np.ndarray:
    """Darkness (255 − grey) at ``side`` × ``side``, flat: uint8 (side²,) from uint8 (C, H, W)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).convert("L")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BOX)
    return 255 - np.asarray(image, dtype=np.uint8).reshape(-1)
