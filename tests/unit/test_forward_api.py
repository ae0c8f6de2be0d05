import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fct
from fct import digests
from fct.errors import BadInput, NotPermitted
from fct.forward import METHODS, FitSettings, load
from fct.forward.api import BLOCK, _held_out

FEW = FitSettings(members=2, width=8, epochs=2, batch=16)


def world(n=60, seed=0):
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(n, 4)).astype(np.float32)
    side = rng.integers(-127, 128, (n, 3)).astype(np.int8)
    new = (np.hstack([old, side / 60]) @ np.random.default_rng(9).normal(size=(7, 5)) + 2).astype(np.float32)
    return old, side, new


def fit(method="fastfill-pool", seed=0, **changes):
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
        "settings": replace(FEW, method=method),
        **changes,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return fct.fit(given.pop("old", old), given.pop("new", new), seed=seed, device="cpu", **given)


@pytest.fixture(scope="module", params=METHODS)
def h(request):
    return fit(request.param)


def test_every_method_carries_rows_over(h):
    old, side, _new = world(seed=3)
    found, sigma = h.transform(old, side)
    assert found.shape == (60, 5) and found.dtype == np.float32 and np.isfinite(found).all()
    assert sigma.shape == (60,) and sigma.dtype == np.float32
    assert np.isnan(sigma).all() if h.method in ("procrustes", "ridge") else (sigma > 0).all()
    assert h.about["validation"]["rows"] == 3 and h.about["pairs"] == 57
    assert -1 <= h.about["validation"]["mean_cosine"] <= 1


def test_ridge_recovers_a_linear_map():
    old, side, new = world(seed=3)
    np.testing.assert_allclose(fit("ridge").transform(old, side)[0], new, atol=0.05)


def test_the_same_seed_gives_the_same_digest_and_learned_methods_another_for_another_seed(h):
    assert fit(h.method).digest == h.digest
    if h.method in ("fct", "fastfill-pool"):
        assert fit(h.method, seed=1).digest != h.digest


def test_uncertainty_is_nan_where_none_was_asked_for():
    old, side, _ = world()
    assert np.isnan(fit(settings=replace(FEW, uncertainty=False)).transform(old, side)[1]).all()


@pytest.fixture(scope="module", params=METHODS)
def wide(request):
    """Layers of at least twelve outputs: the matrix products of narrower ones differ in the last bit with the place of a row."""
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


def test_rows_beyond_one_block_come_out_the_same_bits(wide):
    old, side, _ = wide_world(2 * BLOCK + 7, 5)
    whole = wide.transform(old, side)[0]
    parts = [wide.transform(old[start : start + 700], side[start : start + 700])[0] for start in range(0, len(old), 700)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


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
    assert {"old", "side", "new", "labels", "pool_old", "pool_side", "pool_new"} == set(h.about["inputs"])


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


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(BadInput, match=r"manifest|JSON"):
        load(folder)


def test_another_format_is_refused(folder):
    edit(folder, format=2)
    with pytest.raises(BadInput, match="another format; wanted 1; got 2"):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": {"old": 4, "side": 3, "new": 6}},
        {"dims": 5},
        {"dims": {}},
        {"method": "ridge2"},
        {"method": "ridge"},
        {"method": "fct"},
        {"settings": {}},
    ],
)
def test_a_manifest_that_does_not_fit_the_weights_is_refused(folder, changes):
    if json.loads((folder / "manifest.json").read_text())["method"] in (
        changes.get("method"),
        *(("ridge", "procrustes") if "settings" in changes else ()),
    ):
        pytest.skip("says the same")
    edit(folder, **changes)
    with pytest.raises((BadInput, NotPermitted)):
        load(folder)


NAN = np.full((60, 4), np.nan, dtype=np.float32)
ZERO = np.zeros((60, 5), dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"settings": replace(FEW, method="magic")}, "unknown method.*got magic"),
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


@pytest.mark.parametrize("method", METHODS)
def test_it_works_without_pool_labels_head_sources_and_side(method):
    old, _, new = world()
    found = fct.fit(old, new, settings=replace(FEW, method=method), device="cpu")
    assert found.side_dim == 0 and found.transform(old)[0].shape == (60, 5)
    with pytest.raises(BadInput, match="without side-information"):
        found.transform(old, world()[1])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80), st.integers(0, 50))
def test_a_source_is_never_split_between_fitting_and_validation(sources, seed):
    held = _held_out(np.array(sources), len(sources), seed)
    both = set(np.array(sources)[held]) & set(np.array(sources)[~held])
    assert held.shape == (len(sources),) and not both
    assert (~held).any()
    assert held.any() == (len(set(sources)) > 1)


@pytest.mark.parametrize(("rows", "wanted"), [(1, 0), (2, 1), (100, 5), (1000, 50)])
def test_about_five_percent_are_held_out(rows, wanted):
    assert _held_out(None, rows, 0).sum() == wanted


def test_what_is_held_out_does_not_reach_the_fit():
    _old, _side, new = world()
    sources = np.repeat(np.arange(20), 3)
    held = _held_out(sources, 60, 0)
    other = new.copy()
    other[held] += 100
    for method in METHODS:
        if method == "ridge":
            continue  # its strength is chosen on the held-out rows
        assert fit(method, sources=sources, new=other).digest == fit(method, sources=sources).digest


def test_rows_of_any_dtype_and_memory_maps_fit_and_are_carried_over(tmp_path):
    old, side, new = world()
    np.save(tmp_path / "old.npy", old.astype(np.float16))
    mapped = np.load(tmp_path / "old.npy", mmap_mode="r")
    found = fit(old=mapped, new=new.astype(np.float64), side=side.astype(np.int32), labels=list(range(3)) * 20)
    assert found.transform(mapped, side.astype(np.float64))[0].shape == (60, 5)
