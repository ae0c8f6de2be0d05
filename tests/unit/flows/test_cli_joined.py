"""`fct fit --mode`, `fct transform`, `fct queries`: a gallery of several parts, files in and files out."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fct
from tests.in_process import fct_


def write(folder, seed, noise, classes=16, per=6):
    """old, new and side of items of some classes, seen with these noises, as files; float16 and not contiguous, as people have them."""
    rng, maps = np.random.default_rng(seed), np.random.default_rng(99)
    latent = rng.normal(size=(classes, 8)).repeat(per, axis=0) + 0.4 * rng.normal(size=(classes * per, 8))
    for name, spread in zip(("old", "new", "side"), noise, strict=True):
        rows = latent @ maps.normal(size=(8, 10)) / 3
        np.save(folder / f"{name}.npy", np.asfortranarray((rows + spread * rng.normal(size=rows.shape)).astype(np.float16)))
    np.save(folder / "labels.npy", np.arange(classes).repeat(per))
    np.save(folder / "ids.npy", np.arange(classes * per))
    return {name: folder / f"{name}.npy" for name in ("old", "new", "side", "labels", "ids")}


def fit(folder, files, *more):
    given = [part for name in ("old", "new", "side", "labels") for part in (f"--{name}", files[name])]
    return fct_("fit", *given, "--method", "ridge", "--device", "cpu", "--out", folder / "h", *more)


def found(query, gallery, files, folder):
    """mAP as `fct evaluate` prints it."""
    sides = [part for side in ("query", "gallery") for name in ("labels", "ids") for part in (f"--{side}-{name}", files[name])]
    code, out, error = fct_("evaluate", "--query", query, "--gallery", gallery, *sides, "--json")
    assert code == 0, error
    return json.loads(out)["mAP"]


def test_a_joined_gallery_is_written_asked_and_judged_like_any_other(tmp_path):
    files = write(tmp_path, 0, (0.8, 0.2, 0.8), classes=30, per=8)
    code, out, _ = fit(tmp_path, files, "--mode", "joined", "--json")
    result = json.loads(out)
    assert code == 0 and len(result["gallery"]["parts"]) > 1 and result["joining"]["mode"] == "joined"
    g, q = tmp_path / "g.npy", tmp_path / "q.npy"
    code, _, said = fct_("transform", "--forward", tmp_path / "h", "--old", files["old"], "--side", files["side"], "--out", g)
    assert code == 0 and " + " in said and "old" in said
    given = [part for name in ("new", "old", "side") for part in (f"--{name}", files[name])]
    assert fct_("queries", "--forward", tmp_path / "h", *given, "--out", q)[0] == 0
    h = fct.load(tmp_path / "h")
    old, new, side = (np.load(files[name]) for name in ("old", "new", "side"))
    np.testing.assert_array_equal(np.load(g), h.gallery(old, side))
    np.testing.assert_array_equal(np.load(q), h.queries(new, old, side))
    assert found(q, g, files, tmp_path) > found(files["old"], files["old"], files, tmp_path) + 0.05


def test_auto_that_finds_nothing_gives_back_what_there_is(tmp_path):
    files = write(tmp_path, 1, (0.1, 4.0, 4.0))
    code, out, _ = fit(tmp_path, files, "--mode", "auto")
    assert code == 0 and "The gallery holds old. Nothing is shown to be better than the old vectors" in out
    g, q = tmp_path / "g.npy", tmp_path / "q.npy"
    assert fct_("transform", "--forward", tmp_path / "h", "--old", files["old"], "--side", files["side"], "--out", g)[0] == 0
    assert fct_("queries", "--forward", tmp_path / "h", "--new", files["new"], "--old", files["old"], "--out", q)[0] == 0
    for path in (g, q):
        assert np.load(path).dtype == np.float16
        np.testing.assert_array_equal(np.load(path), np.load(files["old"]))


def test_of_carried_vectors_alone_new_vectors_are_asked_as_they_are(tmp_path):
    files = write(tmp_path, 2, (0.5, 0.2, 0.5))
    code, out, _ = fit(tmp_path, files)
    assert code == 0 and "fct queries" not in out
    assert fct_("queries", "--forward", tmp_path / "h", "--new", files["new"], "--out", tmp_path / "q.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "q.npy"), np.load(files["new"]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--new", "new"), "this gallery is searched with its part old, too"),
        (("--new", "labels", "--old", "old"), "new"),
        (("--new", "new", "--old", "old", "--forward", "nowhere"), "there is no such folder"),
        (("--new", "new", "--old", "old", "--out", "h"), "a folder has that name"),
    ],
)
def test_queries_that_cannot_be_made_are_refused_in_a_sentence(tmp_path, arguments, sentence):
    files = write(tmp_path, 1, (0.1, 4.0, 4.0))
    assert fit(tmp_path, files, "--mode", "auto")[0] == 0
    given = {"--forward": tmp_path / "h", "--out": tmp_path / "q.npy"}
    given |= {option: files.get(value, tmp_path / value) for option, value in zip(arguments[::2], arguments[1::2], strict=True)}
    code, out, error = fct_("queries", *[part for pair in given.items() for part in pair])
    assert code == 2 and sentence in error and out == "" and not (tmp_path / "q.npy").exists()
