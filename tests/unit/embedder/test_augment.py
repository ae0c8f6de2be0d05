import numpy as np
import torch

from fct.embedder import augment


def images(n=6, channels=1, size=16, seed=0):
    return torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_views_have_the_shape_and_dtype_of_their_images():
    for channels in (1, 3):
        x = images(channels=channels)
        found = augment.views(x, generator(), augment.STRONG)
        assert found.shape == x.shape and found.dtype == torch.uint8


def test_the_same_seed_gives_the_same_views_and_another_seed_others():
    x = images()
    assert torch.equal(augment.views(x, generator(3)), augment.views(x, generator(3)))
    assert not torch.equal(augment.views(x, generator(3)), augment.views(x, generator(4)))


def test_views_take_nothing_from_global_randomness():
    x = images()
    torch.manual_seed(1)
    first = augment.views(x, generator())
    torch.manual_seed(2)
    assert torch.equal(first, augment.views(x, generator()))
    assert torch.initial_seed() == 2


def test_no_strength_at_all_gives_the_images_back():
    x = images()
    assert torch.equal(augment.views(x, generator(), augment.Strength(0, 0, 0, 0)), x)


def test_the_images_themselves_are_not_changed():
    x = images()
    before = x.clone()
    augment.views(x, generator(), augment.STRONG)
    assert torch.equal(x, before)


def test_an_image_of_one_colour_stays_as_it_is_because_the_background_fills():
    x = torch.full((4, 3, 16, 16), 200, dtype=torch.uint8)
    assert torch.equal(augment.views(x, generator(), augment.STRONG), x)


def test_no_view_is_a_mirror_image():
    size = 33
    arrow = torch.full((1, 1, size, size), 255, dtype=torch.uint8)
    arrow[:, :, :, : size // 2] = 0  # dark on the left
    found = augment.views(arrow.expand(200, -1, -1, -1), generator(), augment.MILD).float()
    assert (found[:, :, :, : size // 2].mean(dim=(1, 2, 3)) < found[:, :, :, size // 2 :].mean(dim=(1, 2, 3))).all()


def test_the_erased_square_takes_the_background_and_has_its_size():
    x = torch.zeros(50, 1, 16, 16, dtype=torch.uint8)
    x[:, :, 1:, 1:] = 100
    found = augment.views(x, generator(), augment.Strength(0, 0, 0, erase=0.25))
    gone = ((found == 0) & (x == 100)).sum(dim=(1, 2, 3))
    assert gone.max() == 16 and (gone > 0).all()


def test_a_shift_stays_within_its_share_of_the_size():
    x = torch.zeros(300, 1, 65, 65, dtype=torch.uint8)
    x[:, :, 31:34, 31:34] = 255
    found = augment.views(x, generator(), augment.Strength(degrees=0, shift=0.08, scale=0)).float()
    weight = found.sum(dim=(1, 2, 3))
    for dim in (2, 3):
        place = (found.sum(dim=5 - dim).squeeze(1) * torch.arange(65)).sum(dim=1) / weight
        assert 0.9 * 0.08 * 65 < (place - 32).abs().max() <= 0.08 * 65 + 0.01


def naive_recombined(images, turn, partner, way):
    """Image by image: turn, mirror, join."""
    half = images.shape[-1] // 2
    turned = []
    for image, number in zip(images, turn, strict=True):
        one = np.rot90(image, number % 4, (1, 2))
        turned.append(one[:, :, ::-1] if number >= 4 else one)
    out = []
    for row, (one, kind) in enumerate(zip(turned, way, strict=True)):
        one, other = one.copy(), turned[partner[row]]
        if kind == 0:
            one[:, :, half:] = other[:, :, half:]
        elif kind == 1:
            one[:, half:] = other[:, half:]
        elif kind == 2:
            one = np.minimum(one, other)
        out.append(one)
    return np.stack(out)


def test_recombined_pictures_are_those_of_a_loop_over_images():
    images = torch.randint(0, 256, (200, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(5)
    turn = torch.randint(8, (200,), generator=generator)
    partner, way = torch.randperm(200, generator=generator), torch.randint(5, (200,), generator=generator)
    found = augment.recombined(images, torch.Generator().manual_seed(5))
    assert np.array_equal(found.numpy(), naive_recombined(images.numpy(), turn.tolist(), partner.tolist(), way.tolist()))
    assert len(set(way.tolist())) == 5 and len(set(turn.tolist())) == 8


def test_two_sizes_of_the_same_images_are_recombined_alike():
    small = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    first, second = (augment.recombined(x, torch.Generator().manual_seed(9)) for x in (small, large))
    assert torch.equal(first.repeat_interleave(2, 2).repeat_interleave(2, 3), second)
