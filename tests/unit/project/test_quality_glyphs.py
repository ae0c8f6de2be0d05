"""The set of printed characters: its classes, and how one is drawn."""

import io
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from PIL import ImageFont

from benchmarks.quality import glyphs


def dejavu():
    return ImageFont.truetype(io.BytesIO((Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf").read_bytes()), 20)


def test_classes_have_names_that_are_their_own_and_faces_are_listed_once():
    names = [unicodedata.name(character) for character in glyphs.CHARACTERS]
    assert len(set(names)) == len(names) == 158 and len(set(glyphs.FACES)) == len(glyphs.FACES)


def test_characters_share_size_and_baseline():
    pixels = {character: glyphs._pixels(dejavu(), character) for character in "xXgÅ"}
    rows = {character: np.flatnonzero((p < 128).any(axis=1)) for character, p in pixels.items()}
    assert all(p.shape == (32, 32) and p.dtype == np.uint8 for p in pixels.values())
    assert rows["x"].max() == rows["X"].max() < rows["g"].max()
    assert rows["X"].min() < rows["x"].min() and rows["Å"].min() < rows["X"].min()
    assert min(rows["Å"].min(), 31 - rows["g"].max()) >= 0 and rows["g"].max() < 31, "nothing is cut off"


def test_faces_are_drawn_once_and_characters_that_they_lack_are_left_out(tmp_path, monkeypatch):
    file = (Path(matplotlib.get_data_path()) / "fonts/ttf/cmsy10.ttf").read_bytes()  # symbols: hardly a letter
    fetched = []
    monkeypatch.setattr(glyphs, "FACES", ["one"])
    monkeypatch.setattr(glyphs, "_fetch", lambda face: fetched.append(face) or file)
    images = glyphs.draw(tmp_path / "g")
    drawn = sorted(path.parent.name for path in images.rglob("*.png"))
    assert 0 < len(drawn) < len(glyphs.CHARACTERS)
    assert glyphs.draw(tmp_path / "g") == images and fetched == ["one"]
