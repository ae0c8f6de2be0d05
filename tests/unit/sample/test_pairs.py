from dataclasses import replace

import numpy as np
import pytest
import torch
from test_making import EMBEDDER, SIDE

from fct.arrays import digests, vectors
from fct.arrays.files import read_json
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.embedder import augment
from fct.errors import BadInput
from fct.forward import Forward
from fct.program import programs
from fct.release import preview
from fct.sample import pairs
from fct.sample.folder import PairsFolder
from fct.sample.making import make_release
from fct.sample.pairs import convert, write_pairs
from fct.sample.settings import EmbedSettings
from fct.side import codes, picture
from tests.conftest import SIZE

SETTINGS = EmbedSettings(fitting=("train", "fitting"), pool=("pool",), views=3, pool_views=2, pool_recombined=1, preview=True, batch=16)


@pytest.fixture(scope="module")
def written(v1, v2, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs") / "out"
    counts = write_pairs(v1, v2, data, out, SETTINGS, seed=3, device="cpu")
    return out, counts


def load(folder, part, name):
    return vectors.load(folder / part / f"{name}.npy")


def test_every_image_has_as_many_rows_as_views(written, data):
    out, counts = written
    manifest = read_manifest(data)
    fitting, pool, sample = (
        len(manifest.rows(*splits)) for splits in (("train", "fitting"), ("pool",), ("validation", "validation_unseen"))
    )
    assert counts == {"fitting": 3 * fitting, "pool": 3 * pool, "sample": sample, "canaries": 8}
    assert min(counts.values()) > 0
    for part in counts:
        assert {len(load(out, part, name)) for name in ("old", "side", "new")} == {counts[part]}
    assert load(out, "fitting", "old").shape[1] == 8 and load(out, "fitting", "new").shape[1] == 12
    assert load(out, "fitting", "side").dtype == np.int8
    assert read_json(out / "pairs.json")["counts"] == counts


def test_the_first_view_is_the_image_itself_and_the_others_are_not(written, v1, data):
    out, _ = written
    rows = read_manifest(data).rows("train", "fitting")
    phi, psi = programs.embed(v1.program(), read_images(rows.files, v1.size, v1.mode), device=torch.device("cpu"), batch=16)
    old = np.split(np.array(load(out, "fitting", "old")), 3)
    np.testing.assert_array_equal(old[0], phi)
    np.testing.assert_array_equal(np.array(load(out, "fitting", "side"))[: len(rows)], psi)
    assert not np.array_equal(old[1], phi) and not np.array_equal(old[1], old[2])


def test_both_programs_see_the_same_views(v1, data, tmp_path):
    """With one program in the old and the new release, every view must give the same vectors in both columns."""
    twin = replace(v1, about={**v1.about, "fingerprint": "of another release"})
    write_pairs(v1, twin, data, tmp_path / "out", SETTINGS, seed=3, device="cpu")
    for part in ("fitting", "pool", "sample", "canaries"):
        np.testing.assert_array_equal(load(tmp_path / "out", part, "old"), load(tmp_path / "out", part, "new"))


def test_views_are_those_of_the_seeds_generator(written, v2, data):
    out, _ = written
    rows = read_manifest(data).rows("train", "fitting")
    images = torch.from_numpy(read_images(rows.files, v2.size, v2.mode))
    generator = torch.Generator().manual_seed(3)
    for view in (1, 2):
        wanted, _ = programs.embed(v2.program(), augment.views(images, generator).numpy(), device=torch.device("cpu"), batch=16)
        np.testing.assert_array_equal(np.array(load(out, "fitting", "new"))[view * len(rows) : (view + 1) * len(rows)], wanted)


def test_labels_are_rows_of_the_new_head_and_the_pool_has_none(written, v2, data):
    out, _ = written
    rows = read_manifest(data).rows("train", "fitting")
    labels = load(out, "fitting", "labels")
    assert [v2.classes[label] for label in labels] == rows.label.tolist() * 3
    assert (load(out, "pool", "labels") == -1).all()


def test_classes_the_new_model_never_saw_have_the_label_minus_one(v1, v2, data, tmp_path):
    write_pairs(v2, v1, data, tmp_path / "out", replace(SETTINGS, views=1), seed=0, device="cpu")
    labels = np.array(load(tmp_path / "out", "fitting", "labels"))
    unknown = ~np.isin(read_manifest(data).rows("train", "fitting").label, v1.classes)
    assert unknown.any()
    np.testing.assert_array_equal(labels == -1, unknown)


def test_all_views_of_an_image_have_one_source(written, data):
    out, _ = written
    rows = read_manifest(data).rows("train", "fitting")
    assert load(out, "fitting", "sources").tolist() == rows.id.tolist() * 3


def test_the_sample_comes_back_as_it_was_measured(written, data, v1):
    out, _counts = written
    sample = PairsFolder(out).sample()
    rows = read_manifest(data).rows("validation", "validation_unseen")
    assert sample.ids.tolist() == rows.id.tolist() and sample.labels.tolist() == rows.label.tolist()
    assert set(sample.populations.tolist()) == {"known", "unseen"}
    phi, psi = programs.embed(v1.program(), read_images(rows.files, v1.size, v1.mode), device=torch.device("cpu"), batch=16)
    np.testing.assert_array_equal(sample.old, phi)
    np.testing.assert_array_equal(sample.side, psi)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(written, v1, v2, data, tmp_path):
    out, _ = written
    for seed in (3, 4):
        write_pairs(v1, v2, data, tmp_path / str(seed), SETTINGS, seed=seed, device="cpu")
    first, again, other = (digests.of_folder(folder) for folder in (out, tmp_path / "3", tmp_path / "4"))
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {
        f"{part}/{name}.npy" for part in ("fitting", "pool") for name in ("old", "psi", "side", "new")
    }


@pytest.mark.parametrize("split", ["gallery", "gallery_unseen", "validation", "validation_unseen", "canary"])
@pytest.mark.parametrize("where", ["fitting", "pool"])
def test_images_that_judge_h_must_not_fit_it(v1, v2, data, tmp_path, split, where):
    with pytest.raises(BadInput, match=f"must not be fitted on these images; got {split};"):
        write_pairs(v1, v2, data, tmp_path / "out", replace(SETTINGS, **{where: ("train", split)}), seed=0, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_split_is_refused(v1, v2, data, tmp_path):
    with pytest.raises(BadInput, match=r"no such split.*got training"):
        write_pairs(v1, v2, data, tmp_path / "out", replace(SETTINGS, fitting=("training",)), seed=0, device="cpu")


def without(data, folder, *splits):
    """The same data with a manifest that lacks some splits."""
    folder.mkdir()
    (folder / "images").symlink_to(data / "images")
    lines = (data / "manifest.csv").read_text().splitlines(keepends=True)
    (folder / "manifest.csv").write_text("".join(line for line in lines if not any(f",{split}," in line for split in splits)))
    return folder


def test_no_fitting_images_or_no_evaluation_sample_are_refused(v1, v2, data, tmp_path):
    with pytest.raises(BadInput, match="no fitting images; wanted train or fitting"):
        write_pairs(v1, v2, without(data, tmp_path / "a", "train", "fitting"), tmp_path / "out", SETTINGS, seed=0, device="cpu")
    with pytest.raises(BadInput, match="no evaluation sample"):
        write_pairs(
            v1, v2, without(data, tmp_path / "b", "validation", "validation_unseen"), tmp_path / "out", SETTINGS, seed=0, device="cpu"
        )
    assert not (tmp_path / "out").exists()


def test_a_first_release_has_a_sample_and_canaries_but_nothing_to_fit(v1, data, tmp_path):
    counts = write_pairs(v1, v1, data, tmp_path / "out", SETTINGS, seed=3, device="cpu")
    assert set(counts) == {"sample", "canaries"} and not (tmp_path / "out" / "fitting").exists()


def test_the_development_gallery_is_the_sample_and_then_the_canaries(written):
    out, counts = written
    for name in ("ids", "old", "psi", "side"):
        found = load(out, "gallery", name)
        assert len(found) == counts["sample"] + counts["canaries"]
        np.testing.assert_array_equal(found[: counts["sample"]], load(out, "sample", name))
        np.testing.assert_array_equal(found[counts["sample"] :], load(out, "canaries", name))


def test_a_pool_is_optional(v1, v2, data, tmp_path):
    counts = write_pairs(v1, v2, without(data, tmp_path / "a", "pool"), tmp_path / "out", replace(SETTINGS, views=1), seed=0, device="cpu")
    assert "pool" not in counts and not (tmp_path / "out" / "pool").exists()


@pytest.mark.parametrize(("size", "mode"), [(16, "L"), (16, "RGB"), (24, "L"), (24, "RGB")])
def test_canaries_are_converted_to_what_the_new_release_wants(v1, size, mode):
    other = replace(v1, about={**v1.about, "preprocessing": {"size": size, "mode": mode}})
    _, images = v1.canaries()
    found = convert(images, v1, other)
    assert found.dtype == np.uint8 and found.shape == (8, {"L": 1, "RGB": 3}[mode], size, size)
    assert abs(found.mean() - images.mean()) < 3
    if size == 16:
        np.testing.assert_array_equal(found, np.repeat(images, found.shape[1], axis=1))


def test_recombined_views_of_the_pool_come_last(written, v2, data):
    out, _ = written
    rows = read_manifest(data).rows("pool")
    images = torch.from_numpy(read_images(rows.files, v2.size, v2.mode))
    generator = torch.Generator().manual_seed(3)
    augment.views(images, generator)
    block = augment.views(augment.recombined(images, generator), generator)
    wanted, _ = programs.embed(v2.program(), block.numpy(), device=torch.device("cpu"), batch=16)
    np.testing.assert_array_equal(np.array(load(out, "pool", "new"))[2 * len(rows) :], wanted)


@pytest.fixture(scope="module")
def pictured(data, tmp_path_factory):
    side = replace(SIDE, kinds=("picture", "pca"), bytes=6, images=("train", "pool"), drawing_epochs=1)
    folder = tmp_path_factory.mktemp("pictured") / "v1"
    return make_release("v1", data, folder, EMBEDDER, side, size=SIZE, mode="L", seed=0, device="cpu")


def test_where_psi_is_a_picture_h_is_given_the_preview_beside_it(pictured, v2, data, tmp_path):
    write_pairs(pictured, v2, data, tmp_path / "out", SETTINGS, seed=3, device="cpu")
    for part in ("fitting", "pool", "sample", "canaries", "gallery"):
        psi, side = load(tmp_path / "out", part, "psi"), load(tmp_path / "out", part, "side")
        assert psi.shape[1] == pictured.side_dim and side.shape[1] == pictured.side_dim + v2.dim and side.dtype == np.float16
        wanted = preview.side_of(
            pictured, v2, np.array(psi), Forward("none", pictured.dim, side.shape[1], v2.dim), device=torch.device("cpu")
        )
        np.testing.assert_array_equal(side, wanted)
    assert PairsFolder(tmp_path / "out").reads() == ["phi", "psi", "preview"]
    without = tmp_path / "without"
    write_pairs(pictured, v2, data, without, replace(SETTINGS, preview=False), seed=3, device="cpu")
    np.testing.assert_array_equal(load(without, "sample", "side"), load(without, "sample", "psi"))
    assert PairsFolder(without).reads() == ["phi", "psi"]


def test_a_picture_release_keeps_its_bytes_and_draws_its_images(pictured, data):
    assert pictured.side_bytes <= 12 and len(pictured.side_bits) == pictured.side_dim
    rows = read_manifest(data).rows("pool")
    images = read_images(rows.files, SIZE, "L")
    _, psi = programs.embed(pictured.program(), images, device=torch.device("cpu"))
    drawn = picture.draw(pictured.picture(), psi, SIZE, "L", device=torch.device("cpu"))
    mean = np.abs(images - images.mean(axis=0)).mean()
    assert np.abs(images.astype(float) - drawn).mean() < mean  # better than the mean image
    assert codes.pack(psi, pictured.side_bits).shape[1] == pictured.side_bytes


def test_populations_are_the_validation_splits():
    assert pairs.POPULATIONS == {"known": "validation", "unseen": "validation_unseen"}
