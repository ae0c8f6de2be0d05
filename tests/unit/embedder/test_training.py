from dataclasses import replace

import numpy as np
import pytest
import torch

from fct import embedder
from fct.embedder.losses import ARC_SCALE
from fct.embedder.settings import EmbedderSettings
from fct.embedder.training import batches, train_embedder, unit
from fct.errors import BadInput

SETTINGS = EmbedderSettings("small-cnn", dim=6, classes=1.0, epochs=2, batch=8, learning_rate=0.003, weight_decay=0.01, label_smoothing=0.1)
CPU = torch.device("cpu")


def images(n=20, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    dark = np.zeros((n, 1, 16, 16), dtype=np.uint8) + 255
    for row, label in enumerate(labels):
        dark[row, :, 4 * label : 4 * label + 5, :] = rng.integers(0, 60)
    return dark, labels


def weights(net):
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(("rows", "batch"), [(1, 8), (7, 8), (8, 8), (9, 8), (17, 8), (64, 5)])
def test_batches_are_whole_and_repeat_no_row(rows, batch):
    found = list(batches(rows, batch, torch.Generator().manual_seed(0)))
    assert [len(part) for part in found] == [min(rows, batch)] * max(1, rows // batch)
    together = torch.cat(found).tolist()
    assert len(set(together)) == len(together) and set(together) <= set(range(rows))


def test_every_epoch_has_another_order():
    generator = torch.Generator().manual_seed(0)
    assert torch.cat(list(batches(16, 4, generator))).tolist() != torch.cat(list(batches(16, 4, generator))).tolist()


def test_black_on_white_becomes_one_on_zero():
    assert unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [1.0, 0.0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    x, y = images()
    runs = [train_embedder(x, y, SETTINGS, seed=seed, device=CPU) for seed in (0, 0, 1)]
    first, again, other = ({**weights(net), **weights(head)} for net, head in runs)
    assert first == again
    assert first != other


def test_training_takes_nothing_from_global_randomness_and_leaves_it_alone():
    x, y = images()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, _ = train_embedder(x, y, SETTINGS, seed=0, device=CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(12)
    assert weights(first) == weights(train_embedder(x, y, SETTINGS, seed=0, device=CPU)[0])


def test_classes_that_can_be_told_apart_are_learned():
    x, y = images(60)
    net, head = train_embedder(x, y, replace(SETTINGS, epochs=15, learning_rate=0.01), seed=0, device=CPU)
    assert not net.training and head.weight.shape == (3, 6)
    with torch.inference_mode():
        found = head(net(unit(torch.from_numpy(x)))[0]).argmax(dim=1).numpy()
    assert (found == y).mean() > 0.9


@pytest.mark.parametrize("rows", [3, 9])
def test_a_last_batch_of_one_row_never_reaches_batch_norm(rows):
    x, y = images(rows)
    net, _ = train_embedder(x, y, SETTINGS, seed=0, device=CPU)
    assert all(np.isfinite(value.numpy()).all() for value in net.state_dict().values())


def test_fewer_than_two_classes_are_refused():
    x, _ = images(4)
    with pytest.raises(BadInput, match=r"at least two classes.*got 1.*in v7"):
        train_embedder(x, np.zeros(4, dtype=int), SETTINGS, seed=0, device=CPU, title="v7")


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(BadInput, match=r"embedder\.loss.*wanted softmax or arcface or supervised-contrastive; got triplet"):
        replace(SETTINGS, loss="triplet")


@pytest.mark.parametrize("loss", ["arcface", "supervised-contrastive"])
def test_every_loss_learns_classes_that_can_be_told_apart_and_gives_a_linear_head(loss):
    x, y = images(60)
    net, head = train_embedder(x, y, replace(SETTINGS, loss=loss, epochs=20, learning_rate=0.01), seed=0, device=CPU)
    assert not net.training and not head.training and head.weight.shape == (3, 6)
    with torch.inference_mode():
        found = head(net(unit(torch.from_numpy(x)))[0]).argmax(dim=1).numpy()
    assert (found == y).mean() > 0.9


@pytest.mark.parametrize("loss", ["arcface", "supervised-contrastive"])
def test_every_loss_gives_the_same_bytes_for_the_same_seed(loss):
    x, y = images()
    runs = [train_embedder(x, y, replace(SETTINGS, loss=loss), seed=0, device=CPU) for _ in range(2)]
    assert {**weights(runs[0][0]), **weights(runs[0][1])} == {**weights(runs[1][0]), **weights(runs[1][1])}
    assert weights(runs[0][0]) != weights(train_embedder(x, y, SETTINGS, seed=0, device=CPU)[0])


@pytest.mark.parametrize("dim", [6, 9, 4])
def test_influence_makes_the_old_head_right_about_new_vectors_and_leaves_the_old_head_alone(dim):
    x, y = images(60)
    settings = replace(SETTINGS, epochs=15, learning_rate=0.01)
    _, old = train_embedder(x, y, settings, seed=0, device=CPU)
    weight, bias = old.weight.detach().numpy(), old.bias.detach().numpy()
    kept = weight.copy()
    swapped = np.array([2, 0, 1])  # row k of the old head is class swapped[k] now
    labels = swapped[y]

    def right(influence):
        net, head = train_embedder(x, labels, replace(settings, dim=dim), seed=5, device=CPU, influence=influence)
        with torch.inference_mode():
            phi = net(unit(torch.from_numpy(x)))[0].numpy()
        shared = min(dim, 6)
        found = swapped[(phi[:, :shared] @ weight[:, :shared].T + bias).argmax(axis=1)]
        own = (phi @ head.weight.detach().numpy().T + head.bias.detach().numpy()).argmax(axis=1)
        return (found == labels).mean(), (own == labels).mean()

    without, _ = right(None)
    compatible, own = right((weight, bias, swapped, 1.0))
    assert compatible > 0.9 > without and own > 0.9
    assert np.array_equal(weight, kept)


def test_an_old_head_without_a_shared_class_is_refused():
    x, y = images()
    with pytest.raises(BadInput, match="none of the new classes"):
        train_embedder(x, y, SETTINGS, seed=0, device=CPU, influence=(np.zeros((2, 6)), np.zeros(2), np.array([-1, -1]), 1.0))


def test_arcfaces_head_is_made_for_vectors_of_the_norm_that_the_images_have():
    x, y = images(30)
    net, head = train_embedder(x, y, replace(SETTINGS, loss="arcface"), seed=0, device=CPU)
    with torch.inference_mode():
        norm = float(net(unit(torch.from_numpy(x)))[0].norm(dim=1).mean())
    assert torch.equal(head.bias, torch.zeros(3))
    torch.testing.assert_close(head.weight.norm(dim=1).detach(), torch.full((3,), ARC_SCALE / norm))


def test_supervised_contrastive_learns_from_two_views_where_no_class_has_a_second_image():
    x, _ = images(12)
    settings = replace(SETTINGS, loss="supervised-contrastive", weight_decay=0.0)
    net, _ = train_embedder(x, np.arange(12), settings, seed=0, device=CPU)
    assert not torch.equal(net.out.weight, embedder.build("small-cnn", 6, 1, 16, 0).out.weight)
