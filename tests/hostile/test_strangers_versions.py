"""What strangers register: the folder of a version, its tags and its source. Each attack is one test, refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fct import release
from fct.errors import BadInput, FctError
from fct.release.folder import HEAD, PICTURE
from fct.sample import pairs
from fct.sample.settings import EmbedSettings
from registry import mark
from registry.mlflow import sources
from registry.versions import approval
from tests.hostile.versions import InCrowds, Json, Mixing, noise, say, written


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "copy"))


def test_canaries_that_are_all_one_image_do_not_hide_that_vectors_depend_on_their_neighbours(tmp_path: Path) -> None:
    """Of equal images the mean is each of them: together and alone they have the same vectors."""
    with pytest.raises(BadInput, match="canar"):
        written(tmp_path / "v1", Mixing(), np.repeat(noise(1), 8, axis=0))


def test_a_program_that_mixes_images_in_larger_batches_only_does_not_reach_a_verdict(
    v1: release.Release, data: Path, tmp_path: Path
) -> None:
    """It would be judged by batches of the evaluation sample, and asked with one image at a time."""
    hostile = release.open_release(written(tmp_path / "v2", InCrowds()))
    settings = EmbedSettings(fitting=("fitting",), pool=(), views=1, pool_views=1, pool_recombined=0, preview=False, batch=512)
    with pytest.raises(BadInput, match="depend"):
        pairs.write_pairs(v1, hostile, data, tmp_path / "pairs", settings, seed=0, device="cpu")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("piece", [HEAD, PICTURE])
def test_a_file_without_a_digest_is_no_part_of_a_release(piece: str, folder: Path) -> None:
    """What the release's digest does not hold could be exchanged after the approval."""
    say(folder)
    about = json.loads((folder / "release.json").read_text())
    about["files"].pop(piece, None)
    (folder / "release.json").write_text(json.dumps(about))
    save_file({"weight": np.ones((2, 5), np.float32), "bias": np.ones(2, np.float32)}, folder / piece)
    assert any(piece in one for one in release.problems(folder, run=False))


def test_a_release_that_says_it_is_adopted_brings_no_files(tmp_path: Path) -> None:
    made = release.write_adopted(tmp_path / "v1", dim=5, side_bits=[8], metric="cosine", normalised=False, content="x", canary_ids=["c"])
    save_file({"weight": np.ones((2, 5), np.float32), "bias": np.ones(2, np.float32)}, made.folder / HEAD)
    assert release.problems(made.folder)


@pytest.mark.parametrize(
    ("piece", "tensors"),
    [
        ("head.safetensors", None),
        ("head.safetensors", {"weight": np.full((2, 5), np.nan, np.float32), "bias": np.zeros(2, np.float32)}),
        ("head.safetensors", {"weight": np.zeros((7, 99), np.float32), "bias": np.zeros(1, np.float32)}),
        ("head.safetensors", {"weight": np.zeros(3, np.float32)}),
        ("picture.safetensors", None),
        ("picture.safetensors", {"weight": np.zeros(3, np.float32)}),
        ("picture.safetensors", {"weight": np.array(1, np.float32), "bias": np.zeros((1, 1, 1)), "sharpen.0.weight": np.zeros(1)}),
        ("canaries.safetensors", None),
        ("canaries.safetensors", {"images": np.zeros((0, 1, 16, 16), np.uint8)}),
        ("canaries.safetensors", {"images": np.zeros((), np.uint8)}),
        ("canaries.safetensors", {"images": np.zeros((8, 1, 16, 16), np.float64)}),
    ],
)
def test_a_piece_of_another_form_is_one_sentence_of_the_contract(piece: str, tensors: dict[str, Any] | None, folder: Path) -> None:
    if tensors is None:
        (folder / piece).write_bytes(b"\xff" * 99)
    else:
        save_file(tensors, folder / piece)
    say(folder)
    assert release.problems(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": {"\ud800": 1}},
        {"classes": ["\udfff", "b"]},
        {"measurements": "all good"},
        {"measurements": {"x": "<script>alert(1)</script>"}},
        {"side": []},
        {"side": {"bits": "eight"}},
        {"side": {"bits": [8]}},
        {"side": {"bits": 10**9}},
        {"classes": {"a": 1}},
        {"classes": [None, 5]},
        {"canaries": ["c"] * 8},
        {"canaries": [None, 1, 2.5, [], {}, True, "", "x"]},
        {"canaries": [f"\x1b[2J{n}" for n in range(8)]},
        {"canaries": 8},
        {"dims": {"phi": 5, "psi": 10**30}},
        {"dims": {"phi": 5, "psi": 10**12}},
        {"dims": [5, 3]},
        {"metric": ["cosine"]},
        {"preprocessing": {"size": True, "mode": "L"}},
        {"files": [["program.pt2", ""]]},
        {"files": {"../release.json": "0" * 64}},
        {"fingerprint": ["x"]},
        {"format": True, "files": {}},
    ],
)
def test_a_release_json_of_another_form_is_one_sentence_of_the_contract(changes: Json, folder: Path) -> None:
    say(folder, **changes)
    assert release.problems(folder)


# ---- tags in the registry

VERDICT = hashlib.sha256(b"a verdict").hexdigest()


OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        VERDICT,
        f" {VERDICT}",
        f"ana {VERDICT[:31]}",
        f"ana {VERDICT[:12]}",
        f"ana {VERDICT}0",
        f"ana {VERDICT.upper()}",
        f"ana {OTHER}",
        f"ana {VERDICT} {OTHER}",
        f"ana\u202e {VERDICT}",
        f"an\u0430 {VERDICT}",
        f"Ana {VERDICT}",
        f"ana\n{VERDICT}",
        f"ana\u00a0{VERDICT}",
        f"eve, ana {VERDICT}",
        f"ana {''.join(chr(0xFEE0 + ord(one)) for one in VERDICT)}",
        f"{'a' * 101} {VERDICT}",
    ],
)
def test_a_tag_that_is_nearly_an_approval_is_none(value: str) -> None:
    found = approval.read({approval.APPROVE: value}, VERDICT, ["ana"])
    assert isinstance(found, approval.Ignored) and found.sentence.isprintable() and len(found.sentence) < 500


def test_a_tag_of_the_ledgers_head_that_others_wrote_says_nothing() -> None:
    """Else whoever may set tags could stop every command."""
    first = OTHER
    true = mark.to_tag(mark.Mark(7, VERDICT), first)
    for said in (
        f"9 {VERDICT}",
        f"9 {VERDICT} {VERDICT}",
        true.replace("7 ", "9 ", 1),
        true.upper(),
        true + "\n",
        mark.to_tag(mark.Mark(9, VERDICT), VERDICT),
    ):
        assert mark.of_tag(said, first) is None
    assert mark.of_tag(true, first) == mark.Mark(7, VERDICT)


# ---- a version's source


@pytest.mark.parametrize(
    "source",
    [
        "ROOT/../outside",
        "ROOT-beside/x",
        "ROOT/link",
        "file://evil.example/ROOT/x",
        "file:ROOT/x?y",
        "file:ROOT/%2e%2e/outside",
        "FILE:///etc",
        "s3://models.evil.example/icons",
        "s3://models/icons/../../other",
        "s3://models/icons-of-others",
        "s3://evil@models/icons",
        "s3://models/%69cons/..%2f..",
        "S3://models2/icons",
        "https://models/icons",
        "http://169.254.169.254/latest/meta-data",
        "mlflow-artifacts://evil.example/x",
        "dbfs:/x",
        "runs:/x",
        "models:/other/1",
        "\ns3://models/icons",
        "s3://models\\@evil/icons",
        "//evil.example/share",
        "",
    ],
)
def test_a_source_that_leads_elsewhere_is_not_followed(source: str, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    for one in (root, tmp_path / "outside", tmp_path / "artifacts-beside"):
        one.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    admitted = [*sources.roots("http://tracking:5000", tmp_path, ["s3://models/icons"])]
    with pytest.raises(FctError):
        sources.admit(source.replace("ROOT", str(root)), admitted, "version 2")
