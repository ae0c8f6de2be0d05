from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from fct.forward.fitting import Pairs, fit_network, loss
from fct.forward.settings import FitSettings

SETTINGS = FitSettings(members=1, width=8, epochs=2, batch=16)
CPU = torch.device("cpu")


def rows(n=9, e=5, k=4, seed=0):
    rng = np.random.default_rng(seed)
    predicted, target, restored = rng.normal(size=(3, n, e))
    labels = np.array([-1, 0, 1, 2, 3, -1, 2, 2, -1])[:n]
    head = rng.normal(size=(k, e)), rng.normal(size=k)
    return predicted, rng.normal(size=n), target, restored, labels, head


def of(predicted, log_variance, target, restored, labels, head, settings):
    tensors = None if head is None else tuple(torch.from_numpy(part) for part in head)
    return float(loss(*(torch.from_numpy(a) for a in (predicted, log_variance, target, restored, labels)), tensors, settings))


@pytest.mark.parametrize("uncertainty", [True, False])
@pytest.mark.parametrize("head_weight", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("with_head", [True, False])
def test_the_loss_is_that_of_a_naive_loop(uncertainty, head_weight, with_head):
    *arrays, head = rows()
    head = head if with_head else None
    settings = replace(SETTINGS, uncertainty=uncertainty, head_weight=head_weight)
    wanted = oracles.forward_loss(*arrays, head, uncertainty=uncertainty, head_weight=head_weight)
    assert of(*arrays, head, settings) == pytest.approx(wanted, rel=1e-9)


def test_rows_without_a_label_do_not_reach_the_head():
    predicted, log_variance, target, restored, labels, head = rows()
    wild = restored.copy()
    wild[labels < 0] = 1e6
    assert of(predicted, log_variance, target, restored, labels, head, SETTINGS) == of(
        predicted, log_variance, target, wild, labels, head, SETTINGS
    )
    nobody = np.full(len(labels), -1)
    assert of(predicted, log_variance, target, restored, nobody, head, SETTINGS) == of(
        predicted, log_variance, target, restored, nobody, None, SETTINGS
    )


def test_the_best_uncertainty_is_the_error_itself():
    predicted, _, target, restored, labels, _ = rows()
    error = ((predicted - target) ** 2).mean(axis=1)
    best = of(predicted, np.log(error), target, restored, labels, None, SETTINGS)
    for off in (-0.3, 0.3):
        assert of(predicted, np.log(error) + off, target, restored, labels, None, SETTINGS) > best


def pairs(n=60, seed=0, labels=True):
    rng = np.random.default_rng(seed)
    old, side = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(-127, 128, (n, 3)).astype(np.int8)
    new = (old @ np.ones((4, 5)) * 4 + side[:, :1] / 20 + 100).astype(np.float32)
    return Pairs(old, side, new, rng.integers(0, 3, n) if labels else np.full(n, -1))


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
