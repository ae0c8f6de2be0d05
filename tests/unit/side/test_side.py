from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from fct import embedder, side
from fct.errors import BadInput
from fct.program import programs as program
from fct.sample.comparison import Thumbnail as Stored
from fct.side import coders, codes, ssl
from fct.side.settings import KINDS, SideSettings

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
    found = ssl.nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert float(found) == pytest.approx(oracles.nt_xent(first, second, temperature), rel=1e-9)


def test_nt_xent_is_smaller_when_the_views_of_an_image_agree():
    x, y = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    assert ssl.nt_xent(x, x, 0.2) < ssl.nt_xent(x, y, 0.2)


def naive_vicreg(first, second, invariance, variance, covariance):
    """Invariance, hinge on every standard deviation, squares of every covariance off the diagonal: loops over rows and dimensions."""
    n, d = first.shape
    far = sum((first[i, j] - second[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    spread, shared = 0.0, 0.0
    for z in (first, second):
        means = [sum(z[i, j] for i in range(n)) / n for j in range(d)]

        def product(a, b, z=z, means=means):
            return sum((z[i, a] - means[a]) * (z[i, b] - means[b]) for i in range(n)) / (n - 1)

        spread += sum(max(0.0, 1 - (product(j, j) + 1e-4) ** 0.5) for j in range(d)) / d
        shared += sum(product(a, b) ** 2 for a in range(d) for b in range(d) if a != b) / d
    return invariance * far + variance * spread + covariance * shared


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize(("n", "dims", "scale"), [(2, 3, 1.0), (9, 4, 0.5), (6, 1, 2.0)])
def test_vicreg_is_that_of_naive_loops(n, dims, scale, weights):
    first, second = scale * np.random.default_rng(n).normal(size=(2, n, dims))
    names = ("invariance", "variance", "covariance")
    found = ssl.vicreg(torch.from_numpy(first), torch.from_numpy(second), **dict(zip(names, weights, strict=True)))
    assert float(found) == pytest.approx(naive_vicreg(first, second, *weights), rel=1e-9)


def test_vicregs_own_weights_are_25_25_1():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3))
    found = ssl.vicreg(torch.from_numpy(first), torch.from_numpy(second))
    assert float(found) == pytest.approx(naive_vicreg(first, second, 25, 25, 1), rel=1e-9)


@pytest.mark.parametrize("train", [ssl.train_simclr, ssl.train_vicreg])
def test_an_encoder_learns_to_tell_images_apart_whatever_the_view(train):
    patterns = np.kron(np.random.default_rng(0).integers(0, 2, (16, 1, 4, 4)), np.ones((4, 4))).astype(np.uint8) * 255
    settings = replace(SETTINGS, simclr_epochs=40, simclr_batch=16, simclr_learning_rate=0.01)

    def told_apart(epochs):
        net = train(patterns, replace(settings, simclr_epochs=epochs), seed=0, device=CPU, title="")
        shifted = np.roll(patterns, 1, axis=3)
        with torch.inference_mode():
            a, b = (net(1 - torch.from_numpy(x).float() / 255).flatten(1) for x in (patterns, shifted))
        a, b = ((x - a.mean(dim=0)) / a.norm() for x in (a, b))
        return float(((a - b) ** 2).sum() / (torch.cdist(a, a) ** 2).mean())

    assert told_apart(40) < 0.7 * told_apart(1)


def test_the_projection_is_a_pca_up_to_sign():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(50, 12)) @ rng.normal(size=(12, 12)) + 3
    found = coders.fit_projection(maps, 4)
    centred = maps - maps.mean(axis=0)
    _, _, wanted = np.linalg.svd(centred, full_matrices=False)
    cosines = np.abs((found.components.numpy() * wanted[:4].T).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    np.testing.assert_allclose(found.mean.numpy(), maps.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.components.T.numpy() @ found.components.numpy(), np.eye(4), atol=1e-5)


def test_signs_are_settled_so_that_the_same_maps_give_the_same_codes():
    maps = np.random.default_rng(1).normal(size=(30, 5))
    components = coders.fit_projection(maps, 5).components.numpy()
    assert (components[np.abs(components).argmax(axis=0), np.arange(5)] > 0).all()


def test_codes_are_int8_symmetric_and_use_the_range():
    maps = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    projection = coders.fit_projection(maps, 3)
    codes = projection(torch.from_numpy(maps))
    assert codes.dtype == torch.int8 and codes.shape == (500, 3)
    assert codes.abs().max() == 127 and (codes.float().abs().amax(dim=0) > 120).all()
    far = projection(torch.from_numpy(1000 * maps))
    assert far.min() == -127 and far.max() == 127  # −128 has no opposite and is not used


def test_codes_times_steps_are_the_projected_maps_to_half_a_step():
    maps = np.random.default_rng(2).normal(size=(200, 6)).astype(np.float32)
    projection = coders.fit_projection(maps, 6)
    exact = (torch.from_numpy(maps) - projection.mean) @ projection.components
    codes = projection(torch.from_numpy(maps))
    inside = codes.abs() < 127
    assert ((codes * projection.step - exact).abs() <= 0.51 * projection.step)[inside].all()


def test_maps_that_never_vary_do_not_divide_by_zero():
    codes = coders.fit_projection(np.ones((20, 5)), 3)(torch.ones(2, 5))
    assert codes.abs().sum() == 0


def test_too_little_to_project_is_refused():
    for shape in ((5, 20), (20, 5)):
        with pytest.raises(BadInput, match="at least 6 images and map values"):
            coders.fit_projection(np.ones(shape), 6)


def test_a_map_is_flattened_with_its_layout():
    maps = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    assert torch.equal(side.layout(maps), maps.reshape(2, 48))
    large = torch.rand(2, 3, 16, 16)
    pooled = side.layout(large)
    assert pooled.shape == (2, 3 * 64)
    torch.testing.assert_close(pooled[0, 0], large[0, 0, :2, :2].mean())


@pytest.mark.parametrize("kinds", [("pca",), ("simclr",), ("vicreg",), ("simclr", "pca"), ("pca", "vicreg", "simclr")])
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


@pytest.mark.parametrize("bits", [4, 2, 1])
def test_codes_of_few_bits_stay_in_their_range_use_it_and_stand_for_the_middle_of_their_cell(bits):
    maps = np.random.default_rng(0).normal(size=(2000, 6)) * [1, 2, 3, 4, 5, 6]
    projection = coders.fit_projection(maps, 3, bits)
    maps = torch.from_numpy(maps).float()
    found = projection(maps)
    half = 2 ** (bits - 1)
    assert found.dtype == torch.int8
    assert found.amin(dim=0).tolist() == [-half] * 3 and found.amax(dim=0).tolist() == [half - 1] * 3
    far = projection(1000 * maps)
    assert far.amin(dim=0).tolist() == [-half] * 3 and far.amax(dim=0).tolist() == [half - 1] * 3
    exact = (maps - projection.mean) @ projection.components
    inside = exact.abs() < half * projection.step
    assert (((found + 0.5) * projection.step - exact).abs() <= 0.501 * projection.step)[inside].all()
    assert np.array_equal(codes.unpack(codes.pack(found.numpy(), bits), 3, bits), found.numpy())


def test_the_steps_of_few_bits_lose_less_than_any_fixed_percentile():
    maps = np.random.default_rng(3).laplace(size=(2000, 4)) * [1, 2, 3, 4]
    for bits in (4, 2, 1):
        projection = coders.fit_projection(maps, 4, bits)
        exact = ((torch.from_numpy(maps).float() - projection.mean) @ projection.components).numpy()

        def lost(step, exact=exact, bits=bits):
            half = 2 ** (bits - 1)
            return float((((np.clip(np.floor(exact / step), -half, half - 1) + 0.5) * step - exact) ** 2).mean())

        chosen = lost(projection.step.numpy())
        for percent in (50, 80, 90, 95, 99, 99.9):
            assert chosen <= 1.002 * lost(np.percentile(np.abs(exact), percent, axis=0) / 2 ** (bits - 1))


def test_eight_bits_keep_the_percentile_and_bits_may_differ_by_component():
    maps = np.random.default_rng(0).normal(size=(300, 6)) * [9, 5, 3, 1, 1, 1]
    exact = torch.from_numpy(maps) - torch.from_numpy(maps).mean(dim=0)
    eight = coders.fit_projection(maps, 3)
    wanted = torch.quantile((exact @ eight.components.double()).abs(), 0.999, dim=0) / 127
    torch.testing.assert_close(eight.step.double(), wanted, rtol=1e-5, atol=0)
    given = codes.bits_per_component(np.array([81.0, 25, 9]), 9)
    assert given.tolist() == [4, 3, 2]
    found = coders.fit_projection(maps, 3, given.tolist())(torch.from_numpy(maps).float()).numpy()
    assert found.min(axis=0).tolist() == [-8, -4, -2] and found.max(axis=0).tolist() == [7, 3, 1]
    assert codes.pack(found, given).shape == (300, 2)


def test_bits_shared_out_by_variance_lose_less_of_the_map_than_equal_ones():
    rng = np.random.default_rng(0)
    maps = (rng.normal(size=(600, 24)) * 0.8 ** np.arange(24)) @ np.linalg.qr(rng.normal(size=(24, 24)))[0] + 5

    def lost(projection, bits):
        x = torch.from_numpy(maps).float()
        middle = 0.0 if np.all(np.asarray(bits) == 8) else 0.5
        back = ((projection(x) + middle) * projection.step) @ projection.components.T + projection.mean
        return float(((back - x) ** 2).sum() / ((x - projection.mean) ** 2).sum())

    filled, given = coders.fit_water_filled(maps, 32)
    assert given.sum() == 32 and (np.diff(given) <= 0).all() and given.min() >= 1
    assert codes.pack(filled(torch.from_numpy(maps).float()).numpy(), given).shape == (600, 4)
    assert lost(filled, given) < 0.9 * min(lost(coders.fit_projection(maps, 32 // bits, bits), bits) for bits in (8, 4, 2))


@pytest.mark.parametrize(("bits", "dims"), [(4, 6), (2, 8), (1, (8, 4))])
def test_dims_and_bits_of_the_settings_are_those_of_the_program(bits, dims):
    settings = replace(SETTINGS, dims=dims, bits=bits)
    made = prepare(settings)
    with torch.inference_mode():
        _, psi = made(torch.from_numpy(images(9)))
    total = 12 if isinstance(dims, tuple) else 2 * dims
    assert psi.shape == (9, total) and psi.dtype == torch.int8
    assert int(psi.min()) >= -(2 ** (bits - 1)) and int(psi.max()) < 2 ** (bits - 1)
    assert codes.pack(psi.numpy(), bits).shape[1] == codes.packed_bytes(total, made.bits) == -(-total * bits // 8)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
@pytest.mark.parametrize("side_of", [4, 7, 16])
def test_a_thumbnail_shows_what_the_stored_thumbnail_of_the_comparison_shows(bits, side_of):
    x = np.kron(images(5)[:, :, :8, :8], np.ones((2, 2), dtype=np.uint8))
    settings = replace(SETTINGS, kinds=("thumbnail",), dims=side_of**2, bits=bits)
    with torch.inference_mode():
        _, psi = prepare(settings)(torch.from_numpy(x))
    assert psi.shape == (5, side_of**2) and int(psi.min()) >= -(2 ** (bits - 1)) and int(psi.max()) < 2 ** (bits - 1)
    shown = coders.enlarge(psi.numpy(), bits, 16)
    wanted = Stored(side_of, bits).apply(x)
    assert shown.shape == wanted.shape and shown.dtype == np.uint8
    # a grey that lies between two levels may go either way
    assert (np.abs(shown.astype(int) - wanted) <= 1).mean() > 0.95


def test_white_and_black_survive_every_thumbnail():
    x = np.full((2, 1, 16, 16), 255, dtype=np.uint8)
    x[1] = 0
    for bits in (8, 4, 2, 1):
        thumbnail = coders.Thumbnail(4, bits)(1 - torch.from_numpy(x).float() / 255)
        assert thumbnail[0].unique().tolist() == [-(2 ** (bits - 1))] and thumbnail[1].unique().tolist() == [2 ** (bits - 1) - 1]
        assert np.array_equal(coders.enlarge(thumbnail.numpy(), bits, 16), x)


def test_a_program_of_every_kind_exports_and_gives_the_same_codes(tmp_path):
    made = prepare(replace(SETTINGS, kinds=KINDS, dims=(4, 5, 6, 7, 16), bits=2))
    program.export(made, 1, 16, tmp_path / "program.pt2")
    _, found = program.embed(program.load(tmp_path / "program.pt2"), images(), device=CPU)
    with torch.inference_mode():
        _, wanted = made(torch.from_numpy(images()))
    assert np.array_equal(found, wanted.numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, r"side\.bits.*wanted 8 or 4 or 2 or 1; got 3"),
        ({"bits": 0}, r"side\.bits"),
        ({"dims": (8,)}, r"side\.dims does not fit side\.kinds; wanted one number, or 2"),
        ({"dims": 0}, r"side\.dims.*at least 1"),
        ({"kinds": ("thumbnail",), "dims": 60}, "square number"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(change, message):
    with pytest.raises(BadInput, match=message):
        replace(SETTINGS, **change)


def test_a_thumbnail_larger_than_the_images_is_refused():
    with pytest.raises(BadInput, match="larger than the images; wanted at most 256"):
        prepare(replace(SETTINGS, kinds=("thumbnail",), dims=289))
