"""Settings of the stage *data* for few images in a folder; tests replace what matters to them."""

from __future__ import annotations

from fct.datasets.settings import DataSettings

TINY_DATA = DataSettings(
    source="set by each test",
    image_size=16,
    mode="RGB",
    known_min_packs=1,
    unseen_min_packs=1,
    max_drawings=1,
    near_duplicate_cosine=0.95,
    pool_images=1000,
    canaries=4,
    known_classes=0,
    unseen_classes=0,
    packs=(),
    unseen_fraction=0.4,
    pool_fraction=0.2,
    fitting_fraction=0.2,
    evaluation_fraction=0.2,
    seed=0,
)
