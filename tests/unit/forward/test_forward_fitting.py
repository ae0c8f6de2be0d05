from dataclasses import replace

import numpy as np
import pytest
import torch

from fct.forward import fitting
from fct.forward.fitting import fit_network, steps_of
from fct.forward.rows import pairs_of
from fct.forward.settings import FitSettings

SETTINGS = FitSettings(members=1, width=8, epochs=2, batch=16)
CPU = torch.device("cpu")


def pairs(n=60, seed=0, labels=True):
    rng = np.random.default_rng(seed)
    old, side = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(-127, 128, (n, 3)).astype(np.int8)
    new = (old @ np.ones((4, 5)) * 4 + side[:, :1] / 20 + 100).astype(np.float32)
    return pairs_of(old, side, new, rng.integers(0, 3, n) if labels else np.full(n, -1))


def bytes_of(net):
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def fit(settings=SETTINGS, seed=0, pool=True, head=True):
    weights = (np.eye(3, 5), np.zeros(3)) if head else None
    return fit_network(pairs(), pairs(40, 1, labels=False) if pool else None, weights, settings, seed=seed, device=CPU, title="h")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    assert bytes_of(fit()) == bytes_of(fit()) != bytes_of(fit(seed=1))


def test_fitting_takes_nothing_from_global_randomness_and_leaves_it_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = bytes_of(fit())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert first == bytes_of(fit())


def test_statistics_are_those_of_pairs_and_pool():
    net = fit()
    old = np.concatenate([pairs().old, pairs(40, 1).old]).astype(np.float64)
    new = np.concatenate([pairs().new, pairs(40, 1).new]).astype(np.float64)
    np.testing.assert_allclose(net.old_mean.numpy(), old.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(net.old_std.numpy(), old.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(net.new_mean.numpy(), new.mean(axis=0), rtol=1e-6)
    assert float(net.new_scale) == pytest.approx(new.std(axis=0).mean(), rel=1e-6)
    assert not net.training


def test_the_fit_learns():
    data = pairs(400)
    net = fit_network(data, None, None, replace(SETTINGS, width=32, epochs=30, batch=32, uncertainty=False), seed=0, device=CPU, title="h")
    with torch.inference_mode():
        found = net.restore(net(torch.from_numpy(data.old), torch.from_numpy(data.side))[0]).numpy()
    assert ((found - data.new) ** 2).mean() < 0.05 * data.new.var(axis=0).mean()


@pytest.mark.parametrize(
    "changes", [{"pool_share": 0.0}, {"head_weight": 0.0}, {"freeze_norm": True}, {"uncertainty": False}, {"batch": 1000}]
)
def test_every_option_fits_and_changes_something(changes):
    found = bytes_of(fit(replace(SETTINGS, **changes)))
    assert found != bytes_of(fit())


def test_pool_and_head_are_optional():
    assert bytes_of(fit(pool=False, head=False)) != bytes_of(fit())


@pytest.mark.parametrize("method", ["fct", "fastfill", "contrastive", "mixed"])
def test_published_methods_fit_with_and_without_side_information(method):
    settings = replace(SETTINGS, method=method)
    without = pairs_of(pairs().old, None, pairs().new, pairs().labels)
    for data in (pairs(), without):
        net = fit_network(data, None, (np.eye(3, 5), np.zeros(3)), settings, seed=0, device=CPU, title="h")
        assert net.side_branch is not None  # without side-information φ_old is given twice
        assert bytes_of(net) != bytes_of(fit())


def test_rows_gathered_from_disk_learn_as_well_as_rows_in_memory(tmp_path, monkeypatch):
    data = pairs(400)
    for name in ("old", "side", "new"):
        np.save(tmp_path / f"{name}.npy", getattr(data, name))
    mapped = pairs_of(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("old", "side", "new")))
    monkeypatch.setattr(fitting, "IN_MEMORY_BYTES", 0)
    settings = replace(SETTINGS, width=32, epochs=30, batch=32, uncertainty=False)
    net = fit_network(mapped, pairs(40, 1), None, settings, seed=0, device=CPU, title="h")
    with torch.inference_mode():
        found = net.restore(net(torch.from_numpy(data.old), torch.from_numpy(data.side))[0]).numpy()
    assert ((found - data.new) ** 2).mean() < 0.05 * data.new.var(axis=0).mean()


def test_constant_columns_and_constant_targets_stay_finite():
    data = pairs()
    data.old[:, 0], data.side[:, 1] = 7.0, 3
    net = fit_network(data, None, None, SETTINGS, seed=0, device=CPU, title="h")
    off = data.old.copy()
    off[:, 0] = 8.0
    with torch.inference_mode():
        near = net.restore(net(torch.from_numpy(off), torch.from_numpy(data.side))[0])
    assert float(net.old_std[0]) == 1.0 and float(near.abs().max()) < 1e3
    flat = pairs_of(data.old, data.side, np.ones_like(data.new))
    assert float(fit_network(flat, None, None, SETTINGS, seed=0, device=CPU, title="h").new_scale) == 1.0


def test_steps_grow_with_the_pairs_up_to_fifty_thousand_except_for_published_recipes():
    assert steps_of(1000, 100, replace(SETTINGS, epochs=3)) == 30
    assert steps_of(10, 10, SETTINGS) == SETTINGS.epochs
    assert steps_of(1_000_000, 500, SETTINGS) == steps_of(50_000, 500, SETTINGS)
    assert steps_of(1_000_000, 500, replace(SETTINGS, method="fct")) == 20 * steps_of(50_000, 500, SETTINGS)
