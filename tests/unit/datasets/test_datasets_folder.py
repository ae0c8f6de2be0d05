import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fct.arrays import digests
from fct.datasets.folder import class_roles, read_folder, shares
from fct.datasets.images import read_image
from fct.datasets.manifest import read_manifest
from fct.datasets.stage import prepare
from fct.errors import BadInput
from tests.tiny_data import TINY_DATA

SETTINGS = TINY_DATA
SUFFIXES = ("png", "jpg", "bmp", "gif", "tif", "webp", "jpeg")


def make(root, classes, images=10, seed=0):
    """Noise images of many formats and sizes: all different, so nothing is a near-duplicate."""
    generator = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(images):
            # 16 × 16 blocks of one colour survive resizing to 16 × 16
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(1 + number % 3, 0).repeat(1 + number % 3, 1)
            Image.fromarray(pixels).save(root / name / f"{number:02}.{SUFFIXES[number % len(SUFFIXES)]}")
    return replace(SETTINGS, source=str(root))


def test_a_folder_of_classes_becomes_splits_of_converted_images(tmp_path):
    settings = make(tmp_path / "in", [f"class {letter}" for letter in "abcdefghij"])
    summary = prepare(settings, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    counts = {split: row["images"] for split, row in summary["splits"].items()}
    # 10 classes: 2 + 2 unseen, 2 in the pool (10 images of them may be canaries), 4 known with 2 gallery, 2 validation, 2 fitting, 4 train
    assert counts == {
        "train": 16,
        "fitting": 8,
        "validation": 8,
        "gallery": 8,
        "validation_unseen": 20,
        "gallery_unseen": 20,
        "pool": 10,
        "canary": 4,
    }
    assert summary["removed"] == {"not_taken": {"canary": 6}} and summary["cross_source"] is False
    assert len(summary["notes"]) == 1 and "2 unseen classes in either half are too few for a bound, which needs 5" in summary["notes"][0]
    assert set(manifest.source) == {""} and set(manifest.licence) == {""}
    assert set(manifest.rows("pool", "canary").label) == {""}
    for file, key in zip(manifest.files, manifest.id, strict=True):
        original = next((tmp_path / "in").glob(f"{key}.*"))
        assert np.array_equal(read_image(file, 16, "RGB"), read_image(original, 16, "RGB"))
    on_disk = set((tmp_path / "out" / "images").rglob("*.png"))
    assert on_disk == set(manifest.files)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_no_class_is_both_seen_and_unseen(tmp_path):
    settings = make(tmp_path / "in", [f"class {letter}" for letter in "abcdefghij"])
    prepare(settings, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    shown = {split: {file.split("/")[2] for file in manifest.rows(split).file} for split in set(manifest.split)}
    known = shown["train"]
    assert known == shown["fitting"] == shown["validation"] == shown["gallery"] and len(known) == 4
    rest = [shown["validation_unseen"], shown["gallery_unseen"], shown["pool"] | shown["canary"]]
    assert sum(map(len, rest)) + len(known) == len(known.union(*rest)) == 10


def test_the_same_folder_and_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    settings = make(tmp_path / "in", "abcdefghij")
    for name in ("one", "two"):
        prepare(settings, tmp_path / name)
    assert digests.of_folder(tmp_path / "one") == digests.of_folder(tmp_path / "two")
    prepare(replace(settings, seed=1), tmp_path / "three")
    assert digests.of_file(tmp_path / "one/manifest.csv") != digests.of_file(tmp_path / "three/manifest.csv")


def test_two_classes_are_enough_and_the_summary_says_what_is_missing(tmp_path):
    settings = make(tmp_path / "in", ["cat", "dog"])
    summary = prepare(settings, tmp_path / "out")
    counts = {split: row["images"] for split, row in summary["splits"].items()}
    assert counts["gallery"] == counts["validation"] == counts["fitting"] == 4
    assert counts["pool"] == counts["gallery_unseen"] == counts["validation_unseen"] == 0
    assert counts["train"] + counts["canary"] == 8 and counts["canary"] == 1
    assert len(summary["notes"]) == 3 and "1 of 4 canaries" in summary["notes"][2]
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_a_twin_of_an_evaluated_image_leaves_the_training_side(tmp_path):
    settings = make(tmp_path / "in", ["cat", "dog"], images=12)
    prepare(settings, tmp_path / "before")
    before = read_manifest(tmp_path / "before")
    kept, lost = before.rows("gallery").id[0], before.rows("train").id[0]
    twin = np.asarray(Image.open(next((tmp_path / "in").glob(f"{kept}.*"))).convert("RGB").resize((64, 64), Image.Resampling.NEAREST))
    place = next((tmp_path / "in").glob(f"{lost}.*"))
    Image.fromarray(np.clip(twin.astype(int) + 3, 0, 255).astype(np.uint8)).save(place)
    summary = prepare(settings, tmp_path / "after")
    after = read_manifest(tmp_path / "after")
    assert kept in after.rows("gallery").id and lost not in after.id
    assert summary["removed"]["near_duplicate"] == {"train": 1}


def test_mode_and_size_are_as_set(tmp_path):
    settings = replace(make(tmp_path / "in", ["cat", "dog"]), mode="L", image_size=24)
    prepare(settings, tmp_path / "out")
    with Image.open(read_manifest(tmp_path / "out").files[0]) as image:
        assert image.mode == "L" and image.size == (24, 24)


def break_folder(root, how):
    if how == "no folder":
        return replace(SETTINGS, source=str(root / "nowhere"))
    settings = make(root, ["cat"] if how == "one class" else ["cat", "dog"])
    if how == "empty class":
        (root / "emu").mkdir()
    elif how == "corrupt":
        for path in [*root.glob("*/0[0-5].*")]:
            path.write_bytes(path.read_bytes()[:100])
    elif how == "same id":
        Image.new("L", (4, 4)).save(root / "dog" / "00.bmp")
    elif how == "few images":
        for number in range(3, 10):
            next((root / "dog").glob(f"{number:02}.*")).unlink()
    return settings


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no folder", "no such folder.*nowhere"),
        ("one class", "too few classes.*got 1"),
        ("empty class", "no images.*emu"),
        ("corrupt", r"more than half of the images cannot be read; got .*0\d\."),
        ("same id", r"same id; got 00\.bmp and 00\.png; .*dog"),
        ("few images", "too few images to be split.*dog"),
    ],
)
def test_an_unusable_folder_is_refused_and_nothing_is_left_behind(tmp_path, how, message):
    settings = break_folder(tmp_path / "in", how)
    with pytest.raises(BadInput, match=message):
        prepare(settings, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != "in"] == []


def test_images_that_cannot_be_read_are_counted_and_the_rest_is_prepared(tmp_path):
    settings = make(tmp_path / "in", ["cat", "dog"], images=12)
    whole = (tmp_path / "in/cat/01.jpg").read_bytes()
    (tmp_path / "in/cat/torn.jpg").write_bytes(whole[:300])
    (tmp_path / "in/cat/empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "in/dog/float.tif")
    summary = prepare(settings, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert sum(summary["removed"]["unreadable"].values()) == 3 and any(note.startswith("3 left out, such as") for note in summary["notes"])
    assert not {"cat/torn", "cat/empty", "dog/float"} & set(manifest.id) and len(manifest) > 20
    assert {path.stem for path in (tmp_path / "out/images").rglob("*.png")} == {one.split("/")[1] for one in manifest.id}
    assert sum(split["candidates"] for split in summary["splits"].values()) == 27


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    settings = make(tmp_path / "in", ["cat", "dog"])
    (tmp_path / "in" / ".cache").mkdir()
    (tmp_path / "in" / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "in" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "in" / "readme.md").write_text("x")
    assert prepare(settings, tmp_path / "out")["splits"]["train"]["classes"] == 2


def test_an_output_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    settings = make(tmp_path / "in", ["cat", "dog"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="would be lost"):
        prepare(settings, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("count", range(6, 60))
def test_every_split_gets_its_share_of_a_known_class(count):
    given = shares(count, SETTINGS)
    assert sum(given.values()) == count
    assert given["train"] >= 1 and given["fitting"] >= 1 and given["gallery"] >= 2 and given["validation"] >= 2


@pytest.mark.parametrize("count", range(2, 40))
def test_at_least_two_classes_stay_known_and_spellings_stay_together(count):
    names = [f"thing-{number}" for number in range(count - 1)] + ["0-thing"]
    roles = class_roles(names, SETTINGS)
    assert set(roles) == set(names) and roles["thing-0"] == roles["0-thing"]
    assert list(roles.values()).count("known") >= 2


def test_the_caps_of_known_and_unseen_classes_hold():
    names = [f"thing {number}" for number in range(40)]
    roles = list(class_roles(names, replace(SETTINGS, known_classes=5, unseen_classes=6)).values())
    assert [roles.count(role) for role in ("known", "validation_unseen", "gallery_unseen", "pool")] == [5, 3, 3, 8]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "CMYK"),
        ("image_size", 0),
        ("near_duplicate_cosine", 1.2),
        ("canaries", -1),
        ("unseen_fraction", 0.9),
        ("evaluation_fraction", 0.5),
        ("source", ""),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(BadInput, match=f"data.{name}"):
        replace(SETTINGS, **{name: value})


def test_train_and_val_folders_of_classes_are_put_together_and_split_anew(tmp_path):
    make(tmp_path / "in" / "train", ["cat", "dog"], images=8)
    make(tmp_path / "in" / "val", ["cat", "dog"], images=4, seed=1)
    (tmp_path / "in" / "test").mkdir()  # ImageNet's: pictures without labels
    Image.new("L", (4, 4)).save(tmp_path / "in" / "test" / "0.png")
    prepare(replace(SETTINGS, source=str(tmp_path / "in")), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    kept = {str(key) for key in manifest.id if "/train-" in key or "/val-" in key}
    assert len(kept) == len(manifest) >= 22 and any("/val-" in key for key in kept) and set(manifest.rows("train").label) == {"cat", "dog"}
    key = next(key for key in kept if key.startswith("dog/val-"))
    original = next((tmp_path / "in/val/dog").glob(f"{key.removeprefix('dog/val-')}.*"))
    file = manifest.files[manifest.id.tolist().index(key)]
    assert np.array_equal(read_image(file, 16, "RGB"), read_image(original, 16, "RGB"))


def test_parts_with_different_classes_are_put_together_too(tmp_path):
    make(tmp_path / "train", ["n000002", "n000003"])
    make(tmp_path / "test", ["n000001"])
    assert list(read_folder(tmp_path)) == ["n000001", "n000002", "n000003"]


def test_a_val_folder_without_classes_is_refused(tmp_path):
    make(tmp_path / "in" / "train", ["cat", "dog"])
    (tmp_path / "in" / "val").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "in" / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(BadInput, match=r"no class folders; wanted val/class/image\.png"):
        prepare(replace(SETTINGS, source=str(tmp_path / "in")), tmp_path / "out")


def test_classes_may_be_called_train_and_test(tmp_path):
    make(tmp_path, ["train", "test"])
    assert list(read_folder(tmp_path)) == ["test", "train"]
