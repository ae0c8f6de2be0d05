"""Data sets that others publish: scikit-learn's digits, and torchvision's loaders for files that you put on this machine.

``data.source`` is ``digits``, or ``torchvision:NAME?root=/path`` with a NAME of :data:`SETS`; ``&per_class=500`` takes at most so many
images a class, by lot; ``&parts=val`` only the named ones of the set's own parts, separated by commas. Nothing is downloaded.

The set's own parts (train, test …) are put together and split anew by the settings, as :mod:`fct.datasets.folder` does: their test
sets have no classes that training has not seen. Sources are unknown. Pictures stay as published; digits become black on white.
Digits resemble each other and are ten classes only: unseen_fraction 0.4, pool_fraction 0.2 and near_duplicate_cosine 0.99 leave four
known classes, four unseen ones, two in the pool, and 17 canaries or more; the defaults leave as few as four canaries.

CIFAR's files are Python pickles, and torchvision unpickles them. It does so only where their MD5 sums are those of the published files,
which is no strong proof: put only files there that you fetched yourself. ImageNet-1k and VGGFace2 are folders of images; give the
folder's path as ``data.source``.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from PIL import Image

from fct.datasets.folder import LEAST_KNOWN, assign, image_id
from fct.datasets.images import from_pil
from fct.datasets.items import Item, lot
from fct.datasets.settings import DIGITS, TORCHVISION, DataSettings
from fct.errors import BadInput

Picture = Callable[[], Image.Image]


@dataclass(frozen=True)
class TorchSet:
    """``parts``: name → arguments of torchvision's loader. ``files``: what has to lie below the root. ``site``: where it comes from."""

    parts: dict[str, dict[str, Any]]
    files: str
    site: str


_TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}
_IDX = "{name}/raw/ with the four files train-images-idx3-ubyte … t10k-labels-idx1-ubyte (.gz or unpacked)"
SETS = {
    "CIFAR10": TorchSet(_TRAIN_TEST, "cifar-10-batches-py/", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
    "CIFAR100": TorchSet(_TRAIN_TEST, "cifar-100-python/", "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"),
    "MNIST": TorchSet(_TRAIN_TEST, _IDX, "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    "FashionMNIST": TorchSet(_TRAIN_TEST, _IDX, "https://github.com/zalandoresearch/fashion-mnist"),
    "KMNIST": TorchSet(_TRAIN_TEST, _IDX, "http://codh.rois.ac.jp/kmnist/"),
    "Places365": TorchSet(
        {"train": {"split": "train-standard", "small": True}, "val": {"split": "val", "small": True}},
        "categories_places365.txt, places365_train_standard.txt, places365_val.txt, data_256_standard/ and val_256/",
        "http://places2.csail.mit.edu/download.html",
    ),
}


@dataclass(frozen=True)
class Address:
    """``torchvision:NAME?root=…`` taken apart."""

    name: str
    root: Path
    parts: tuple[str, ...]
    per_class: int


def read_address(source: str) -> Address:
    """Take ``torchvision:NAME?root=/path[&parts=train,test][&per_class=500]`` apart; a ``+`` in the path stays one.

    Raises:
        BadInput: unknown set, part or option; no root, or no such folder; a number that is none.
    """
    name, _, query = source.removeprefix(TORCHVISION).partition("?")
    if name not in SETS:
        raise BadInput("data.source names an unknown torchvision set", wanted=" ".join(SETS), got=name or "none")
    options = {key: values[-1] for key, values in parse_qs(query.replace("+", "%2B"), keep_blank_values=True).items()}
    unknown = sorted(options.keys() - {"root", "parts", "per_class"})
    if unknown:
        raise BadInput("data.source has an unknown option", wanted="root, parts and per_class", got=" ".join(unknown))
    if not options.get("root"):
        raise BadInput("data.source does not say where the files are", wanted=f"{TORCHVISION}{name}?root=/path", got=source)
    parts = tuple(options["parts"].split(",")) if "parts" in options else tuple(SETS[name].parts)
    if not set(parts) <= SETS[name].parts.keys():
        raise BadInput("data.source names an unknown part", wanted=" ".join(SETS[name].parts), got=options["parts"])
    if not options.get("per_class", "1").isdecimal() or int(options.get("per_class", "1")) < 1:
        raise BadInput("data.source has an unusable per_class", wanted="a whole number from 1", got=options["per_class"])
    root = Path(options["root"])
    if not root.is_dir():
        raise BadInput("there is no such folder", where=root, todo=_todo(name))
    return Address(name, root, tuple(dict.fromkeys(parts)), int(options.get("per_class", 0)))


def _todo(name: str) -> str:
    return f"fetch {SETS[name].site} yourself and put there: {SETS[name].files.format(name=name)}"


def candidates(settings: DataSettings) -> tuple[list[Item], dict[str, Picture], list[str]]:
    """The items, what opens the picture of each id, and notes for the summary.

    Raises:
        BadInput: files are missing or damaged (says what to fetch and where to put it); see :func:`read_address` and
            :func:`fct.datasets.folder.assign`.
    """
    if settings.source == DIGITS:
        found = _digits()
    else:
        address = read_address(settings.source)
        found = _torchvision(address)
        if address.per_class:
            for label, pictures in found.items():
                names = sorted(pictures, key=lambda name: lot(settings.seed, "per_class", label, name))[: address.per_class]
                found[label] = {name: pictures[name] for name in sorted(names)}
    if len(found) < LEAST_KNOWN:
        raise BadInput("there are too few classes", wanted=f"at least {LEAST_KNOWN}", got=len(found), where=settings.source)
    items, notes = assign({label: list(pictures) for label, pictures in found.items()}, settings, settings.source)
    return items, {image_id(label, name): open_it for label, by_name in found.items() for name, open_it in by_name.items()}, notes


def _digits() -> dict[str, dict[str, Picture]]:
    """Class → name → picture of the 1,797 handwritten digits (8 × 8, 17 greys) that scikit-learn carries along."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BadInput("the digits come with scikit-learn, which is not installed", todo="pip install scikit-learn") from error
    data = load_digits()
    found: dict[str, dict[str, Picture]] = {f"digit-{label}": {} for label in range(10)}
    for row, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        grey = (255 - pixels * 255 / 16).round().astype(np.uint8)
        found[f"digit-{label}"][f"{row:04}"] = lambda grey=grey: Image.fromarray(grey)  # type: ignore[misc]
    return found


def _torchvision(address: Address) -> dict[str, dict[str, Picture]]:
    """Class → ``part-row`` → picture."""
    found: dict[str, dict[str, Picture]] = {}
    for part in address.parts:
        data = _load(address, part)
        number_to_class = {number: _plain(label) for label, number in data.class_to_idx.items()}
        if len(set(number_to_class.values())) < len(number_to_class):
            raise BadInput("two classes have the same name", where=address.root)
        for row, number in enumerate(data.targets):
            label = number_to_class[int(number)]
            found.setdefault(label, {})[f"{part}-{row:07}"] = lambda data=data, row=row: data[row][0]  # type: ignore[misc]
    return dict(sorted(found.items()))


def _plain(label: str) -> str:
    """A class's name as a folder can have it: ``/a/airfield`` → ``a-airfield``, ``T-shirt/top`` → ``T-shirt-top``."""
    return label.strip("/").replace("/", "-")


def _load(address: Address, part: str) -> Any:
    import torchvision

    arguments = SETS[address.name].parts[part]
    loader = getattr(torchvision.datasets, address.name)
    try:
        raw = address.root / address.name / "raw"
        packed = sorted(raw.glob("*-ubyte.gz"))
        if not [path for path in packed if not path.with_suffix("").exists()]:
            return loader(address.root, download=False, **arguments)
        with tempfile.TemporaryDirectory() as scratch:  # torchvision reads unpacked files only; your folder stays as it is
            _unpack(raw, Path(scratch) / address.name / "raw")
            return loader(scratch, download=False, **arguments)
    except Exception as error:  # the loaders raise almost anything on missing or damaged files
        reason = str(error).split(". You can")[0].strip() or type(error).__name__
        raise BadInput(
            f"{address.name} cannot be read ({part})", got=" ".join(reason.split()), where=address.root, todo=_todo(address.name)
        ) from error


def _unpack(raw: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for path in sorted(raw.glob("*-ubyte*")):
        if path.suffix == ".gz":
            if not path.with_suffix("").exists():
                with gzip.open(path) as packed, open(to / path.stem, "wb") as file:
                    shutil.copyfileobj(packed, file)
        else:
            shutil.copyfile(path, to / path.name)


def convert(pictures: dict[str, Picture], item: Item, size: int, mode: str) -> np.ndarray:
    """Open the picture of ``item`` as uint8 (C, size, size).

    Raises:
        BadInput: its file is missing or damaged.
    """
    try:
        return from_pil(pictures[item.id](), size, mode)
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        raise BadInput(
            "an image of the set cannot be read", got=" ".join(str(error).split()), where=item.id, todo="download it again"
        ) from error
