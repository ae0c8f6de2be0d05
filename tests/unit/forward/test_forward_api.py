import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fct
from fct.arrays import digests
from fct.errors import BadInput, NotPermitted
from fct.forward import METHODS, FitSettings, load
from fct.forward.ladder import HELD_OUT
from fct.forward.manifest import package_version
from fct.forward.rows import held_out
from fct.forward.settings import CLOSED, LEARNED
from fct.forward.streaming import transform_to
from fct.forward.transformation import BLOCK
from fct.forward.uncertainty import unsure

FEW = FitSettings(members=2, width=8, epochs=2, batch=16)


def world(n=60, seed=0):
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(n, 4)).astype(np.float32)
    side = rng.integers(-127, 128, (n, 3)).astype(np.int8)
    new = (np.hstack([old, side / 60]) @ np.random.default_rng(9).normal(size=(7, 5)) + 2).astype(np.float32)
    return old, side, new


def fit(recipe="fastfill-pool", seed=0, **changes):
    old, side, new = world()
    pool_old, pool_side, pool_new = world(40, 1)
    given = {
        "side": side,
        "labels": np.arange(60) % 3,
        "sources": np.repeat(np.arange(20), 3),
        "head": (np.ones((3, 5)), np.zeros(3)),
        "pool_old": pool_old,
        "pool_side": pool_side,
        "pool_new": pool_new,
        "settings": replace(FEW, method=recipe),
        **changes,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return fct.fit(given.pop("old", old), given.pop("new", new), seed=seed, device="cpu", **given)


@pytest.fixture(scope="module", params=METHODS[2:])
def h(request):
    return fit(request.param)


def test_every_method_carries_rows_over(h):
    old, side, _new = world(seed=3)
    found, sigma = h.transform(old, side)
    assert found.shape == (60, 5) and found.dtype == np.float32 and np.isfinite(found).all()
    assert sigma.shape == (60,) and sigma.dtype == np.float32
    assert np.isfinite(sigma).all() and (sigma > 0).all()
    validation = h.about["validation"]
    assert validation["held_out"] == 3 and h.about["pairs"] == 57 and -1 <= validation["mean_cosine"] <= 1
    beside, own = (row["method"] for row in validation["candidates"])
    assert own == validation["chosen"] == h.method and beside in CLOSED and beside != own


@pytest.mark.parametrize("method", ["none", "mean-shift"])
def test_the_simplest_methods_take_side_information_without_using_it(method, tmp_path):
    old, side, _ = world()
    found = fit(method, new=old + 3, pool_new=world(40, 1)[0] + 3, head=None)
    carried, sigma = found.transform(old, side)
    np.testing.assert_allclose(carried, old if method == "none" else old + 3, atol=1e-5)
    assert carried.tobytes() == found.transform(old, -side)[0].tobytes() and (sigma > 0).all()
    found.save(tmp_path / "h")
    assert load(tmp_path / "h").digest == found.digest


def test_ridge_recovers_a_linear_map():
    old, side, new = world(seed=3)
    np.testing.assert_allclose(fit("ridge").transform(old, side)[0], new, atol=0.05)


def test_the_same_seed_gives_the_same_digest_and_learned_methods_another_for_another_seed(h):
    assert fit(h.method).digest == h.digest
    if h.method in LEARNED:
        assert fit(h.method, seed=1).digest != h.digest


def test_without_a_learned_uncertainty_sigma_comes_from_residuals():
    old, side, _ = world()
    found = fit(settings=replace(FEW, uncertainty=False))
    assert found.uncertainty is not None and (found.transform(old, side)[1] > 0).all()
    assert fit().uncertainty is None


def test_sigma_is_larger_where_a_closed_form_errs_more():
    rng = np.random.default_rng(0)
    old = rng.normal(size=(1500, 4)).astype(np.float32)
    new = old @ rng.normal(size=(4, 5)) + np.exp(old[:, :1]) * rng.normal(size=(1500, 5))  # noise grows along the first column
    for method in ("procrustes", "ridge"):
        found = fct.fit(old[:1000], new[:1000], method=method, device="cpu")
        carried, sigma = found.transform(old[1000:])
        error = ((carried - new[1000:]) ** 2).mean(axis=1)
        order = np.argsort(sigma)
        assert error[order[250:]].mean() > 3 * error[order[:250]].mean()


@pytest.fixture(scope="module", params=METHODS[2:])
def wide(request):
    old, side, new = wide_world(90, 0)
    return fct.fit(old, new, side=side, settings=replace(FEW, method=request.param, width=32), device="cpu")


def wide_world(n, seed):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 12)).astype(np.float32),
        rng.integers(-127, 128, (n, 8)).astype(np.int8),
        rng.normal(size=(n, 16)).astype(np.float32),
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_row_comes_out_the_same_bits_in_any_batch_and_order(wide, seed):
    rng = np.random.default_rng(seed)
    old, side, _ = wide_world(200, seed)
    whole, sigma = wide.transform(old, side)
    for rows in (rng.permutation(200), rng.permutation(200)[: rng.integers(1, 200)], np.array([137])):
        part, part_sigma = wide.transform(old[rows], side[rows])
        assert part.tobytes() == whole[rows].tobytes()
        assert part_sigma.tobytes() == sigma[rows].tobytes()


@pytest.mark.parametrize(("d", "e", "width"), [(2, 2, 7), (2, 40, 7), (40, 2, 32), (3, 5, 1)])
@pytest.mark.parametrize("method", ["procrustes", "low-rank", "fct", "fastfill-pool"])
def test_narrow_vectors_come_out_the_same_bits_too(method, d, e, width):
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(150, d)), rng.normal(size=(150, e))
    found = fct.fit(old, new, settings=replace(FEW, method=method, width=width), device="cpu")
    whole, sigma = found.transform(old)
    for seed in range(4):
        rows = np.random.default_rng(seed).permutation(150)[: 37 * seed + 1]
        part, part_sigma = found.transform(old[rows])
        assert part.tobytes() == whole[rows].tobytes() and part_sigma.tobytes() == sigma[rows].tobytes()


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_with_a_head_sigma_counts_for_less_where_the_head_is_sure(classes, tmp_path):
    old, side, new = wide_world(120, 3)
    rng = np.random.default_rng(0)
    head = rng.normal(size=(classes, 16)).astype(np.float32), rng.normal(size=classes).astype(np.float32)
    labels = np.arange(120) % classes
    found = fct.fit(old, new, side=side, labels=labels, head=head, settings=replace(FEW, method="fastfill-pool", width=32), device="cpu")
    carried, sigma = found.transform(old, side)
    alone = replace(found, head=None).transform(old, side)[1]
    assert np.allclose(sigma, alone * unsure(carried, head), rtol=1e-4)
    part = found.transform(old[[7]], side[[7]])[1]
    assert part.tobytes() == sigma[[7]].tobytes()
    found.save(tmp_path / "h")
    again = load(tmp_path / "h")
    assert again.digest == found.digest != replace(found, head=None).digest
    assert again.transform(old, side)[1].tobytes() == sigma.tobytes()


def test_rows_beyond_one_block_come_out_the_same_bits(wide):
    old, side, _ = wide_world(2 * BLOCK + 7, 5)
    whole = wide.transform(old, side)[0]
    parts = [wide.transform(old[start : start + 700], side[start : start + 700])[0] for start in range(0, len(old), 700)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_files_are_carried_over_block_by_block_to_the_same_bits(wide, tmp_path):
    old, side, _ = wide_world(BLOCK + 9, 5)
    np.save(tmp_path / "old.npy", old)
    mapped = np.load(tmp_path / "old.npy", mmap_mode="r")
    assert transform_to(wide, mapped, side, tmp_path / "out.npy", tmp_path / "sigma.npy") == BLOCK + 9
    carried, sigma = wide.transform(old, side)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32 and found.tobytes() == carried.tobytes()
    assert np.load(tmp_path / "sigma.npy").tobytes() == sigma.tobytes()
    assert {path.name for path in tmp_path.iterdir()} == {"old.npy", "out.npy", "sigma.npy"}


def test_a_transform_that_breaks_off_leaves_no_file(wide, tmp_path, monkeypatch):
    old, side, _ = wide_world(3 * BLOCK, 5)
    blocks = wide.blocks(old, side)

    def broken(*_args, **_kwargs):
        yield next(blocks)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(wide), "blocks", broken)
    with pytest.raises(KeyboardInterrupt):
        transform_to(wide, old, side, tmp_path / "out.npy", tmp_path / "sigma.npy")
    assert not list(tmp_path.iterdir())


def test_vectors_and_sigma_do_not_go_into_one_file(wide, tmp_path):
    old, side, _ = wide_world(5, 5)
    with pytest.raises(BadInput, match="one file"):
        transform_to(wide, old, side, tmp_path / "x.npy", tmp_path / "x.npy")


def test_saved_and_loaded_it_is_the_same_h(h, tmp_path):
    h.save(tmp_path / "h")
    found = load(tmp_path / "h")
    old, side, _ = world(seed=4)
    assert found.digest == h.digest and found.about == json.loads(json.dumps(h.about)) and found.method == h.method
    for a, b in zip(found.transform(old, side), h.transform(old, side), strict=True):
        assert a.tobytes() == b.tobytes()
    found.save(tmp_path / "again")
    assert digests.of_folder(tmp_path / "again") == digests.of_folder(tmp_path / "h")


def test_the_manifest_says_how_it_was_made(h):
    old, side, _new = world()
    assert h.about["settings"]["method"] == h.method and h.about["seed"] == 0 and h.about["pool"] == 40
    assert h.about["inputs"]["old"] == digests.of_array(old) and h.about["inputs"]["side"] == digests.of_array(side)
    given = {"old", "side", "new", "labels", "sources", "pool_old", "pool_side", "pool_new", "head_weight", "head_bias"}
    assert given == set(h.about["inputs"]) and h.about["inputs_missing"] == []
    assert "--head" in " ".join(fit("ridge", head=None).about["inputs_missing"])


@pytest.fixture
def folder(h, tmp_path):
    h.save(tmp_path / "h")
    return tmp_path / "h"


def edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, value in changes.items():
        manifest[name] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_altered_weights_are_not_permitted(folder):
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(NotPermitted, match="weights of h were changed"):
        load(folder)
    edit(folder, weights_sha256=digests.of_file(folder / "weights.safetensors"))
    with pytest.raises(NotPermitted, match="h is not the one its manifest names"):
        load(folder)


def test_truncated_weights_are_refused_even_with_a_matching_digest(folder):
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(NotPermitted):
        load(folder)
    edit(folder, weights_sha256=digests.of_file(folder / "weights.safetensors"))
    with pytest.raises(BadInput, match="not a safetensors file"):
        load(folder)


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
def test_a_missing_file_is_refused_by_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadInput, match=f"a file is missing; wanted {name}"):
        load(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "2"}', '{"format": 2}'])
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(BadInput, match=r"manifest|JSON"):
        load(folder)


def test_a_newer_and_an_older_format_are_refused(folder):
    edit(folder, format=6)
    with pytest.raises(BadInput, match="written by a newer version of this package; wanted format 5; got format 6.*update the package"):
        load(folder)
    edit(folder, format=1)
    with pytest.raises(BadInput, match="written by an older version"):
        load(folder)


@pytest.mark.parametrize("reads", ["phi", ["psi", "phi"], ["phi", "image"], ["phi", "phi"], {"phi": 1}, 3])
def test_a_manifest_that_names_what_no_h_reads_is_refused(folder, reads):
    edit(folder, reads=reads)
    with pytest.raises(BadInput, match="wanted of phi, psi, preview, in this order"):
        load(folder)


def test_the_manifest_names_the_package_that_wrote_it(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["package"] == package_version() and manifest["format"] == 4
    assert {"validation", "seed", "inputs", "settings", "seconds", "inputs_missing", "warnings"} <= manifest.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": {"old": 4, "side": 3, "new": 6}},
        {"dims": 5},
        {"dims": {}},
        {"method": "ridge2"},
        {"method": "ridge"},
        {"method": "fct"},
        {"network": {}},
        {"network": {"members": 1, "width": 8, "twice": False}},
    ],
)
def test_a_manifest_that_does_not_fit_the_weights_is_refused(folder, changes):
    if json.loads((folder / "manifest.json").read_text())["method"] == changes.get("method"):
        pytest.skip("says the same")
    edit(folder, **changes)
    with pytest.raises((BadInput, NotPermitted)):
        load(folder)


def test_tensors_of_another_name_are_refused_by_name(folder):
    tensors = load_file(folder / "weights.safetensors")
    save_file(tensors | {"more": torch.zeros(2)}, folder / "weights.safetensors")
    edit(folder, weights_sha256=digests.of_file(folder / "weights.safetensors"))
    with pytest.raises(BadInput, match="do not fit the manifest; wanted more absent"):
        load(folder)


NAN = np.full((60, 4), np.nan, dtype=np.float32)
ZERO = np.zeros((60, 5), dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "magic"}, "unknown method.*got magic"),
        ({"method": "none"}, "none needs equal dimensions"),
        ({"new": world()[2][1:]}, "new has the wrong number of rows"),
        ({"side": world()[1][1:]}, "side has the wrong number of rows"),
        ({"labels": np.zeros(59, dtype=int)}, "labels have the wrong length"),
        ({"sources": np.zeros(59)}, "sources have the wrong length"),
        ({"old": NAN}, "old contains NaN"),
        ({"new": ZERO}, "new contains a zero-norm"),
        ({"old": world()[0][:, 0]}, "old has the wrong shape"),
        ({"old": world()[0].astype(str)}, "old has the wrong dtype"),
        ({"labels": np.arange(60) % 4}, "a label has no row in the head; wanted 0 … 2 or −1; got 3"),
        ({"labels": np.arange(60) % 3 - 2}, "label"),
        ({"head": (np.ones((3, 4)), np.zeros(3))}, "head weight has the wrong dimension"),
        ({"head": (np.ones((3, 5)), np.zeros(2))}, "head bias"),
        ({"pool_new": None}, "pool is incomplete"),
        ({"pool_side": None}, "pool is incomplete"),
        ({"side": None}, "pool is incomplete"),
        ({"pool_new": world(39)[2]}, "pool-new has the wrong number of rows"),
        ({"pool_side": world(39)[1]}, "pool-side has the wrong number of rows"),
        ({"pool_old": world(40)[2]}, "pool-old has the wrong dimension"),
        ({"pool_new": world(40)[0]}, "pool-new has the wrong dimension"),
        ({"pool_side": world(40)[1][:, :2]}, "pool-side has the wrong dimension"),
    ],
)
def test_what_does_not_correspond_is_refused_by_name(changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        fit(**changes)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_pairs_are_refused(n):
    old, side, new = world(n)
    with pytest.raises(BadInput, match="too few pairs"):
        fit(old=old, new=new, side=side, labels=np.zeros(n, dtype=int), sources=np.arange(n), pool_old=None, pool_side=None, pool_new=None)


def test_rows_that_do_not_fit_h_are_refused(h):
    old, side, _ = world()
    for rows, more, sentence in [
        (old[:, :3], side, "old has the wrong dimension; wanted 4"),
        (old, side[:, :2], "side has the wrong dimension; wanted 3"),
        (old, side[1:], "side has the wrong number of rows"),
        (old, None, "needs side-information"),
        (NAN, side, "NaN"),
        (old[:0], side[:0], "old is empty"),
    ]:
        with pytest.raises(BadInput, match=sentence):
            h.transform(rows, more)


@pytest.mark.parametrize("method", METHODS[2:])
def test_it_works_without_pool_labels_head_sources_and_side(method):
    old, _, new = world()
    found = fct.fit(old, new, settings=replace(FEW, method=method), device="cpu")
    assert found.side_dim == 0 and found.transform(old)[0].shape == (60, 5)
    with pytest.raises(BadInput, match="without side-information"):
        found.transform(old, world()[1])


def test_what_is_held_out_does_not_reach_the_fit():
    _old, _side, new = world()
    sources = np.repeat(np.arange(20), 3)
    held = held_out(sources, HELD_OUT, None, 0)
    other = new.copy()
    other[held] += 100
    for method in ("procrustes", "ridge", "low-rank", "fastfill", "fastfill-pool"):
        assert fit(method, sources=sources, new=other).digest == fit(method, sources=sources).digest


def test_labels_that_are_strings_or_seen_once_fit_and_it_is_said():
    for labels, alone in ((np.array(["a"] * 59 + ["b"]), 1), (np.arange(60), 60), (np.full(60, -1), 0)):
        for method in ("contrastive", "mixed", "ridge"):
            found = fit(method, labels=labels, head=None)
            assert np.isfinite(found.transform(*world()[:2])[0]).all()
            assert [s.split()[0] for s in found.about["warnings"] if "seen once" in s] == ([str(alone)] if alone else [])


def test_labels_that_are_all_equal_are_refused():
    with pytest.raises(BadInput, match="all labels are equal"):
        fit("ridge", labels=np.zeros(60, dtype=int), head=None)


def test_constant_columns_are_said_and_constant_vectors_refused():
    old, side, new = world()
    for name, array in (("old", old), ("side", side), ("new", new)):
        changed = array.copy()
        changed[:, 1] = 7
        found = fit("ridge", **{name: changed})
        assert found.about["warnings"] == [f"1 of {array.shape[1]} columns of {name} are constant and tell nothing"]
        assert np.isfinite(found.transform(old, side)[0]).all()
    for name, array in (("old", old), ("new", new)):
        with pytest.raises(BadInput, match=f"all {name} vectors are equal"):
            fit("ridge", **{name: np.ones_like(array)})


def test_numbers_beyond_float32_are_refused_by_fit_and_by_transform(h):
    old, side, _ = world()
    large = old.astype(np.float64)
    large[9, 1] = 1e39
    with pytest.raises(BadInput, match="old contains numbers beyond float32; in row 9"):
        fit("ridge", old=large)
    with pytest.raises(BadInput, match="old contains numbers beyond float32"):
        h.transform(large, side)


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_that_cannot_seed_is_refused(seed):
    with pytest.raises(BadInput, match="the seed cannot be used; wanted a whole number from 0"):
        fit("ridge", seed=seed)


def test_h_never_takes_the_place_of_other_files(h, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(BadInput, match="holds something else, which would be lost; got thesis.txt"):
        h.save(tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/h"):
        with pytest.raises(BadInput, match="a file"):
            h.save(tmp_path / place)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years" and (tmp_path / "file").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]
    h.save(tmp_path / "h")
    h.save(tmp_path / "h")  # its own place is taken again


def test_a_manifest_that_names_networks_larger_than_memory_is_refused(tmp_path):
    fit("fct").save(tmp_path / "h")
    manifest = json.loads((tmp_path / "h/manifest.json").read_text())
    for changes in ({"members": 10**9}, {"width": 10**9}):
        (tmp_path / "h/manifest.json").write_text(json.dumps(manifest | {"network": manifest["network"] | changes}))
        with pytest.raises(BadInput, match="the weights do not fit the manifest"):
            load(tmp_path / "h")


@pytest.mark.parametrize("method", METHODS[2:])
@pytest.mark.parametrize(("d", "e"), [(2, 300), (300, 2)])
def test_dimensions_from_few_to_many_and_back(method, d, e):
    rng = np.random.default_rng(0)
    old = rng.normal(size=(320, d))
    found = fct.fit(old, old @ rng.normal(size=(d, e)) / d, settings=replace(FEW, method=method), device="cpu")
    assert found.transform(old)[0].shape == (320, e)


def test_the_method_comes_from_the_argument_then_the_settings_then_auto():
    assert fit(method="ridge").method == "ridge"
    assert fit("ridge").about["settings"]["method"] == "ridge"
    old, _, new = world()
    assert fct.fit(old, new, method="procrustes", settings=replace(FEW, method="ridge"), device="cpu").method == "procrustes"
    assert (
        "auto"
        not in fct.fit(old[:, :2], old[:, :2], sources=np.arange(60) // 20, device="cpu", settings=replace(FEW, method="auto")).method
    )


def test_rows_of_any_dtype_and_memory_maps_fit_and_are_carried_over(tmp_path):
    old, side, new = world()
    np.save(tmp_path / "old.npy", old.astype(np.float16))
    mapped = np.load(tmp_path / "old.npy", mmap_mode="r")
    found = fit(old=mapped, new=new.astype(np.float64), side=side.astype(np.int32), labels=list(range(3)) * 20)
    assert found.transform(mapped, side.astype(np.float64))[0].shape == (60, 5)


def test_the_linear_member_is_one_of_the_mean_and_survives_storage(tmp_path):
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(300, 6)).astype(np.float32), rng.normal(size=(300, 5)).astype(np.float32)
    settings = FitSettings(members=2, width=16, epochs=1, batch=32)
    h = fct.fit(old, new, settings=settings)
    alone = [replace(h, network=None).transform(old)[0], replace(h, weight=None, bias=None).transform(old)[0]]
    carried, sigma = h.transform(old)
    np.testing.assert_allclose(carried, alone[0] / 3 + alone[1] * 2 / 3, atol=1e-5)
    ridge = fct.fit(old, new, settings=FitSettings(method="ridge")).transform(old)[0]
    assert np.abs(alone[0] - ridge).max() < 0.2 * np.abs(ridge).max()
    h.save(tmp_path / "h")
    again, spread = load(tmp_path / "h").transform(old)
    np.testing.assert_array_equal(again, carried)
    np.testing.assert_array_equal(spread, sigma)
    without = fct.fit(old, new, settings=replace(settings, linear_member=False))
    assert without.weight is None and h.weight is not None
