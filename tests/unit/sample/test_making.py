from dataclasses import replace

import numpy as np
import pytest
import torch

from fct.arrays import digests
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.embedder.settings import EmbedderSettings
from fct.errors import BadInput
from fct.program import programs
from fct.sample.making import known_part, make_release, measure
from fct.search import metrics
from fct.side.settings import SideSettings
from tests.conftest import SIZE

EMBEDDER = EmbedderSettings("small-cnn", dim=8, classes=0.5, epochs=1, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1)
SIDE = SideSettings(
    ("simclr", "pca"), dims=8, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
)


@pytest.mark.parametrize(("share", "wanted"), [(1.0, "abcdef"), (0.5, "ace"), (0.67, "abce"), (0.34, "ac"), (0.0, "a")])
def test_the_known_part_is_spread_over_the_alphabet(share, wanted):
    assert known_part(list("abcdef"), share) == list(wanted)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_larger_part_contains_the_smaller(share):
    names = [f"{i:02}" for i in range(17)]
    assert set(known_part(names, share)) <= set(known_part(names, share + 0.25))


def test_a_release_is_trained_on_its_part_of_the_known_classes(v1, v2, data):
    known = sorted(set(read_manifest(data).rows("train").label.tolist()))
    assert v1.classes == known[::2] and v2.classes == known
    assert v1.head()[0].shape == (len(known[::2]), 8) and v2.head()[0].shape == (len(known), 12)
    assert v1.side_bytes == 16 and v2.side_bytes == 8
    assert v1.about["side"]["kinds"] == ["simclr", "pca"]


def test_the_canaries_are_those_of_the_manifest(v1, data):
    rows = read_manifest(data).rows("canary")
    ids, images = v1.canaries()
    assert ids.tolist() == [f"canary:{name}" for name in rows.id]
    np.testing.assert_array_equal(images, read_images(rows.files, SIZE, "L"))


def test_the_same_seed_makes_the_same_bytes(v1, data, tmp_path):
    again = make_release("v1", data, tmp_path / "v1", EMBEDDER, SIDE, size=SIZE, mode="L", seed=0, device="cpu")
    assert digests.of_folder(again.folder) == digests.of_folder(v1.folder)
    other = make_release("v1", data, tmp_path / "other", EMBEDDER, SIDE, size=SIZE, mode="L", seed=5, device="cpu")
    assert other.fingerprint != v1.fingerprint


def test_declared_measurements_are_those_of_a_search_in_the_evaluation_sample(v2, data):
    rows = read_manifest(data).rows("validation", "validation_unseen")
    phi, _ = programs.embed(v2.program(), read_images(rows.files, SIZE, "L"), device=torch.device("cpu"))
    found = metrics.per_query(phi, phi, rows.label, rows.label, query_ids=rows.id, gallery_ids=rows.id)
    known = rows.split[found.rows] == "validation"
    declared = v2.about["measurements"]
    assert set(declared) == {f"{population}.{name}" for population in ("known", "unseen") for name in ("top1", "top5", "mAP")}
    assert declared["known.top1"] == pytest.approx((found.rank[known] == 1).mean(), abs=1e-6)
    assert declared["unseen.mAP"] == pytest.approx(found.ap[~known].mean(), abs=1e-6)
    assert measure(v2.program(), data, size=SIZE, mode="L", device=torch.device("cpu")) == pytest.approx(declared, abs=1e-6)


def test_fewer_than_two_classes_are_refused_and_nothing_is_written(data, tmp_path):
    with pytest.raises(BadInput, match=r"at least two classes.*train\.v9\.embedder\.classes"):
        make_release("v9", data, tmp_path / "v9", replace(EMBEDDER, classes=0.01), SIDE, size=SIZE, mode="L", seed=0, device="cpu")
    assert list(tmp_path.iterdir()) == []
