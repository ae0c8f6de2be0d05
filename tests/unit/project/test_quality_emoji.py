"""The set of emoji: which are taken, and how one is drawn."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import emoji, npm
from fct.errors import OperationFailed

CIRCLE = '<circle cx="18" cy="18" r="18" fill="#f00"/>'


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tarfile.open(fileobj=io.BytesIO(out.getvalue()))


def test_emoji_that_enough_sets_draw_are_drawn_once_in_colour(tmp_path, monkeypatch):
    asked = []

    def pack(name):
        asked.append(name)
        icons = {"shared": {"body": CIRCLE}, f"own-{len(asked)}": {"body": CIRCLE}}
        return archive({"package/icons.json": json.dumps({"prefix": "x", "width": 36, "height": 36, "icons": icons}).encode()})

    monkeypatch.setattr(npm, "pack", pack)
    images = emoji.draw(tmp_path / "e")
    drawn = sorted(images.rglob("*.png"))
    assert {path.parent.name for path in drawn} == {"shared"} and {path.stem for path in drawn} == set(emoji.SETS)
    with Image.open(drawn[0]) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (32, 32, 3) and tuple(pixels[16, 16]) == (255, 0, 0) and tuple(pixels[0, 0]) == (255, 255, 255)
    assert emoji.draw(tmp_path / "e") == images and len(asked) == len(emoji.SETS)
    assert asked[0] == "@iconify-json/emojione@1.2.3"


def test_a_package_without_the_file_is_named():
    with pytest.raises(OperationFailed, match=r"no package/icons\.json"):
        npm.read(archive({"other": b""}), "package/icons.json")


def test_a_package_that_does_not_exist_is_named():
    with pytest.raises(OperationFailed, match="not-a-package"):
        npm.pack("./not-a-package")
