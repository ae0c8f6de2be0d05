"""`fct wrap`: a pretrained model becomes a release folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fct import release
from tests.in_process import fct_

BUILD = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine.py").write_text(BUILD)
    rng = np.random.default_rng(0)
    for number in range(74):  # photographs of several shapes, one grey and one that is turned by its EXIF
        place = folder / f"photos/{number % 3}/{number:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number % 5, 24, 3)).astype(np.uint8)).save(place)
    Image.new("L", (30, 30), 99).save(folder / "photos/grey.png")
    Image.new("RGB", (30, 30)).save(folder / "elsewhere.png")
    (folder / "photos/link.png").symlink_to(folder / "elsewhere.png")  # out of the folder that is named
    (folder / "photos/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return folder


def wrapped(project, out, *more):
    given = ["--images", project / "photos", "--size", 20, "--crop", 16, "--side-bytes", 4, "--out", out]
    return fct_("wrap", f"{project / 'mine.py'}:build", *given, *more)


def test_a_model_of_one_s_own_becomes_a_complete_release(project, tmp_path):
    code, out, said = wrapped(project, tmp_path / "v1", "--layer", "3", "--json")
    result = json.loads(out)
    assert code == 0 and (result["dim"], result["side_bytes"]) == (6, 4)
    assert release.problems(tmp_path / "v1") == []
    assert release.open_release(tmp_path / "v1").fingerprint == result["fingerprint"]
    assert "1 left out: a link to a place that is no declared root, such as link.png" in said
    assert "broken.png" in said and f"Next: fct register {tmp_path / 'v1'}" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--layer", "9"), "the model has no layer of this name"),
        (("--side-bytes", "64"), "there are too few images that can be read; wanted at least 192"),
        (("--mean", "0.5"), "--mean cannot be read; wanted three numbers"),
        (("--crop", "40"), "the crop does not fit the image"),
        (("--side-network", "resnet50"), "this names no model"),
        (("--images", "nowhere"), "there is no such folder of images"),
    ],
)
def test_what_cannot_be_wrapped_is_one_sentence_and_leaves_nothing(project, tmp_path, more, sentence):
    code, out, error = wrapped(project, tmp_path / "v1", *more)
    assert code == 2 and sentence in error and out == "" and not (tmp_path / "v1").exists()


def test_a_folder_that_holds_something_else_is_not_replaced(project, tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/mine.txt").write_text("kept")
    code, _, error = wrapped(project, tmp_path / "v1")
    assert code == 2 and "which would be lost" in error and (tmp_path / "v1/mine.txt").read_text() == "kept"
