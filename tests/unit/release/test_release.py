import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from fct import release
from fct.arrays import digests
from fct.errors import Altered, BadInput, NotPermitted
from fct.program.programs import embed


class Engineers(nn.Module):
    """Someone's own network: no class of this package in it."""

    def __init__(self, side=3):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.side = nn.Linear(16 * 16, 5), side

    def forward(self, images):
        flat = images.flatten(1).float() / 255
        return self.linear(flat), (flat[:, : self.side] * 100).to(torch.int8)


def canaries(n=8, channels=1):
    return {
        "canary_ids": [f"canary-{i}" for i in range(n)],
        "canary_images": np.random.default_rng(0).integers(0, 256, (n, channels, 16, 16), dtype=np.uint8),
    }


def write(folder, **changes):
    options = {"size": 16, "mode": "L", **canaries(), **changes}
    program = options.pop("program", None) or Engineers()
    return release.write(folder, program, **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    head = np.ones((2, 5), dtype=np.float32), np.zeros(2, dtype=np.float32)
    return write(tmp_path_factory.mktemp("release") / "v1", head=head, classes=["a", "b"], measurements={"known.top1": 0.5}).folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def change(folder, **changes):
    about = json.loads((folder / "release.json").read_text())
    for key, value in changes.items():
        if value is None:
            del about[key]
        else:
            about[key] = value
    (folder / "release.json").write_text(json.dumps(about))


def test_an_engineers_own_module_becomes_a_release_that_opens(written):
    found = release.open_release(written)
    assert (found.dim, found.side_bytes, found.metric, found.size, found.mode) == (5, 3, "cosine", 16, "L")
    assert found.classes == ["a", "b"] and found.about["measurements"] == {"known.top1": 0.5}
    images = canaries(4)["canary_images"]
    phi, psi = embed(found.program(), images, device=torch.device("cpu"))
    wanted_phi, wanted_psi = embed(Engineers(), images, device=torch.device("cpu"))
    np.testing.assert_array_equal(phi, wanted_phi)
    np.testing.assert_array_equal(psi, wanted_psi)


def test_canaries_and_head_come_back_as_they_were_given(written):
    found = release.open_release(written)
    ids, images = found.canaries()
    assert ids.tolist() == [f"canary:{name}" for name in canaries()["canary_ids"]]
    np.testing.assert_array_equal(images, canaries()["canary_images"])
    weight, bias = found.head()
    assert weight.tolist() == [[1] * 5] * 2 and bias.tolist() == [0, 0]


def test_a_release_without_a_head_has_none(tmp_path):
    found = write(tmp_path / "v1", program=Engineers(side=1), mode="L")
    assert found.head() is None and found.classes == [] and found.side_bytes == 1


def test_a_release_of_colour_images_opens(tmp_path):
    assert write(tmp_path / "v1", program=Colour(), mode="RGB", **canaries(channels=3)).mode == "RGB"


class Colour(Engineers):
    def forward(self, images):
        return super().forward(images[:, :1])


def test_the_same_release_written_twice_has_one_digest_and_another_program_another(written, tmp_path):
    head = np.ones((2, 5), dtype=np.float32), np.zeros(2, dtype=np.float32)
    again = write(tmp_path / "v1", head=head, classes=["a", "b"], measurements={"known.top1": 0.5})
    other = write(tmp_path / "v2", program=Engineers(side=2), head=head, classes=["a", "b"], measurements={"known.top1": 0.5})
    assert again.digest() == release.open_release(written).digest() != other.digest()
    assert digests.of_folder(again.folder) == digests.of_folder(written)
    assert again.fingerprint != other.fingerprint


@pytest.mark.parametrize("piece", ["program.pt2", "canaries.safetensors", "release.json", "head.safetensors"])
def test_a_missing_piece_is_refused_by_name(folder, piece):
    (folder / piece).unlink()
    with pytest.raises(BadInput, match=f"incomplete: .*{piece} is missing"):
        release.open_release(folder)


def test_all_missing_pieces_are_named_at_once(folder):
    (folder / "program.pt2").unlink()
    (folder / "canaries.safetensors").unlink()
    assert release.problems(folder) == ["program.pt2 is missing", "canaries.safetensors is missing"]


@pytest.mark.parametrize("key", ["fingerprint", "preprocessing", "dims", "metric", "side", "classes", "measurements", "files", "canaries"])
def test_a_missing_key_of_release_json_is_refused_by_name(folder, key):
    change(folder, **{key: None})
    with pytest.raises(BadInput, match=f"release.json lacks {key}"):
        release.open_release(folder)


@pytest.mark.parametrize("piece", ["program.pt2", "canaries.safetensors", "head.safetensors"])
def test_an_altered_file_is_not_permitted(folder, piece):
    data = bytearray((folder / piece).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / piece).write_bytes(data)
    with pytest.raises(NotPermitted, match=f"{piece} is not the file the release was written with"):
        release.open_release(folder)


def test_what_it_says_in_words_does_not_decide_what_happened(folder):
    """The exit code once hung on these words, which a release can write itself."""
    files = json.loads((folder / "release.json").read_text())["files"]
    change(folder, files=files | {"this is not the file.bin": "0" * 64})
    with pytest.raises(BadInput, match="is not the file"):
        release.open_release(folder)
    about = json.loads((folder / "release.json").read_text())
    change(folder, files={name: digest for name, digest in about["files"].items() if name in files})
    data = bytearray((folder / "program.pt2").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "program.pt2").write_bytes(data)
    with pytest.raises(Altered):
        release.open_release(folder)


@pytest.mark.parametrize("images", [np.zeros((8, 1, 16, 16), np.float32), np.zeros((8, 16), np.uint8), np.zeros((8, 3, 16, 16), np.uint8)])
def test_canaries_of_another_form_are_refused_and_a_fault_of_ours_is_not_called_theirs(folder, images, monkeypatch):
    from fct.program import programs as program

    before = (folder / "canaries.safetensors").read_bytes()
    save_file({"images": images}, folder / "canaries.safetensors")
    files = json.loads((folder / "release.json").read_text())["files"]
    change(folder, files=files | {"canaries.safetensors": digests.of_file(folder / "canaries.safetensors")})
    with pytest.raises(BadInput, match="another form"):
        release.open_release(folder)
    (folder / "canaries.safetensors").write_bytes(before)
    change(folder, files=files)

    def fails(*_, **__):
        raise TypeError("ours")

    monkeypatch.setattr(program, "embed", fails)
    with pytest.raises(TypeError, match="ours"):
        release.open_release(folder)


def test_a_piece_without_a_digest_is_refused(folder):
    about = json.loads((folder / "release.json").read_text())
    change(folder, files={name: digest for name, digest in about["files"].items() if name != "canaries.safetensors"})
    assert any("canaries.safetensors" in problem for problem in release.problems(folder))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dims": {"phi": 6, "psi": 3}}, "the program gives φ 5 and ψ 3, release.json says 6 and 3"),
        ({"fingerprint": "0" * 64}, "the fingerprint is not that of program and preprocessing"),
        ({"preprocessing": {"size": 16, "mode": "L", "resize": "nearest", "background": "white"}}, "the fingerprint is not that"),
        ({"canaries": ["a", "b"]}, "canaries are missing"),
        ({"format": 99}, "format 99, wanted 1"),
        ({"files": []}, "release.json"),
        ({"dims": 5}, "release.json"),
        ({"dims": {"phi": "x", "psi": 3}}, "release.json"),
        ({"preprocessing": {"size": 16}}, "release.json|fingerprint"),
        ({"metric": "dot"}, "metric"),
    ],
)
def test_a_release_json_that_says_something_else_is_refused(folder, changes, sentence):
    change(folder, **changes)
    with pytest.raises(BadInput, match=sentence):
        release.open_release(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_release_json_that_is_none_is_refused(folder, content):
    (folder / "release.json").write_text(content)
    with pytest.raises(BadInput, match=r"release\.json"):
        release.open_release(folder)


def test_canaries_of_another_file_with_a_matching_digest_are_still_looked_at(folder):
    save_file({"pictures": load_file(folder / "canaries.safetensors")["images"]}, folder / "canaries.safetensors")
    about = json.loads((folder / "release.json").read_text())
    change(folder, files=about["files"] | {"canaries.safetensors": digests.of_file(folder / "canaries.safetensors")})
    with pytest.raises(BadInput, match="incomplete"):
        release.open_release(folder)


def test_no_folder_at_all_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such release folder"):
        release.open_release(tmp_path / "v1")


HEAD = np.ones((2, 5), dtype=np.float32), np.zeros(2, dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (canaries(7), "too few canaries.*at least 8 different ids; got 7"),
        ({"canary_ids": ["same"] * 8}, "too few canaries, or ids repeat.*got 1 different of 8"),
        ({"canary_ids": ["x"]}, "canaries have the wrong form"),
        (canaries(8, channels=3), "canaries have the wrong form"),
        ({"canary_images": np.zeros((8, 1, 16, 16))}, "canaries have the wrong form"),
        ({"size": 32}, "canaries have the wrong form"),
        ({"mode": "CMYK"}, "unknown image mode"),
        ({"metric": "dot"}, "unknown metric; wanted cosine or l2"),
        ({"head": HEAD}, "classes are not named; wanted 2 class names; got 0"),
        ({"head": HEAD, "classes": ["a"]}, "classes are not named"),
        ({"head": (np.ones((2, 4)), np.zeros(2)), "classes": ["a", "b"]}, "head does not fit"),
        ({"head": (np.ones((2, 5)), np.zeros(3)), "classes": ["a", "b"]}, "head does not fit"),
        ({"program": Engineers(side=0)}, "no side-information ψ"),
        ({"program": nn.Flatten()}, "does not return"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_refused_and_nothing_is_written(tmp_path, changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        write(tmp_path / "v1", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_head_file_that_is_none_is_refused(tmp_path):
    save_file({"weight": np.ones((2, 5))}, tmp_path / "no-bias.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    for name in ("no-bias.safetensors", "broken.safetensors", "missing.safetensors"):
        with pytest.raises(BadInput, match=f"head cannot be read.*{name}"):
            release.read_head(tmp_path / name)


def test_the_releases_of_the_session_keep_the_contract(v1, v2):
    assert release.problems(v1.folder) == [] == release.problems(v2.folder)
    assert replace(v1, folder=v2.folder).about == v1.about


class Centred(Engineers):
    """Centres its vectors by the batch at hand, as in training."""

    def forward(self, images):
        phi, psi = super().forward(images)
        return phi - phi.mean(dim=0, keepdim=True), psi


def test_a_release_whose_vectors_depend_on_their_neighbours_is_refused_by_its_author_and_by_the_contract(written, tmp_path):
    with pytest.raises(BadInput, match="depend on the other images of the batch"):
        write(tmp_path / "v1", program=Centred())
    assert release.problems(written) == []
