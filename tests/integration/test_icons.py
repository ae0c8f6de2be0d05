"""The data stage on real icon packs, in the size that tests use."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fct.arrays import digests
from fct.datasets import icons
from fct.datasets.items import EVALUATED, GROUPS
from fct.datasets.manifest import read_manifest
from fct.datasets.names import dropped, parse, spellings
from fct.datasets.packs import LICENCES, PART_OF
from fct.datasets.settings import DataSettings
from fct.datasets.stage import prepare
from fct.errors import BadInput

CACHE = Path(__file__).parents[2] / "build" / "npm"
TINY = DataSettings(
    source="icons",
    image_size=32,
    mode="L",
    known_min_packs=6,
    unseen_min_packs=4,
    max_drawings=3,
    near_duplicate_cosine=0.95,
    pool_images=150,
    canaries=8,
    known_classes=8,
    unseen_classes=6,
    packs=("lucide", "ri", "mingcute", "mynaui", "bi", "hugeicons", "ion", "teenyicons"),
    unseen_fraction=0.0,
    pool_fraction=0.0,
    fitting_fraction=0.1,
    evaluation_fraction=0.1,
    seed=0,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("icons") / "data"
    return out, prepare(TINY, out, CACHE)


def inks(manifest):
    rows = []
    for file in manifest.files:
        with Image.open(file) as image:
            assert image.mode == "L" and image.size == (32, 32) and image.format == "PNG"
            rows.append(255 - np.asarray(image, dtype=np.float64).reshape(-1))
    return np.stack(rows)


def test_every_split_has_the_classes_asked_for(tiny):
    out, summary = tiny
    for split in ("train", "validation", "gallery"):
        assert 6 <= summary["splits"][split]["classes"] <= 8
    for split in ("validation_unseen", "gallery_unseen"):
        assert 2 <= summary["splits"][split]["classes"] <= 3
    assert summary["splits"]["pool"]["images"] == 150 and summary["splits"]["canary"]["images"] == 8
    manifest = read_manifest(out)
    assert set((out / "images").rglob("*.png")) == set(manifest.files) and len(manifest) == summary["images"]


def test_no_name_of_an_unseen_class_is_trained_or_fitted_on(tiny):
    manifest = read_manifest(tiny[0])
    unseen = set(manifest.rows("validation_unseen", "gallery_unseen").label)
    assert unseen and not set(manifest.rows("validation_unseen").label) & set(manifest.rows("gallery_unseen").label)
    keys = {key for name in unseen for key in spellings(name)}
    for key in manifest.rows("train", "fitting", "pool", "canary", "validation", "gallery").id:
        concept = parse(*key.split(":"))[0]
        assert concept not in unseen and not keys & spellings(concept)


def test_packs_are_split_and_every_image_has_its_pack_and_licence(tiny):
    manifest = read_manifest(tiny[0])
    allowed = {"train": {"train"}, "fitting": {"fitting"}, "pool": {"train", "fitting"}, "canary": {"validation"}}
    for key, source, split, licence in zip(manifest.id, manifest.source, manifest.split, manifest.licence, strict=True):
        assert key.startswith(f"{source}:") and licence in LICENCES
        assert PART_OF[source] in allowed.get(split, {GROUPS[split].replace("gallery", "test")})


def test_no_two_images_of_different_split_groups_are_near_duplicates(tiny):
    manifest = read_manifest(tiny[0])
    rows = inks(manifest)
    assert rows.any(axis=1).all()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    group = np.array([GROUPS[split] for split in manifest.split])
    for one, other in combinations(sorted(set(group)), 2):
        assert cosines[np.ix_(group == one, group == other)].max() <= 0.95 + 1e-5


def test_every_query_has_a_match_in_another_pack(tiny):
    manifest = read_manifest(tiny[0])
    for split in EVALUATED:
        rows = manifest.rows(split)
        for label, source in zip(rows.label, rows.source, strict=True):
            assert ((rows.label == label) & (rows.source != source)).any()
        assert tiny[1]["queries"][split] == {"queries": len(rows), "with_a_match": len(rows)}


def test_no_pack_draws_a_class_too_often_and_brands_are_gone(tiny):
    manifest = read_manifest(tiny[0])
    drawn = [(parse(*key.split(":"))[0], source) for key, source in zip(manifest.id, manifest.source, strict=True)]
    assert max(drawn.count(pair) for pair in set(drawn)) <= TINY.max_drawings
    assert not any(dropped(concept) for concept, _ in drawn)


def test_nothing_is_lost_uncounted(tiny):
    summary = tiny[1]
    for split, row in summary["splits"].items():
        assert row["candidates"] == row["images"] + sum(counts.get(split, 0) for counts in summary["removed"].values())


def test_the_stage_gives_the_same_bytes_again(tiny, tmp_path):
    prepare(TINY, tmp_path / "again", CACHE)
    assert digests.of_folder(tmp_path / "again") == digests.of_folder(tiny[0])


def test_an_old_result_is_replaced_and_kept_when_the_new_one_cannot_be_made(tiny, tmp_path):
    prepare(TINY, tmp_path / "data", CACHE)
    before = digests.of_folder(tmp_path / "data")
    with pytest.raises(BadInput, match="too small after duplicates are gone"):
        prepare(replace(TINY, near_duplicate_cosine=0.0), tmp_path / "data", CACHE)
    assert digests.of_folder(tmp_path / "data") == before
    prepare(replace(TINY, pool_images=10), tmp_path / "data", CACHE)
    assert len(read_manifest(tmp_path / "data").rows("pool")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_too_few_canaries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(icons, "CANARY_SPARE", 1)  # no candidate to spare for those that look alike
    with pytest.raises(BadInput, match=r"too few icons can be canaries.*wanted 200.*lower data\.canaries"):
        prepare(replace(TINY, canaries=200), tmp_path / "data", CACHE)
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_no_class_reaches_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no class is drawn in enough packs"):
        prepare(replace(TINY, known_min_packs=9, unseen_min_packs=4), tmp_path / "data", CACHE)
