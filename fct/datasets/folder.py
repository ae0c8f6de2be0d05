"""A folder of labelled images, ``root/class/image``: which image goes into which split."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from fct.datasets.images import SUFFIXES, read_image
from fct.datasets.items import Item, lot
from fct.datasets.names import spellings
from fct.datasets.settings import DataSettings
from fct.errors import BadInput

LEAST_KNOWN = 2
LEAST_IMAGES = 6  # two to evaluate in each of two splits, one to fit on, one to train on
CANARY_SPARE = 6


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_folder(root: Path) -> dict[str, list[Path]]:
    """Class → its image files, both sorted by name. Hidden files and files that are no images by their suffix are passed over.

    Raises:
        BadInput: no such folder, fewer than two classes, a class without images, two files of one class with the same stem.
    """
    if not root.is_dir():
        raise BadInput("there is no such folder of images", wanted="root/class/image.png", where=root, todo="set data.source")
    found: dict[str, list[Path]] = {}
    for place in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(path for path in place.iterdir() if _is_image(path))
        if not files:
            raise BadInput("a class has no images", wanted=" ".join(sorted(SUFFIXES)), where=place, todo="add images or remove the folder")
        stems: dict[str, Path] = {}
        for file in files:
            if file.stem in stems:
                raise BadInput(
                    "two images have the same id", got=f"{stems[file.stem].name} and {file.name}", where=place, todo="rename one"
                )
            stems[file.stem] = file
        found[place.name] = files
    if len(found) < LEAST_KNOWN:
        raise BadInput("there are too few classes", wanted=f"at least {LEAST_KNOWN} folders of images", got=len(found), where=root)
    return found


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
    found = read_folder(root)
    roles = class_roles(list(found), settings)
    items: list[Item] = []
    paths: dict[str, Path] = {}

    def add(path: Path, split: str) -> None:
        name = path.parent.name
        key = f"{name}/{path.stem}"
        paths[key] = path
        items.append(Item(key, name, "", split, "", f"images/{split}/{name}/{path.stem}.png"))

    for name, files in found.items():
        files = sorted(files, key=lambda path: lot(settings.seed, name, path.name))
        if roles[name] in ("validation_unseen", "gallery_unseen"):
            for path in files:
                add(path, roles[name])
        elif roles[name] == "known":
            if len(files) < LEAST_IMAGES:
                raise BadInput(
                    "a class has too few images to be split", wanted=f"at least {LEAST_IMAGES}", got=len(files), where=root / name
                )
            at = 0
            for split, share in shares(len(files), settings).items():
                for path in files[at : at + share]:
                    add(path, split)
                at += share
    free = [path for name, files in found.items() if roles[name] == "pool" for path in files]
    free.sort(key=lambda path: lot(settings.seed, "pool", path.parent.name, path.name))
    spare = CANARY_SPARE * settings.canaries
    for path in free[: min(spare, len(free) // 2)]:
        add(path, "canary")
    for path in free[min(spare, len(free) // 2) :]:
        add(path, "pool")
    if not free:  # without a pool the canaries are taken from what would be trained on
        _canaries_from_train(items, settings)
    notes: list[str] = []
    if "gallery_unseen" not in roles.values():
        notes.append("there are too few classes for unseen ones: nothing is measured on unseen classes")
    if not any(item.split == "pool" for item in items):
        notes.append("there are too few classes for an unlabelled pool")
    return items, paths, notes


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
