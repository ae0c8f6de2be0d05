from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from fct import embedder, side
from fct.errors import BadInput
from fct.side import SideSettings

SETTINGS = SideSettings(
    ("simclr", "pca"), dims=6, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002
)
CPU = torch.device("cpu")


def images(n=20, channels=1):
    return np.random.default_rng(0).integers(0, 256, (n, channels, 16, 16), dtype=np.uint8)


def network():
    return embedder.build("small-cnn", 5, 1, 16, 0).eval()


def prepare(settings, seed=0):
    return side.prepare(network(), images(), settings, seed=seed, device=CPU)


@pytest.mark.parametrize(("n", "temperature"), [(1, 0.5), (2, 0.2), (7, 0.2), (7, 1.0)])
def test_nt_xent_is_that_of_a_naive_double_loop(n, temperature):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(2, n, 5))
    found = side.nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert float(found) == pytest.approx(oracles.nt_xent(first, second, temperature), rel=1e-9)


def test_nt_xent_is_smaller_when_the_views_of_an_image_agree():
    x, y = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    assert side.nt_xent(x, x, 0.2) < side.nt_xent(x, y, 0.2)


def test_the_projection_is_a_pca_up_to_sign():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(50, 12)) @ rng.normal(size=(12, 12)) + 3
    found = side.fit_projection(maps, 4)
    centred = maps - maps.mean(axis=0)
    _, _, wanted = np.linalg.svd(centred, full_matrices=False)
    cosines = np.abs((found.components.numpy() * wanted[:4].T).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    np.testing.assert_allclose(found.mean.numpy(), maps.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.components.T.numpy() @ found.components.numpy(), np.eye(4), atol=1e-5)


def test_signs_are_settled_so_that_the_same_maps_give_the_same_codes():
    maps = np.random.default_rng(1).normal(size=(30, 5))
    components = side.fit_projection(maps, 5).components.numpy()
    assert (components[np.abs(components).argmax(axis=0), np.arange(5)] > 0).all()


def test_codes_are_int8_symmetric_and_use_the_range():
    maps = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    projection = side.fit_projection(maps, 3)
    codes = projection(torch.from_numpy(maps))
    assert codes.dtype == torch.int8 and codes.shape == (500, 3)
    assert codes.abs().max() == 127 and (codes.float().abs().amax(dim=0) > 120).all()
    far = projection(torch.from_numpy(1000 * maps))
    assert far.min() == -127 and far.max() == 127  # −128 has no opposite and is not used


def test_codes_times_steps_are_the_projected_maps_to_half_a_step():
    maps = np.random.default_rng(2).normal(size=(200, 6)).astype(np.float32)
    projection = side.fit_projection(maps, 6)
    exact = (torch.from_numpy(maps) - projection.mean) @ projection.components
    codes = projection(torch.from_numpy(maps))
    inside = codes.abs() < 127
    assert ((codes * projection.step - exact).abs() <= 0.51 * projection.step)[inside].all()


def test_maps_that_never_vary_do_not_divide_by_zero():
    codes = side.fit_projection(np.ones((20, 5)), 3)(torch.ones(2, 5))
    assert codes.abs().sum() == 0


def test_too_little_to_project_is_refused():
    for shape in ((5, 20), (20, 5)):
        with pytest.raises(BadInput, match="at least 6 images and map values"):
            side.fit_projection(np.ones(shape), 6)


def test_a_map_is_flattened_with_its_layout():
    maps = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    assert torch.equal(side.layout(maps), maps.reshape(2, 48))
    large = torch.rand(2, 3, 16, 16)
    pooled = side.layout(large)
    assert pooled.shape == (2, 3 * 64)
    torch.testing.assert_close(pooled[0, 0], large[0, 0, :2, :2].mean())


@pytest.mark.parametrize("kinds", [("pca",), ("simclr",), ("simclr", "pca")])
def test_side_information_has_as_many_bytes_as_declared(kinds):
    program = prepare(replace(SETTINGS, kinds=kinds))
    with torch.inference_mode():
        phi, psi = program(torch.from_numpy(images(3)))
    assert psi.dtype == torch.int8 and psi.shape == (3, SETTINGS.dims * len(kinds))
    assert psi.element_size() * psi.shape[1] == SETTINGS.dims * len(kinds)
    assert phi.dtype == torch.float32 and phi.shape == (3, 5)
    assert (psi.float().std(dim=0) > 0).any()


def test_the_program_gives_the_embedders_own_vectors():
    with torch.inference_mode():
        phi, _ = prepare(replace(SETTINGS, kinds=("pca",)))(torch.from_numpy(images(3)))
        wanted, _ = network()(1 - torch.from_numpy(images(3)).float() / 255)
    assert torch.equal(phi, wanted)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (
        {name: value.numpy().tobytes() for name, value in prepare(SETTINGS, seed).state_dict().items()} for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("kinds", [("pcb",), ("pca", "simclr2"), (), ("pca", "pca")])
def test_unknown_repeated_or_no_kinds_are_refused(kinds):
    with pytest.raises(BadInput, match="kind of side-information"):
        prepare(replace(SETTINGS, kinds=kinds))
