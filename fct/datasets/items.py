"""One image on its way into a split, and the splits there are."""

from __future__ import annotations

from dataclasses import dataclass

from fct.arrays import digests

# Split → split group. Between groups no two images are near-duplicates. In this order a group keeps its images and later ones lose
# theirs, so that evaluation keeps its queries and training loses the twins.
GROUPS = {
    "gallery": "gallery",
    "gallery_unseen": "gallery",
    "validation": "validation",
    "validation_unseen": "validation",
    "canary": "canary",
    "fitting": "fitting",
    "train": "train",
    "pool": "pool",
}
SPLITS = ("train", "pool", "fitting", "validation", "validation_unseen", "gallery", "gallery_unseen", "canary")
EVALUATED = ("validation", "validation_unseen", "gallery", "gallery_unseen")
UNLABELLED = ("pool", "canary")


@dataclass(frozen=True)
class Item:
    """One image: ``name`` is what it shows, also where ``label`` is withheld (pool and canaries)."""

    id: str
    name: str
    source: str
    split: str
    licence: str
    file: str

    @property
    def label(self) -> str:
        return "" if self.split in UNLABELLED else self.name


def lot(seed: int, *words: object) -> str:
    """A key to sort by: the same lot for the same words, on every machine."""
    return digests.of_bytes("\0".join(map(str, (seed, *words))).encode())
