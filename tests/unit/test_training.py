from dataclasses import replace

import numpy as np
import pytest
import torch

from fct.errors import BadInput
from fct.training import EmbedderSettings, batches, train_embedder, unit

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
