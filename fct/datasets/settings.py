"""What the data stage can be told; the values live in params.yaml, block ``data``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fct.errors import BadInput

ICONS = "icons"
DIGITS = "digits"
TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class DataSettings:
    """Settings of :func:`fct.datasets.stage.prepare`.

    Attributes:
        source: ``"icons"``, ``"digits"``, ``"torchvision:NAME?root=/path"`` (:mod:`fct.datasets.torchsets`), or the path of a folder
            ``root/class/image`` (:mod:`fct.datasets.folder`).
        image_size: height and width of every image, in pixels.
        mode: ``"L"`` (grey) or ``"RGB"``.
        known_min_packs: a class is known when at least so many packs draw it (each pack counts, redrawing packs too). Icons only.
        unseen_min_packs: of the other classes, those drawn in at least so many packs are unseen classes. Icons only.
        max_drawings: most drawings of one class by one pack. Icons only.
        near_duplicate_cosine: two images of different splits that are more alike than this (0–1) are near-duplicates.
        pool_images: most images of the unlabelled pool.
        canaries: number of canaries.
        known_classes, unseen_classes: most known and unseen classes (both halves together); 0 means all.
        packs: the packs to use; empty means all. Icons only.
        unseen_fraction, pool_fraction: share of the classes that are unseen (both halves together), and in the pool. Not for icons.
        fitting_fraction: share of a known class's images in the split ``fitting``. Not for icons.
        evaluation_fraction: share of them in ``validation``, and the same again in ``gallery``. Not for icons.
        seed: orders everything that is drawn by lot.
        roots: folders that images may be links to, besides the source itself and DVC's cache (:mod:`fct.datasets.walk`).

    Raises:
        BadInput: a value is out of its range.
    """

    source: str
    image_size: int
    mode: str
    known_min_packs: int
    unseen_min_packs: int
    max_drawings: int
    near_duplicate_cosine: float
    pool_images: int
    canaries: int
    known_classes: int
    unseen_classes: int
    packs: tuple[str, ...]
    unseen_fraction: float
    pool_fraction: float
    fitting_fraction: float
    evaluation_fraction: float
    seed: int
    roots: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        _want(bool(self.source), "source", '"icons", "digits", "torchvision:NAME?root=/path" or the path of a folder', self.source)
        _want(self.mode in ("L", "RGB"), "mode", '"L" or "RGB"', self.mode)
        for name in ("image_size", "known_min_packs", "unseen_min_packs", "max_drawings"):
            _want(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _want(
            self.unseen_min_packs <= self.known_min_packs,
            "unseen_min_packs",
            f"at most known_min_packs = {self.known_min_packs}",
            self.unseen_min_packs,
        )
        for name in ("pool_images", "canaries", "known_classes", "unseen_classes"):
            _want(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("near_duplicate_cosine", "unseen_fraction", "pool_fraction", "fitting_fraction", "evaluation_fraction"):
            _want(0 <= getattr(self, name) <= 1, name, "a fraction between 0 and 1", getattr(self, name))
        _want(
            self.unseen_fraction + self.pool_fraction < 1,
            "unseen_fraction",
            "to leave known classes beside pool_fraction",
            self.unseen_fraction,
        )
        _want(
            self.fitting_fraction + 2 * self.evaluation_fraction < 1,
            "evaluation_fraction",
            "to leave images to train on",
            self.evaluation_fraction,
        )


def _want(true: bool, name: str, wanted: str, got: object) -> None:
    if not true:
        raise BadInput(f"data.{name} has an unusable value", wanted=wanted, got=repr(got))
