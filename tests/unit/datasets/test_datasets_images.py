import importlib.util
import io
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import PIL
import pytest
from PIL import Image

from fct.datasets import images
from fct.datasets.images import ink, read_image, read_images, write_image
from fct.errors import BadInput


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_is_written_is_read_back(tmp_path, noise, mode):
    pixels = noise[: images.CHANNELS[mode]]
    write_image(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a.png", 16, mode), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("wanted", ["L", "RGB"])
def test_every_kind_of_white_left_and_black_right_is_read_alike(tmp_path, mode, wanted):
    halves = np.full((8, 8), 255, np.uint8)
    halves[:, 4:] = 0
    if mode in ("I;16", "I"):
        wide = halves.astype(np.uint16 if mode == "I;16" else np.int32) * 257
        image = Image.fromarray(wide)
    else:
        image = Image.fromarray(halves).convert("RGB").convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I") else "a.png")
    image.save(path)
    read = read_image(path, 8, wanted)
    assert read.shape == (images.CHANNELS[wanted], 8, 8) and read.dtype == np.uint8
    assert (read == halves).all()


@pytest.mark.parametrize("kind", ["EPS", "PPM", "PCX", "TGA", "SGI", "ICO", "IM", "MSP", "XBM"])
def test_other_kinds_are_refused_whatever_they_are_called_and_start_nothing(tmp_path, monkeypatch, kind):
    started = tmp_path / "started"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch '{started}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    data = io.BytesIO()
    Image.new("1" if kind in ("MSP", "XBM") else "RGB", (16, 16)).save(data, kind)
    (tmp_path / "a.png").write_bytes(data.getvalue())
    with pytest.raises(BadInput, match="cannot be read"):
        read_image(tmp_path / "a.png", 16, "L")
    with pytest.raises(BadInput, match="no image of a known kind"):
        images.read_bytes(data.getvalue(), 16, "L")
    assert not started.exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_the_common_kinds_are_read_by_content(tmp_path, kind):
    Image.new("RGB", (16, 16), "white").save(tmp_path / "a.png", kind)
    assert read_image(tmp_path / "a.png", 16, "L").min() > 250


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 128 * 257 + 100, np.uint16)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 4, "L") == 128).all()


def test_what_is_transparent_becomes_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255  # upper half opaque black, lower half transparent black
    Image.fromarray(rgba).save(tmp_path / "a.png")
    palette = Image.fromarray(np.repeat([[0], [0], [1], [1]], 4, axis=1).astype(np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.putdata([0] * 8 + [1] * 8)
    palette.save(tmp_path / "b.png", transparency=1)
    for name in ("a.png", "b.png"):
        grey = read_image(tmp_path / name, 4, "L")[0]
        assert (grey[:2] == 0).all() and (grey[2:] == 255).all()


def test_the_turn_in_exif_is_applied(tmp_path):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the first row becomes the last column
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", 8, "L")[0], np.rot90(pixels, -1))


def test_the_centre_square_of_a_wide_image_is_kept(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 8, "L") == 200).all()
    assert (read_image(tmp_path / "a.png", 4, "L") == 200).all()


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "header"])
def test_a_damaged_image_is_refused_by_name(tmp_path, noise, kind):
    whole = png(noise.transpose(1, 2, 0))
    content = {"empty": b"", "text": b"not an image", "cut": whole[: len(whole) // 2], "header": whole[:8]}[kind]
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BadInput, match=r"bad\.png"):
        read_image(tmp_path / "bad.png", 16, "RGB")


def test_a_missing_image_is_refused_by_name(tmp_path):
    with pytest.raises(BadInput, match=r"none\.png"):
        read_image(tmp_path / "none.png", 16, "L")


def test_what_is_no_plain_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadInput, match=path.name):
            read_image(path, 16, "L")


def test_an_image_that_unpacks_to_too_many_pixels_is_refused(tmp_path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(BadInput, match=r"too large.*bomb\.png"):
        read_image(tmp_path / "bomb.png", 8, "L")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "larger.png")  # Pillow itself refuses to open this one
    with pytest.raises(BadInput, match=r"too large.*larger\.png"):
        read_image(tmp_path / "larger.png", 8, "L")


def test_many_images_come_in_the_order_of_their_paths(tmp_path):
    paths = []
    for value in (30, 10, 20):
        paths.append(tmp_path / f"{value}.png")
        write_image(paths[-1], np.full((1, 4, 4), value, np.uint8))
    stack = read_images(paths, 4, "RGB", "test")
    assert stack.shape == (3, 3, 4, 4) and stack[:, 0, 0, 0].tolist() == [30, 10, 20]
    assert read_images([], 4, "L").shape == (0, 1, 4, 4)


def test_ink_is_darkness_at_the_given_side():
    pixels = np.full((1, 64, 64), 255, np.uint8)
    pixels[:, :32] = 0
    dark = ink(pixels).reshape(32, 32)
    assert (dark[:16] == 255).all() and (dark[16:] == 0).all()
    assert np.array_equal(ink(np.repeat(pixels, 3, axis=0)), dark.reshape(-1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("wanted", ["L", "RGB"])
def test_a_large_image_is_converted_in_strips_to_the_same_pixels(mode, wanted, monkeypatch):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (37, 23), dtype=np.uint8)
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.int32 if mode == "I" else np.uint16) * 257)
    else:
        image = (
            Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8))
            .convert("RGB" if mode in ("1", "P", "CMYK") else mode)
            .convert(mode)
        )
    if mode == "P":
        image.info["transparency"] = 7
    whole = images.from_pil(image.copy(), 23, wanted)
    monkeypatch.setattr(images, "STRIP", 50)
    assert np.array_equal(images.from_pil(image, 23, wanted), whole)


def test_what_is_sent_may_have_fewer_pixels_than_a_file(tmp_path):
    Image.new("1", (5_000, 5_000), 1).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert images.read_bytes(data, 8, "L").min() == 255
    with pytest.raises(BadInput, match="too large"):
        images.read_bytes(data, 8, "L", images.MAX_UPLOADED)


def test_a_very_large_jpeg_is_shrunk_while_it_is_unpacked_and_looks_the_same(tmp_path):
    rows = np.linspace(0, 255, 4_200).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(rows, (4_200, 4_200)))
    image.save(tmp_path / "large.jpg")
    image.save(tmp_path / "large.png")
    pixels = read_image(tmp_path / "large.jpg", 16, "L").astype(int)
    assert np.abs(pixels - read_image(tmp_path / "large.png", 16, "L")).max() <= 2


def test_threads_share_the_memory_for_pictures():
    """Never more is taken at once than there is; what needs more than there is, waits until it is alone."""
    room, taken, most, look = images.Room(100), 0, 0, Lock()

    def work(count: int) -> None:
        nonlocal taken, most
        with room.take(count):
            with look:
                taken += min(count, 100)
                most = max(most, taken)
            with look:
                taken -= min(count, 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, np.random.default_rng(0).integers(1, 150, 400).tolist()))
    assert taken == 0 and 0 < most <= 100


def tiff(pixels, photometric, bits, **tags):
    """A TIFF by hand: (H, W) or (H, W, C) pixels, or bytes of an 8 × 8 image, behind the tags that say what they are."""
    height, width = (8, 8) if isinstance(pixels, bytes) else pixels.shape[:2]
    data = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    known = {254: tags.get("smaller", 0), 256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: len(bits)}
    known |= {278: height, 279: len(data), 338: tags.get("extra", ()), 339: (tags.get("sample", 1),) * len(bits)}
    entries, longer = b"", b""
    rows = {tag: value if isinstance(value, tuple) else (value,) for tag, value in known.items() if value != ()}
    start = 8 + 2 + 12 * len(rows) + 4
    rows[273] = (start + sum(2 * len(value) for value in rows.values() if len(value) > 2),)
    for tag, values in rows.items():
        raw = struct.pack(f"<{len(values)}H", *values)
        if len(raw) > 4:
            raw, longer = struct.pack("<I", start + len(longer)), longer + raw
        entries += struct.pack("<HHI", tag, 3, len(values)) + raw.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + entries + bytes(4) + longer + data


PILLOW = int(PIL.__version__.split(".")[0])
HALVES = np.full((8, 8), 255, np.uint8)
HALVES[:, 4:] = 0
TWELVE = b"\xff" * 6 + bytes(6)  # a row of four white and four black pixels of 12 bits


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tiff(TWELVE * 8, 1, (12,)), id="12 bits"),
        pytest.param(tiff(HALVES.astype("<u2") * 257, 1, (16,)), id="16 bits"),
        pytest.param(tiff(65535 - HALVES.astype("<u2") * 257, 0, (16,)), id="16 bits, white is zero"),
        pytest.param(tiff(255 - HALVES, 0, (8,)), id="8 bits, white is zero"),
        pytest.param(
            tiff(np.stack([HALVES, 255 - HALVES], axis=2), 1, (8, 8), extra=(0,)),
            id="grey and a channel that is said to mean nothing",
            marks=pytest.mark.skipif(PILLOW < 13, reason="Pillow reads it since version 13; before, it is refused"),
        ),
        pytest.param(tiff(np.stack([255 - HALVES] * 3 + [0 * HALVES], axis=2), 5, (8,) * 4), id="CMYK"),
    ],
)
def test_pixels_of_other_kinds_are_read_as_their_tags_say(data):
    for mode in ("L", "RGB"):
        assert (images.read_bytes(data, 8, mode) == HALVES).all()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(tiff(np.stack([HALVES] * 2, axis=2), 1, (8, 8)), "no image of a known kind", id="two channels"),
        pytest.param(tiff(HALVES.astype("<i2") - 200, 1, (16,), sample=2), "outside of 0 to 65535", id="signed"),
        pytest.param(tiff(HALVES.astype("<u4") * 16843009, 1, (32,)), "outside of 0 to 65535", id="32 bits"),
        pytest.param(tiff(HALVES.astype("<f4"), 1, (32,), sample=3), "floating-point", id="floating point"),
        pytest.param(tiff(HALVES, 1, (8,), smaller=1), "a preview of another one", id="raw file"),
    ],
)
def test_pixels_that_nobody_can_tell_the_meaning_of_are_refused_with_the_reason(data, why, tmp_path):
    (tmp_path / "a.tif").write_bytes(data)
    for read in (lambda: images.read_bytes(data, 8, "L"), lambda: read_image(tmp_path / "a.tif", 8, "L")):
        with pytest.raises(BadInput, match=why):
            read()


def test_what_is_transparent_is_white_in_sixteen_bits_too(tmp_path):
    Image.fromarray(HALVES.astype(np.uint16) * 200).save(tmp_path / "a.png", transparency=0)
    assert (read_image(tmp_path / "a.png", 8, "L") == np.where(HALVES == 0, 255, 255 * 200 // 257)).all()


def box(brand, *brands):
    """The beginning of a file of AVIF's and HEIC's family."""
    return struct.pack(">I", 16 + 4 * len(brands)) + b"ftyp" + brand + bytes(4) + b"".join(brands)


@pytest.mark.parametrize(
    ("begins", "wanted"),
    [
        (box(b"heic", b"mif1", b"heic"), images.HEIC),
        (box(b"mif1", b"heic"), images.HEIC),
        (box(b"mif1", b"avif", b"miaf"), "image"),
        (box(b"avif"), "image"),
        (box(b"isom", b"mp42"), None),
        (b"RIFF\0\0\0\0WEBP", "image"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"", None),
    ],
)
def test_a_files_first_bytes_tell_its_kind(begins, wanted):
    assert images.kind(begins) == wanted


def test_heic_is_read_where_pillow_heif_is_installed_and_else_named(tmp_path):
    if importlib.util.find_spec("pillow_heif") is None:
        (tmp_path / "a.jpg").write_bytes(box(b"heic", b"mif1", b"heic") + bytes(100))
        with pytest.raises(BadInput, match=r"HEIC.*pillow-heif.*a\.jpg"):
            read_image(tmp_path / "a.jpg", 8, "L")
        return
    images.formats()
    Image.fromarray(HALVES.repeat(8, 0).repeat(8, 1)).convert("RGB").save(tmp_path / "a.jpg", "HEIF", quality=-1)
    assert images.kind((tmp_path / "a.jpg").read_bytes()) == images.HEIC
    assert np.abs(read_image(tmp_path / "a.jpg", 8, "L").astype(int) - HALVES).max() < 32  # resizing rings at the edge
