import pytest
import torch

from fct import embedder
from fct.errors import BadInput


@pytest.mark.parametrize("architecture", ["small-cnn", "small-resnet"])
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 16), (1, 33)])
def test_an_embedder_gives_vectors_and_a_map_that_keeps_the_layout(architecture, channels, size):
    net = embedder.build(architecture, 5, channels, size, seed=0).eval()
    phi, middle = net(torch.rand(3, channels, size, size))
    assert phi.shape == (3, 5)
    assert middle.ndim == 4 and len(middle) == 3 and middle.shape[2] == middle.shape[3] > 1


def test_the_seed_decides_the_weights_and_global_randomness_is_left_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (embedder.build("small-cnn", 4, 1, 16, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.out.weight, other.out.weight)


def test_a_row_is_embedded_the_same_with_other_rows_around_it():
    net = embedder.build("small-resnet", 4, 1, 16, 0).eval()
    x = torch.rand(5, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(net(x)[0][3:4], net(x[3:4])[0])


def test_unknown_architectures_and_sizes_that_are_too_small_are_refused():
    with pytest.raises(BadInput, match=r"unknown architecture; wanted small-cnn or .*vit-b-16; got resnet"):
        embedder.build("resnet", 4, 1, 32, 0)
    with pytest.raises(BadInput, match="too small"):
        embedder.build("small-cnn", 4, 1, 15, 0)
    with pytest.raises(BadInput, match="too small"):
        embedder.build("small-cnn", 0, 1, 16, 0)
