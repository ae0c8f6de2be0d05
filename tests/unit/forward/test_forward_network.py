import pytest
import torch

from fct.forward.network import ForwardEnsemble, ForwardNetwork, Linear


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("old", "side", "new", "width"), [(4, 6, 5, 7), (4, 0, 5, 7), (3, 8, 2, 16)])
def test_layers_have_the_widths_of_the_published_architecture(old, side, new, width):
    def layer(a, b):
        return a * b + b + 2 * b  # linear with bias, BatchNorm

    net = ForwardNetwork(old, side, new, width)
    wanted = layer(old, 2 * old) + layer(2 * old, 2 * new)
    wanted += layer(side, 2 * side) + layer(2 * side, 2 * new) if side else 0
    wanted += layer(4 * new if side else 2 * new, width) + layer(width, width) + width * new + new + width + 1
    assert parameters(net) == wanted
    mean, spread = net.eval()(torch.rand(3, old), torch.zeros(3, side, dtype=torch.int8))
    assert mean.shape == (3, new) and spread.shape == (3,)


def test_without_side_information_there_is_no_branch_for_it():
    assert ForwardNetwork(4, 0, 5, 7).side_branch is None


def test_published_methods_give_the_old_vector_to_both_branches_where_there_is_no_side_information():
    net = ForwardNetwork(4, 0, 5, 7, twice=True).eval()
    assert net.twice and not ForwardNetwork(4, 3, 5, 7, twice=True).twice
    assert net.side_branch is not None and net.side_branch[0][0].in_features == 4
    old = torch.randn(3, 4)
    before = net(old, torch.zeros(3, 0))[0]
    net.side_branch[0][0].weight.data += 1
    assert not torch.allclose(before, net(old, torch.zeros(3, 0))[0])


def test_branches_of_wide_vectors_stay_narrow_enough_to_train():
    assert parameters(ForwardNetwork(4096, 512, 4096, 768)) < 25e6


@pytest.mark.parametrize("outputs", [1, 2, 15, 16, 40])
def test_a_narrow_layer_computes_what_a_plain_one_does(outputs):
    layer, x = Linear(7, outputs), torch.randn(5, 7)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)


def test_inputs_are_standardised_and_outputs_scaled_back_with_the_stored_statistics():
    torch.manual_seed(0)
    plain, scaled = ForwardNetwork(4, 2, 3, 8).eval(), ForwardNetwork(4, 2, 3, 8).eval()
    scaled.load_state_dict(plain.state_dict())
    for name, value in (("old_mean", 5.0), ("old_std", 2.0), ("side_mean", -1.0), ("side_std", 4.0), ("new_mean", 7.0), ("new_scale", 3.0)):
        getattr(scaled, name).fill_(value)
    old, side = torch.randn(6, 4), torch.randn(6, 2)
    first, second = plain(old, side)[0], scaled(2 * old + 5, 4 * side - 1)[0]
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(scaled.restore(second), 3 * second + 7)
    assert {"old_mean", "old_std", "side_mean", "side_std", "new_mean", "new_scale"} <= scaled.state_dict().keys()


def test_an_ensemble_of_one_network_is_that_network():
    torch.manual_seed(0)
    net = ForwardNetwork(4, 2, 3, 8).eval()
    old, side = torch.randn(6, 4), torch.randn(6, 2)
    with torch.inference_mode():
        mean, spread = ForwardEnsemble([net]).eval()(old, side)
        wanted, log_variance = net(old, side)
    torch.testing.assert_close(mean, net.restore(wanted))
    torch.testing.assert_close(spread, (0.5 * log_variance).exp())


def test_an_ensemble_gives_the_mean_of_its_members():
    torch.manual_seed(0)
    nets = [ForwardNetwork(4, 2, 3, 8).eval() for _ in range(3)]
    for number, net in enumerate(nets):
        net.new_mean.fill_(float(number))
    old, side = torch.randn(6, 4), torch.randn(6, 2)
    with torch.inference_mode():
        mean, spread = ForwardEnsemble(nets).eval()(old, side)
        single = torch.stack([net.restore(net(old, side)[0]) for net in nets])
    torch.testing.assert_close(mean, single.mean(dim=0))
    assert spread.shape == (6,) and (spread > 0).all()
