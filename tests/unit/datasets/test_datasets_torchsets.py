import gzip
import hashlib
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torchvision
from PIL import Image

from fct.datasets import torchsets
from fct.datasets.images import read_image
from fct.datasets.manifest import read_manifest
from fct.datasets.stage import prepare
from fct.errors import BadInput
from tests.tiny_data import TINY_DATA

SETTINGS = replace(TINY_DATA, image_size=32, near_duplicate_cosine=0.999)
CLASSES = [f"thing_{letter}" for letter in "abcdefghij"]


def noise(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """Eight training and two test images of each of ten classes in CIFAR-100's batches; their sums stand in for the published ones."""
    folder = tmp_path / "cifar" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, each, seed in (("train", 8, 0), ("test", 2, 1)):
        batch = {"data": noise(10 * each, 3072, seed=seed), "fine_labels": [row % 10 for row in range(10 * each)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": CLASSES}))
    loader = torchvision.datasets.CIFAR100
    monkeypatch.setattr(loader, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(loader, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(loader, "meta", {**loader.meta, "md5": md5(folder / "meta")})
    return folder.parent


@pytest.fixture
def places365(tmp_path, monkeypatch):
    """The small layout: lists of files with class numbers, pictures in data_256_standard/ and val_256/."""
    root = tmp_path / "places"
    root.mkdir()
    names = [f"/{name[-1]}/{name}" for name in CLASSES]
    (root / "categories_places365.txt").write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)))
    pixels = noise(100, 20, 24, 3)
    lines = {"train": [], "val": []}
    for row in range(100):
        number = row % 10
        part, place = (
            ("train", f"data_256_standard{names[number]}/{row:08}.jpg") if row < 70 else ("val", f"val_256/Places365_{row:08}.jpg")
        )
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(root / place)
        listed = f"{names[number]}/{row:08}.jpg" if part == "train" else f"Places365_{row:08}.jpg"
        lines[part].append(f"{listed} {number}\n")
    (root / "places365_train_standard.txt").write_text("".join(lines["train"]))
    (root / "places365_val.txt").write_text("".join(lines["val"]))
    loader = torchvision.datasets.Places365
    monkeypatch.setattr(loader, "_CATEGORIES_META", ("categories_places365.txt", md5(root / "categories_places365.txt")))
    lists = {"train-standard": "places365_train_standard.txt", "val": "places365_val.txt"}
    monkeypatch.setattr(loader, "_FILE_LIST_META", {split: (name, md5(root / name)) for split, name in lists.items()})
    return root


def idx(array):
    """MNIST's format: a magic number with type and rank, the sizes, the bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion_mnist(tmp_path):
    raw = tmp_path / "fashion" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, each, seed in (("train", 8, 0), ("t10k", 2, 1)):
        (raw / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(noise(10 * each, 28, 28, seed=seed))))
        (raw / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(10 * each) % 10)))
    return raw.parents[1]


def read_all(settings, out):
    """The summary, and id → pixels as written."""
    summary = prepare(settings, out)
    manifest = read_manifest(out)
    assert set(manifest.source) == {""}
    known, unseen = set(manifest.rows("train").label), set(manifest.rows("validation_unseen", "gallery_unseen").label)
    assert known and known.isdisjoint(unseen)
    written = {}
    for key, file in zip(manifest.id, manifest.files, strict=True):
        written[str(key)] = read_image(file, settings.image_size, settings.mode)
        assert key.split("/")[0] == file.parent.name
    return summary, written


def test_cifar_100s_batches_become_splits_of_its_own_pixels(cifar100, tmp_path):
    summary, written = read_all(replace(SETTINGS, source=f"torchvision:CIFAR100?root={cifar100}"), tmp_path / "out")
    assert len(written) + summary["removed"].get("not_taken", {}).get("canary", 0) == 100
    assert summary["splits"]["gallery_unseen"]["classes"] == 2 and summary["splits"]["train"]["classes"] == 4
    for part, each in (("train", 8), ("test", 2)):
        pixels = noise(10 * each, 3, 32, 32, seed=0 if part == "train" else 1)
        for row in range(10 * each):
            key = f"{CLASSES[row % 10]}/{part}-{row:07}"
            if key in written:
                assert np.array_equal(written[key], pixels[row])
    assert {key.split("/")[1].split("-")[0] for key in written} == {"train", "test"}


def test_fashion_mnists_packed_files_are_read_and_left_as_they_are(fashion_mnist, tmp_path):
    before = {path: md5(path) for path in fashion_mnist.rglob("*.gz")}
    settings = replace(SETTINGS, source=f"torchvision:FashionMNIST?root={fashion_mnist}", image_size=28, mode="L")
    _, written = read_all(settings, tmp_path / "out")
    assert {path: md5(path) for path in fashion_mnist.rglob("*") if path.is_file()} == before
    pixels = noise(80, 28, 28)
    assert any(key.startswith("T-shirt-top/") for key in written)  # the name is T-shirt/top
    names = torchvision.datasets.FashionMNIST.classes
    for row in range(80):
        key = f"{names[row % 10].replace('/', '-')}/train-{row:07}"
        if key in written:
            assert np.array_equal(written[key][0], pixels[row])


def test_unpacked_files_give_the_same_as_packed_ones(fashion_mnist, tmp_path):
    settings = replace(SETTINGS, source=f"torchvision:FashionMNIST?root={fashion_mnist}", image_size=28, mode="L")
    _, packed = read_all(settings, tmp_path / "packed")
    for path in list(fashion_mnist.rglob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    _, unpacked = read_all(settings, tmp_path / "unpacked")
    assert packed.keys() == unpacked.keys()
    assert all(np.array_equal(packed[key], unpacked[key]) for key in packed)


def test_places365s_small_layout_is_read_and_one_part_can_be_chosen(places365, tmp_path):
    settings = replace(SETTINGS, source=f"torchvision:Places365?root={places365}", image_size=20)
    _, written = read_all(settings, tmp_path / "out")
    key = next(key for key in written if "/val-" in key)
    label, row = key.split("/")[0], 70 + int(key.rsplit("-", 1)[1])
    assert label == f"{CLASSES[row % 10][-1]}-{CLASSES[row % 10]}"
    assert np.array_equal(written[key], read_image(places365 / f"val_256/Places365_{row:08}.jpg", 20, "RGB"))
    found, _, _ = torchsets.candidates(replace(settings, source=settings.source + "&parts=train"))
    assert len(found) == 70 and all("/train-" in item.id for item in found)


def test_so_many_images_a_class_as_asked_for_the_same_ones_each_time(cifar100):
    settings = replace(SETTINGS, source=f"torchvision:CIFAR100?root={cifar100}&per_class=7")
    first, again = (sorted(item.id for item in torchsets.candidates(settings)[0]) for _ in range(2))
    assert first == again and len(first) == 70
    assert [sum(key.startswith(f"{name}/") for key in first) for name in CLASSES] == [7] * 10
    other = sorted(item.id for item in torchsets.candidates(replace(settings, seed=1))[0])
    assert other != first


def test_digits_are_black_on_white_in_ten_classes_of_which_some_are_unseen(tmp_path):
    from sklearn.datasets import load_digits

    settings = replace(SETTINGS, source="digits", image_size=8, mode="L", unseen_fraction=0.2, pool_fraction=0.1)
    items, pictures, notes = torchsets.candidates(settings)
    assert (
        len(items) == 1797
        and len(notes) == 1
        and "too few for a bound" in notes[0]
        and {item.name for item in items} == {f"digit-{number}" for number in range(10)}
    )
    unseen = {item.name for item in items if item.split.endswith("_unseen")}
    assert len(unseen) == 2 and unseen.isdisjoint(item.name for item in items if item.split == "train")
    data = load_digits()
    for item in items[::100]:
        row = int(item.id.split("/")[1])
        wanted = (255 - data.images[row] * 255 / 16).round().astype(np.uint8)
        assert np.array_equal(torchsets.convert(pictures, item, 8, "L")[0], wanted)
        assert item.name == f"digit-{data.target[row]}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision:", "unknown torchvision set; wanted CIFAR10 .*Places365; got none"),
        ("torchvision:ImageNet?root=.", "unknown torchvision set.*got ImageNet"),
        ("torchvision:CIFAR100", r"does not say where the files are; wanted torchvision:CIFAR100\?root=/path"),
        ("torchvision:CIFAR100?root=", "does not say where"),
        ("torchvision:CIFAR100?root=nowhere", "no such folder.*cifar-100-python.tar.gz.*cifar-100-python/"),
        ("torchvision:CIFAR100?root=.&download=1", "unknown option.*got download"),
        ("torchvision:CIFAR100?root=.&parts=val", "unknown part; wanted train test; got val"),
        ("torchvision:CIFAR100?root=.&per_class=0", "per_class"),
        ("torchvision:CIFAR100?root=.&per_class=many", "per_class"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_with_what_is_wanted(source, message):
    with pytest.raises(BadInput, match=message):
        torchsets.candidates(replace(SETTINGS, source=source))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("CIFAR100", "cifar-100-python.tar.gz"),
        ("FashionMNIST", "FashionMNIST/raw/ with the four files"),
        ("Places365", "categories_places365.txt"),
    ],
)
def test_missing_files_are_named_with_their_site_and_nothing_is_left_behind(name, wanted, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(BadInput, match=f"{name} cannot be read.*fetch http.*{wanted}") as caught:
        prepare(replace(SETTINGS, source=f"torchvision:{name}?root={tmp_path / 'in'}"), tmp_path / "out")
    assert "download=True" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_pickle_that_is_not_the_published_one_is_never_opened(cifar100):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a foreign pickle was opened",))

    (cifar100 / "cifar-100-python" / "train").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BadInput, match="corrupted"):
        torchsets.candidates(replace(SETTINGS, source=f"torchvision:CIFAR100?root={cifar100}"))


def test_a_torn_packed_file_and_a_missing_picture_are_refused(fashion_mnist, places365, tmp_path):
    path = fashion_mnist / "FashionMNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInput, match="FashionMNIST cannot be read"):
        torchsets.candidates(replace(SETTINGS, source=f"torchvision:FashionMNIST?root={fashion_mnist}"))
    next((places365 / "val_256").iterdir()).unlink()
    with pytest.raises(BadInput, match="an image of the set cannot be read.*No such file"):
        prepare(replace(SETTINGS, source=f"torchvision:Places365?root={places365}"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
