"""A folder of labelled images, ``root/class/image``: which image goes into which split.

ImageNet-1k and VGGFace2 come as ``root/train/class/image`` and ``root/val/class/image`` (or ``root/test/…``): then the classes of all
parts are put together and split anew by the settings, like any other folder. A ``test`` without class folders has no labels and is
passed over; a ``val`` without them (ImageNet as downloaded) must be sorted into class folders first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from fct.datasets.images import SUFFIXES, read_image
from fct.datasets.items import Item, lot
from fct.datasets.names import spellings
from fct.datasets.settings import DataSettings
from fct.datasets.walk import Walk, walk
from fct.errors import BadInput
from fct.search.intervals import FEWEST

LEAST_KNOWN = 2
LEAST_IMAGES = 6  # two to evaluate in each of two splits, one to fit on, one to train on
CANARY_SPARE = 6
PARTS = frozenset({"train", "val", "validation", "valid", "test"})


def parts(root: Path, walked: Walk) -> list[Path]:
    """``root`` itself, or its ``train``, ``val`` … where it has nothing but such parts and their folders are the classes.

    Raises:
        BadInput: a part other than ``test`` has images and no class folders.
    """
    found = walked.look(root)[1]
    nested = [place for place in found if walked.look(place)[1]]
    if not nested or not {place.name for place in found} <= PARTS:
        return [root]
    for place in found:
        if place not in nested and place.name != "test":
            raise BadInput("a part has no class folders", wanted=f"{place.name}/class/image.png", where=place, todo="sort it into classes")
    return nested


def read_folder(root: Path, walked: Walk | None = None) -> dict[str, list[Path]]:
    """Class → its image files, part by part, sorted by name. What ``walked`` leaves out is listed there.

    Raises:
        BadInput: no such folder, fewer than two classes, a class without images, two files of one class with the same stem.
    """
    if not root.is_dir():
        raise BadInput("there is no such folder of images", wanted="root/class/image.png", where=root, todo="set data.source")
    walked = walked or walk(root, None)
    found: dict[str, list[Path]] = {}
    for place in [place for part in parts(root, walked) for place in walked.look(part)[1]]:
        files = walked.look(place)[0]
        if not files:
            got = "; ".join(walked.left.sentences(place)) or None
            raise BadInput(
                "a class has no images", wanted=" ".join(sorted(SUFFIXES)), got=got, where=place, todo="add images or remove the folder"
            )
        stems: dict[str, Path] = {}
        for file in files:
            if file.stem in stems:
                raise BadInput(
                    "two images have the same id", got=f"{stems[file.stem].name} and {file.name}", where=place, todo="rename one"
                )
            stems[file.stem] = file
        found.setdefault(place.name, []).extend(files)
    if len(found) < LEAST_KNOWN:
        raise BadInput("there are too few classes", wanted=f"at least {LEAST_KNOWN} folders of images", got=len(found), where=root)
    return dict(sorted(found.items()))


def class_roles(classes: list[str], settings: DataSettings) -> dict[str, str]:
    """Class → ``known``, ``validation_unseen``, ``gallery_unseen`` or ``pool``, drawn by lot; at least two stay known.

    Classes with the same words (in another order, number or spelling) have the same role, so that no unseen name leaks.
    """
    half = int(len(classes) * settings.unseen_fraction / 2)
    if settings.unseen_classes:
        half = min(half, settings.unseen_classes // 2)
    pool = int(len(classes) * settings.pool_fraction)
    while half * 2 + pool > len(classes) - LEAST_KNOWN:
        half, pool = (half, pool - 1) if pool else (half - 1, 0)
    plan = ["validation_unseen"] * half + ["gallery_unseen"] * half + ["pool"] * pool
    roles: dict[str, str] = {}
    known = len(classes)
    for group in _spelling_groups(sorted(classes, key=lambda name: lot(settings.seed, "class", name))):
        role = plan[0] if plan and known - len(group) >= LEAST_KNOWN else "known"
        for name in group:
            roles[name] = role
            if role in plan:
                plan.remove(role)
        known -= len(group) if role != "known" else 0
    known_names = sorted((name for name, role in roles.items() if role == "known"), key=lambda name: lot(settings.seed, "known", name))
    for name in known_names[settings.known_classes or len(known_names) :]:
        roles[name] = "left_out"
    return roles


def _spelling_groups(names: list[str]) -> list[list[str]]:
    groups: list[tuple[set[str], list[str]]] = []
    for name in names:
        keys, members = set(spellings(name)), [name]
        for group in [group for group in groups if not group[0].isdisjoint(keys)]:
            groups.remove(group)
            keys, members = keys | group[0], group[1] + members
        groups.append((keys, members))
    return [members for _, members in groups]


def shares(count: int, settings: DataSettings) -> dict[str, int]:
    """How many of a known class's ``count`` images each split gets: two at least to evaluate in each split, one at least elsewhere."""
    evaluated = max(2, round(count * settings.evaluation_fraction))
    fitting = max(1, round(count * settings.fitting_fraction))
    return {"gallery": evaluated, "validation": evaluated, "fitting": fitting, "train": count - 2 * evaluated - fitting}


def candidates(root: Path, settings: DataSettings) -> tuple[list[Item], dict[str, Path], list[str]]:
    """The items, the file of each id, and notes for the summary about what such a folder cannot have.

    Raises:
        BadInput: see :func:`read_folder`; also a known class with too few images to be split.
    """
    walked = walk(root, Path.cwd(), settings.roots)
    found = read_folder(root, walked)
    nested = parts(root, walked) != [root]

    def name(path: Path) -> str:
        return f"{path.parent.parent.name}-{path.name}" if nested else path.name

    items, notes = assign({label: [name(path) for path in files] for label, files in found.items()}, settings, root)
    files = {image_id(label, name(path)): path for label, files in found.items() for path in files}
    return items, files, [*notes, *walked.left.sentences()]


def image_id(label: str, name: str) -> str:
    """The id of the image ``name`` of the class ``label``: without the suffix, which conversion changes."""
    return f"{label}/{PurePath(name).stem}"


def assign(found: dict[str, list[str]], settings: DataSettings, where: Path | str) -> tuple[list[Item], list[str]]:
    """Split labelled images without sources: roles of classes, shares of their images, pool and canaries, all by lot.

    Args:
        found: class → names of its images, as files could have them; different stems within a class.
        where: for the messages.

    Returns:
        the items, with ids of :func:`image_id`, and notes for the summary about what such data cannot have.

    Raises:
        BadInput: a known class with too few images to be split.
    """
    roles = class_roles(list(found), settings)
    items: list[Item] = []

    def add(label: str, name: str, split: str) -> None:
        key = image_id(label, name)
        items.append(Item(key, label, "", split, "", f"images/{split}/{key}.png"))

    for label, names in found.items():
        names = sorted(names, key=lambda name: lot(settings.seed, label, name))
        if roles[label] in ("validation_unseen", "gallery_unseen"):
            for name in names:
                add(label, name, roles[label])
        elif roles[label] == "known":
            if len(names) < LEAST_IMAGES:
                raise BadInput(
                    "a class has too few images to be split",
                    wanted=f"at least {LEAST_IMAGES}",
                    got=len(names),
                    where=where / label if isinstance(where, Path) else f"{where}, {label}",
                )
            at = 0
            for split, share in shares(len(names), settings).items():
                for name in names[at : at + share]:
                    add(label, name, split)
                at += share
    free = [(label, name) for label, names in found.items() if roles[label] == "pool" for name in names]
    free.sort(key=lambda pair: lot(settings.seed, "pool", *pair))
    spare = min(CANARY_SPARE * settings.canaries, len(free) // 2)
    for row, (label, name) in enumerate(free):
        add(label, name, "canary" if row < spare else "pool")
    if not free:  # without a pool the canaries are taken from what would be trained on
        _canaries_from_train(items, settings)
    notes: list[str] = []
    if "gallery_unseen" not in roles.values():
        notes.append("there are too few classes for unseen ones: nothing is measured on unseen classes")
    elif (count := list(roles.values()).count("validation_unseen")) < FEWEST:
        notes.append(
            f"{count} unseen classes in either half are too few for a bound, which needs {FEWEST}: a verdict on them will be inconclusive "
            "(raise data.unseen_fraction; at 0 nothing is measured on unseen classes)"
        )
    if not any(item.split == "pool" for item in items):
        notes.append("there are too few classes for an unlabelled pool")
    return items, notes


def _canaries_from_train(items: list[Item], settings: DataSettings) -> None:
    training = [row for row, item in enumerate(items) if item.split == "train"]
    training.sort(key=lambda row: lot(settings.seed, "canary", items[row].id))
    left = Counter(items[row].name for row in training)
    room = min(2 * settings.canaries, len(training) // 5)
    for row in training:
        item = items[row]
        if room and left[item.name] > 1:
            items[row] = replace(item, split="canary", file=item.file.replace("images/train/", "images/canary/", 1))
            left[item.name] -= 1
            room -= 1


def convert(paths: dict[str, Path], item: Item, size: int, mode: str) -> np.ndarray:
    """Read the image of ``item`` as uint8 (C, size, size)."""
    return read_image(paths[item.id], size, mode)
