import math

import numpy as np
import pytest
import torch

from fct.embedder import losses
from fct.embedder.losses import Influence
from fct.errors import BadInput


def rows(n=7, dims=5, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dims)), rng.normal(size=(classes, dims)), rng.integers(0, classes, n)


def tensor(*arrays):
    return [torch.from_numpy(np.array(array)) for array in arrays]


def angle(a, b):
    return math.acos(max(-1.0, min(1.0, float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))))


def naive_arcface(phi, weight, labels, scale, margin):
    total = 0.0
    for x, y in zip(phi, labels, strict=True):
        logits = []
        for k, w in enumerate(weight):
            theta = angle(x, w)
            if k != y:
                logits.append(scale * math.cos(theta))
            elif theta + margin < math.pi:
                logits.append(scale * math.cos(theta + margin))
            else:
                logits.append(scale * (math.cos(theta) - margin * math.sin(margin)))
        total -= logits[y] - math.log(sum(math.exp(z) for z in logits))
    return total / len(phi)


def naive_contrastive(phi, labels, temperature):
    z = [row / math.sqrt(float(row @ row)) for row in phi]
    each = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        each.append(-sum(math.log(math.exp(float(z[i] @ z[p]) / temperature) / below) for p in positives) / len(positives))
    return sum(each) / len(each) if each else 0.0


def naive_influence(phi, labels, old):
    each = []
    for x, y in zip(phi, labels, strict=True):
        if y not in old.classes:
            continue
        x = list(x) + [0.0] * old.head_weight.shape[1]
        logits = [sum(a * b for a, b in zip(w, x, strict=False)) + c for w, c in zip(old.head_weight, old.head_bias, strict=True)]
        wanted = old.classes.tolist().index(y)
        each.append(math.log(sum(math.exp(z) for z in logits)) - logits[wanted])
    return sum(each) / len(each) if each else 0.0


@pytest.mark.parametrize(("scale", "margin"), [(1.0, 0.0), (16.0, 0.3), (64.0, 0.5), (4.0, 2.0)])
@pytest.mark.parametrize("seed", range(3))
def test_arcface_is_that_of_a_naive_loop_over_angles(scale, margin, seed):
    phi, weight, labels = rows(seed=seed)
    found = losses.arcface(*tensor(phi, weight, labels), scale=scale, margin=margin)
    assert float(found) == pytest.approx(naive_arcface(phi, weight, labels, scale, margin), rel=1e-9)


def test_arcface_looks_at_angles_alone_and_a_margin_makes_it_harder():
    phi, weight, labels = tensor(*rows())
    plain = losses.arcface(phi, weight, labels)
    torch.testing.assert_close(losses.arcface(7 * phi, 0.1 * weight, labels), plain)
    assert plain > losses.arcface(phi, weight, labels, margin=0.0)


def test_arcface_has_a_slope_also_where_phi_lies_on_its_class_or_opposite_to_it():
    weight = torch.eye(3, dtype=torch.float64)
    phi = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]], dtype=torch.float64, requires_grad=True)
    losses.arcface(phi, weight, torch.tensor([0, 0])).backward()
    assert torch.isfinite(phi.grad).all()


def test_a_rows_own_logit_falls_as_its_angle_grows_all_the_way():
    thetas = np.linspace(0.01, math.pi - 0.01, 200)
    phi = torch.tensor([[math.cos(t), 0.0, math.sin(t)] for t in thetas], dtype=torch.float64)
    weight = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64)
    each = [float(losses.arcface(row[None], weight, torch.tensor([0]))) for row in phi]
    assert (np.diff(each) > 0).all()


def test_the_linear_head_of_arcface_names_the_class_of_the_smallest_angle():
    phi, weight, _ = rows(n=40)
    head, bias = losses.cosine_head(*tensor(weight, phi), scale=16.0)
    found = (torch.from_numpy(phi) @ head.T + bias).numpy()
    nearest = [int(np.argmin([angle(x, w) for w in weight])) for x in phi]
    assert found.argmax(axis=1).tolist() == nearest
    of_mean_norm = phi[0] / np.linalg.norm(phi[0]) * np.linalg.norm(phi, axis=1).mean()
    wanted = [16 * math.cos(angle(phi[0], w)) for w in weight]
    np.testing.assert_allclose(head.numpy() @ of_mean_norm, wanted, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_supervised_contrastive_is_that_of_a_naive_loop(temperature, seed):
    phi, _, labels = rows(n=8, seed=seed)
    found = losses.supervised_contrastive(*tensor(phi, labels), temperature=temperature)
    assert float(found) == pytest.approx(naive_contrastive(phi, labels, temperature), rel=1e-9)


def test_rows_without_a_positive_do_not_count_and_none_with_one_is_zero():
    phi, _, _ = rows(n=4)
    lonely = torch.from_numpy(phi).requires_grad_()
    alone = losses.supervised_contrastive(lonely, torch.arange(4))
    alone.backward()
    assert float(alone) == 0 and torch.equal(lonely.grad, torch.zeros_like(lonely))
    labels = [0, 0, 1, 2]
    found = losses.supervised_contrastive(*tensor(phi, labels), temperature=0.1)
    assert float(found) == pytest.approx(naive_contrastive(phi, labels, 0.1), rel=1e-9)


@pytest.mark.parametrize("old_dims", [3, 5, 8])
def test_influence_is_that_of_a_naive_loop_whatever_the_dimensions(old_dims):
    rng = np.random.default_rng(old_dims)
    phi, _, labels = rows(n=12, classes=6)
    old = Influence(rng.normal(size=(4, old_dims)), rng.normal(size=4), np.array([5, -1, 0, 2]), 1.0)
    found = losses.influence(*tensor(phi, labels, old.head_weight, old.head_bias, losses.rows_of(old, 6)))
    assert float(found) == pytest.approx(naive_influence(phi, labels, old), rel=1e-9)


def test_a_batch_without_old_classes_has_no_influence():
    phi, weight, _ = rows(n=3)
    found = losses.influence(*tensor(phi, [0, 0, 0], weight, np.zeros(4), [-1, 2]))
    assert float(found) == 0


def test_rows_of_the_old_head_are_found_by_class_number():
    old = Influence(np.zeros((4, 2)), np.zeros(4), np.array([5, -1, 0, 2]), 1.0)
    assert losses.rows_of(old, 6).tolist() == [2, -1, 3, -1, -1, 0]


@pytest.mark.parametrize(
    ("weight", "bias", "classes", "message"),
    [
        ((3, 2), 2, [0, 1, 2], "do not fit each other"),
        ((3, 2), 3, [0, 1], "do not fit each other"),
        ((3, 2), 3, [0.0, 1.0, 2.0], "do not fit each other"),
        ((3, 2), 3, [0, 1, 4], r"different ones of 0 … 3"),
        ((3, 2), 3, [0, 1, -2], r"different ones of 0 … 3"),
        ((3, 2), 3, [0, 1, 1], r"different ones of 0 … 3"),
        ((3, 2), 3, [-1, -1, -1], "none of the new classes"),
    ],
)
def test_an_old_head_that_does_not_fit_is_refused(weight, bias, classes, message):
    with pytest.raises(BadInput, match=message):
        losses.rows_of(Influence(np.zeros(weight), np.zeros(bias), np.array(classes), 1.0), 4)
