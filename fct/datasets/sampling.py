"""Some images of a folder, drawn by a fixed seed: to fit on, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fct.datasets.images import read_file
from fct.datasets.walk import walk
from fct.errors import BadInput


def some_images(
    folder: Path, project: Path | None, roots: Sequence[str | Path] = (), *, size: int, least: int, most: int, mode: str = "RGB"
) -> tuple[np.ndarray, list[tuple[str, str]], list[str]]:
    """At most ``most`` images below a folder, in an order drawn with seed 0.

    Args:
        project, roots: as :func:`fct.datasets.walk.walk` takes them. size, mode: S and channels of what is read.

    Returns:
        (N, C, S, S) uint8; the images that cannot be read, with the reason; sentences about what the walk left out.

    Raises:
        BadInput: no such folder, or fewer than ``least`` images can be read.
    """
    if not folder.is_dir():
        raise BadInput("there is no such folder of images", where=folder)
    walked = walk(folder, project, roots)
    files = sorted(walked.below(folder))
    found, left = [], []
    for place in tqdm(np.random.default_rng(0).permutation(len(files))[:most], desc="reading", unit="image", leave=False):
        try:
            with walked.open(files[place]) as file:
                found.append(read_file(file, files[place], size, mode))
        except BadInput as error:
            left.append((str(files[place]), str(error)))
    if len(found) < least:
        raise BadInput("there are too few images that can be read", wanted=f"at least {least}", got=len(found), where=folder)
    return np.stack(found), left, walked.left.sentences()
