"""Drawing a picture from its codes, and what the new embedder sees in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fct.errors import BadInput
from fct.forward import Forward
from fct.release import preview
from fct.side import picture

CPU = torch.device("cpu")


def drawer(p=6, shape=(1, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = picture.Drawer(torch.randn(p, *shape, generator=generator) / 50, torch.full(shape, 0.5))
    nn.init.zeros_(made.sharpen[-1].weight)
    nn.init.zeros_(made.sharpen[-1].bias)
    return made.eval()


def codes(n, p=6, seed=1):
    return np.random.default_rng(seed).integers(-8, 8, (n, p)).astype(np.int8)


class Embed(nn.Module):
    def forward(self, images):
        flat = images.float().flatten(1)
        return torch.stack([flat.mean(dim=1), flat.amax(dim=1), flat[:, 0]], dim=1), torch.zeros(len(images), 1, dtype=torch.int8)


def test_an_untrained_drawer_draws_the_linear_part_dark_on_white():
    made, psi = drawer(), codes(5)
    drawn = picture.draw(made, psi, 8, "L", device=CPU)
    for row in range(5):
        ink = made.bias.numpy().copy()
        for k in range(6):
            ink += float(psi[row, k]) * made.weight[k].numpy()
        wanted = np.round((1 - np.clip(ink, 0, 1)) * 255)
        assert np.abs(drawn[row].astype(int) - wanted).max() <= 1
    assert drawn.dtype == np.uint8 and drawn.shape == (5, 1, 8, 8)


def test_a_row_is_drawn_the_same_in_any_batch():
    made, psi = drawer(), codes(700)
    whole = picture.draw(made, psi, 8, "L", device=CPU)
    assert np.array_equal(picture.draw(made, psi[613:650], 8, "L", device=CPU), whole[613:650])


@pytest.mark.parametrize(("size", "mode", "channels"), [(8, "RGB", 3), (20, "L", 1), (5, "RGB", 3)])
def test_it_is_drawn_at_the_size_and_mode_that_are_wanted(size, mode, channels):
    drawn = picture.draw(drawer(), codes(3), size, mode, device=CPU)
    assert drawn.shape == (3, channels, size, size)
    assert all(np.array_equal(drawn[:, 0], drawn[:, c]) for c in range(channels))


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 8, 12), (1, 10, 10), (1, 8, 6)])  # the last two do not divide into tiles
def test_the_correction_tile_by_tile_is_that_of_the_convolutions(shape):
    made = picture.Drawer(torch.zeros(2, *shape), torch.zeros(shape)).eval()
    blurred = torch.rand(5, *shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted = made.sharpen(blurred)
        assert torch.allclose(made.correction(blurred), wanted, atol=1e-5) and wanted.std() > 1e-3


def test_training_takes_much_of_the_error_of_a_blurred_drawing_away():
    rng = np.random.default_rng(0)
    ink = np.zeros((400, 1, 8, 8), np.float32)
    for image, (x, y) in zip(ink, rng.integers(0, 6, (400, 2)), strict=True):  # one square of ink somewhere
        image[0, y : y + 3, x : x + 3] = 1
    flat = ink.reshape(len(ink), -1)
    mean = flat.mean(axis=0)
    _, _, v = np.linalg.svd(flat - mean, full_matrices=False)
    psi = np.round((flat - mean) @ v[:6].T * 20).clip(-128, 127).astype(np.int8)
    weight, bias = torch.from_numpy(v[:6].reshape(6, 1, 8, 8) / 20).float(), torch.from_numpy(mean.reshape(1, 8, 8)).float()
    made = picture.fit(weight, bias, psi, ink, epochs=30, seed=0, device=CPU, title="t")
    with torch.inference_mode():
        before = float(((made.blurred(torch.from_numpy(psi)).clamp(0, 1) - torch.from_numpy(ink)) ** 2).mean())
        after = float(((made(torch.from_numpy(psi)) - torch.from_numpy(ink)) ** 2).mean())
    assert after < 0.7 * before
    again = picture.fit(weight, bias, psi, ink, epochs=30, seed=0, device=CPU, title="t")
    assert all(np.array_equal(a, b) for a, b in zip(picture.tensors_of(made).values(), picture.tensors_of(again).values(), strict=True))


def test_it_is_stored_and_read_back_as_it_was_and_a_damaged_one_is_refused():
    made = drawer()
    tensors = picture.tensors_of(made)
    again = picture.from_tensors(tensors)
    assert np.array_equal(picture.draw(again, codes(4), 8, "L", device=CPU), picture.draw(made, codes(4), 8, "L", device=CPU))
    for name in ("weight", "sharpen.2.bias", "sharpen.0.weight"):
        with pytest.raises(BadInput, match="cannot be read"):
            picture.from_tensors({key: value for key, value in tensors.items() if key != name})
    with pytest.raises(BadInput, match="cannot be read"):
        picture.from_tensors(tensors | {"bias": np.zeros((1, 4, 4), np.float32)})


def test_codes_of_another_dimension_are_refused():
    with pytest.raises(BadInput, match="does not fit the release's drawer"):
        picture.draw(drawer(), codes(2, p=5), 8, "L", device=CPU)


def test_the_preview_is_what_the_embedder_sees_in_the_drawing_beside_the_codes():
    made, psi = drawer(), codes(530)
    side = preview.with_preview(made, psi, Embed(), 8, "L", device=CPU)
    phi, _ = Embed()(torch.from_numpy(picture.draw(made, psi, 8, "L", device=CPU)))
    assert side.shape == (530, 9) and side.dtype == np.float16
    assert np.array_equal(side[:, :6].astype(np.int8), psi)
    assert np.allclose(side[:, 6:].astype(np.float32), phi.numpy(), rtol=2e-3)
    assert np.array_equal(preview.with_preview(made, psi[520:], Embed(), 8, "L", device=CPU), side[520:])


class Old:
    def __init__(self, made):
        self.made = made

    def picture(self):
        return self.made


class New:
    dim, size, mode = 3, 8, "L"

    def program(self, device):
        return Embed()


def h_of(side_dim, *reads):
    return Forward("none", 4, side_dim, 3, about={"reads": list(reads)} if reads else {})


@pytest.mark.parametrize(
    ("h", "columns"),
    [
        (h_of(0, "phi"), 6),
        (h_of(6, "phi", "psi"), 6),
        (h_of(9, "phi", "psi", "preview"), 9),
        (h_of(0), 6),  # the manifest of earlier code does not say
        (h_of(6), 6),
        (h_of(9), 9),
    ],
)
def test_h_is_given_a_preview_exactly_when_it_was_fitted_with_one(h, columns):
    assert preview.side_of(Old(drawer()), New(), codes(4), h, device=CPU).shape == (4, columns)


@pytest.mark.parametrize(
    ("made", "h"),
    [(False, h_of(9)), (True, h_of(7)), (True, h_of(9, "phi", "psi")), (True, h_of(6, "phi", "psi", "preview"))],
)
def test_side_information_that_fits_no_h_is_refused(made, h):
    with pytest.raises(BadInput, match="does not fit h"):
        preview.side_of(Old(drawer() if made else None), New(), codes(4), h, device=CPU)
