import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from fct.forward import losses
from fct.forward.fitting import loss
from fct.forward.losses import contrastive, head_entropy, mixed, squared_error, weighed
from fct.forward.settings import FitSettings

SETTINGS = FitSettings(members=1, width=8, epochs=2, batch=16)


def rows(n=9, e=5, k=4, seed=0):
    rng = np.random.default_rng(seed)
    predicted, target, carried, native = rng.normal(size=(4, n, e))
    labels = np.array([-1, 0, 1, 2, 3, -1, 2, 2, -1])[:n]
    head = rng.normal(size=(k, e)), rng.normal(size=k)
    return predicted, rng.normal(size=n), target, carried, native, labels, head


def of(*arrays, head=None, settings=SETTINGS):
    tensors = None if head is None else tuple(torch.from_numpy(part) for part in head)
    return float(loss(*(torch.from_numpy(a) for a in arrays), tensors, settings))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def naive_contrastive(carried, native, labels, t):
    total = 0.0
    for i in range(len(carried)):
        similar = [math.exp(cosine(carried[i], native[k]) / t) for k in range(len(native))]
        positives = [p for p in range(len(native)) if p == i or (labels[p] == labels[i] and labels[i] >= 0)]
        total -= sum(math.log(similar[p] / sum(similar)) for p in positives) / len(positives)
    return total / len(carried)


def naive_mixed(carried, native, labels, t):
    total = 0.0
    for i in range(len(native)):
        own, inner = cosine(native[i], carried[i]), 1.0
        for k in range(len(native)):
            if k != i and (labels[k] != labels[i] or labels[i] < 0):
                inner += math.exp((cosine(native[i], carried[k]) - own) / t) + math.exp((cosine(native[i], native[k]) - own) / t)
        total += math.log(inner)
    return total / len(native)


def naive_entropy(carried, labels, head, smoothing):
    out = []
    for row, label in zip(carried, labels, strict=True):
        logits = [sum(w * x for w, x in zip(weights, row, strict=True)) + b for weights, b in zip(*head, strict=True)]
        log_sum = math.log(sum(math.exp(x) for x in logits))
        wanted = [smoothing / len(logits) + (1 - smoothing) * (k == label) for k in range(len(logits))]
        out.append(-sum(w * (x - log_sum) for w, x in zip(wanted, logits, strict=True)) if label >= 0 else 0.0)
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labels", [[-1] * 9, [0, 0, 1, 1, 1, 2, -1, -1, 3], [5] * 9])
@pytest.mark.parametrize(("term", "naive", "t"), [(contrastive, naive_contrastive, 0.1), (mixed, naive_mixed, 0.05)])
def test_contrastive_and_mixed_terms_are_those_of_naive_loops(term, naive, t, labels, seed):
    _, _, _, carried, native, _, _ = rows(seed=seed)
    found = float(term(torch.from_numpy(carried * 3), torch.from_numpy(native), torch.tensor(labels)))
    assert found == pytest.approx(naive(carried, native, labels, t), rel=1e-9, abs=1e-9)


def test_a_mixed_gallery_is_settled_when_carried_rows_are_the_native_ones_and_classes_are_far_apart():
    native = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0)
    labels = torch.arange(4).repeat_interleave(2)
    assert float(mixed(native, native, labels)) < 1e-6
    assert float(mixed(native.roll(2, 0), native, labels)) > 10
    crowded = native + 1.0  # native negatives come close: the term grows though carried equals native
    assert float(mixed(crowded, crowded, labels)) > 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_heads_cross_entropy_is_that_of_a_naive_loop(smoothing):
    _, _, _, carried, _, labels, head = rows()
    found = head_entropy(torch.from_numpy(carried), torch.from_numpy(labels), tuple(map(torch.from_numpy, head)), smoothing)
    np.testing.assert_allclose(found.numpy(), naive_entropy(carried, labels, head, smoothing), rtol=1e-9)


@pytest.mark.parametrize("with_head", [True, False])
def test_fastfill_weighs_the_sum_of_both_errors_row_by_row(with_head):
    predicted, s, target, carried, native, labels, head = rows()
    settings = replace(SETTINGS, method="fastfill", head_weight=1.0)
    entropy = naive_entropy(carried, labels, head, settings.label_smoothing) if with_head else [0.0] * 9
    wanted = np.mean([0.5 * math.exp(-s[i]) * (np.mean((predicted[i] - target[i]) ** 2) + entropy[i]) + 0.5 * s[i] for i in range(len(s))])
    found = of(predicted, s, target, carried, native, labels, head=head if with_head else None, settings=settings)
    assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("uncertainty", [True, False])
@pytest.mark.parametrize("head_weight", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("with_head", [True, False])
def test_the_shipped_loss_is_that_of_a_naive_loop(uncertainty, head_weight, with_head):
    predicted, s, target, carried, native, labels, head = rows()
    head = head if with_head else None
    settings = replace(SETTINGS, uncertainty=uncertainty, head_weight=head_weight)
    wanted = oracles.forward_loss(predicted, s, target, carried, labels, head, uncertainty=uncertainty, head_weight=head_weight)
    assert of(predicted, s, target, carried, native, labels, head=head, settings=settings) == pytest.approx(wanted, rel=1e-9)


def test_fct_is_the_squared_error_alone_and_the_terms_come_on_top_of_it():
    predicted, s, target, carried, native, labels, head = rows()
    plain = np.mean((predicted - target) ** 2)

    def value(method):
        return of(predicted, s, target, carried, native, labels, head=head, settings=replace(SETTINGS, method=method))

    assert value("fct") == pytest.approx(plain)
    assert value("contrastive") == pytest.approx(plain + losses.TERM_WEIGHT * naive_contrastive(carried, native, labels, 0.1))
    assert value("mixed") == pytest.approx(plain + losses.TERM_WEIGHT * naive_mixed(carried, native, labels, 0.05))


def test_rows_without_a_label_do_not_reach_the_head():
    predicted, s, target, carried, native, labels, head = rows()
    wild = carried.copy()
    wild[labels < 0] = 1e6
    assert of(predicted, s, target, carried, native, labels, head=head) == of(predicted, s, target, wild, native, labels, head=head)
    nobody = np.full(len(labels), -1)
    assert of(predicted, s, target, carried, native, nobody, head=head) == of(predicted, s, target, carried, native, nobody)


def test_the_best_log_variance_is_the_log_of_the_error_itself():
    errors = squared_error(*(torch.from_numpy(a) for a in (rows()[0], rows()[2])))
    best = weighed(errors, errors.log())
    for off in (-0.3, 0.3):
        assert bool((weighed(errors, errors.log() + off) > best).all())
