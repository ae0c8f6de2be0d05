"""Pretrained models as releases: what is seen of an image, φ of a layer, ψ of a side network, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fct import release
from fct.errors import BadInput
from fct.release import models
from fct.release.wrapped import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from fct.release.wrapping import wrap

SIZE, CROP = 20, 16
HOW = Preprocess(SIZE, CROP)


class Backbone(nn.Module):
    """(N, 3, 16, 16) → logits (N, 5); a map (N, 6, 4, 4) and features (N, 6) inside."""

    def __init__(self, seed=0, channels=6):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 4, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.pool(self.stem(x)).flatten(1))


class Tokens(nn.Module):
    """(N, 3, 16, 16) → tokens (N, 16, 7)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.cut = nn.Conv2d(3, 7, 4, 4)

    def forward(self, x):
        return self.cut(x).flatten(2).transpose(1, 2)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (60, 3, SIZE, SIZE)).astype(np.uint8)


def looked(images):
    """What the model is shown, by hand."""
    middle = torch.from_numpy(images[:, :, 2:18, 2:18]).double() / 255
    mean, std = (torch.tensor(values, dtype=torch.double).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((middle - mean) / std).float()


def test_the_model_sees_the_middle_of_the_image_normalised(images):
    model = Backbone().eval()
    phi, psi = wrap(model, images, preprocess=HOW, side_bytes=4)(torch.from_numpy(images[:9]))
    with torch.no_grad():
        torch.testing.assert_close(phi, model(looked(images[:9])), rtol=1e-4, atol=1e-5)
    assert psi.shape == (9, 8) and psi.dtype == torch.int8 and psi.min() >= -8 and psi.max() <= 7


def test_a_layer_by_its_name_gives_the_vector(images):
    model = Backbone().eval()
    wrapped = wrap(model, images, preprocess=HOW, layer="pool", side_bytes=4)
    with torch.no_grad():
        wanted = model.stem(looked(images)).mean(dim=(2, 3))
        torch.testing.assert_close(wrapped(torch.from_numpy(images))[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pooling", "wanted"), [("mean", lambda t: t.mean(dim=1)), ("first", lambda t: t[:, 0])])
def test_tokens_are_pooled(images, pooling, wanted):
    model = Tokens().eval()
    phi, _ = wrap(model, images, preprocess=HOW, pooling=pooling, side_bytes=2)(torch.from_numpy(images[:5]))
    torch.testing.assert_close(phi, wanted(model(looked(images[:5]))).detach(), rtol=1e-4, atol=1e-5)


def test_codes_say_what_the_side_network_saw(images):
    """ψ decoded is nearly linear in the side network's features, and it is its own network's, not the model's."""
    other = Backbone(seed=5, channels=12).eval()
    wrapped = wrap(Backbone(), images, preprocess=HOW, side_network=other, side_preprocess=HOW, side_layer="pool", side_bytes=4)
    psi = wrapped(torch.from_numpy(images))[1].numpy().astype(float)
    with torch.no_grad():
        features = other.stem(looked(images)).mean(dim=(2, 3)).numpy()
    centred = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    told = [abs(np.corrcoef(psi[:, k], centred @ axes[k])[0, 1]) for k in range(8)]
    assert min(told) > 0.97


def test_the_side_network_may_want_larger_images_than_the_model(images):
    wrapped = wrap(Backbone(), images, preprocess=HOW, side_network=Tokens(), side_preprocess=Preprocess(32, 24), side_bytes=2)
    assert wrapped(torch.from_numpy(images[:3]))[1].shape == (3, 4)


def test_a_wrapped_model_is_a_release_that_embeds_one_and_many_alike(images, tmp_path):
    wrapped = wrap(Backbone(), images[20:], preprocess=HOW, layer="pool", side_network=Backbone(5), side_preprocess=HOW, side_bytes=2)
    names = [f"canary-{number}" for number in range(20)]
    made = release.write(
        tmp_path / "v1", wrapped, size=SIZE, mode="RGB", canary_ids=names, canary_images=images[:20], side={"bits": wrapped.bits}
    )
    assert release.problems(tmp_path / "v1") == [] and (made.dim, made.side_dim, made.side_bytes) == (6, 4, 2)
    run = made.program(torch.device("cpu"))
    phi, psi = run(torch.from_numpy(images))
    with torch.no_grad():
        wanted = wrapped(torch.from_numpy(images))
    torch.testing.assert_close(phi, wanted[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(psi, wanted[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer": "poole"}, "no layer of this name; wanted such as pool"),
        ({"side_layer": "steam"}, "no side_layer of this name; wanted such as stem"),
        ({"pooling": "max"}, "unknown pooling"),
        ({"preprocess": Preprocess(24, 16)}, "the images have the wrong form"),
        ({"side_bytes": 40}, "ψ cannot have so many bytes"),
        ({"side_bytes": 0}, "ψ cannot have so many bytes"),
        ({"model": nn.Linear(3, 4)}, "cannot take these images"),
        ({"model": nn.Identity(), "layer": None, "pooling": "mean", "side_layer": None, "side_bytes": 9}, "so many bytes"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_in_a_sentence(images, change, sentence):
    given = {"model": Backbone(), "preprocess": HOW, "side_bytes": 2} | change
    with pytest.raises(BadInput, match=sentence):
        wrap(given.pop("model"), images, **given)


@pytest.mark.parametrize("given", [{"crop": 30, "size": 20}, {"crop": 0}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.5,)}])
def test_a_preprocessing_that_is_none_is_refused(given):
    with pytest.raises(BadInput):
        Preprocess(**given)


# addresses


def module(folder, text):
    path = folder / "mine.py"
    path.write_text("import torch\nfrom torch import nn\n" + text)
    return path


def test_a_function_of_a_file_makes_a_model_whose_weights_come_from_a_file(tmp_path):
    path = module(
        tmp_path, "def build():\n    torch.manual_seed(torch.seed() % 1000)\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout())\n"
    )
    saved = {"0.weight": torch.full((2, 3, 3, 3), 0.5), "0.bias": torch.zeros(2)}
    save_file(saved, tmp_path / "w.safetensors")
    torch.save(saved, tmp_path / "w.pth")
    torch.save({"state_dict": saved, "epoch": 3}, tmp_path / "checkpoint.pth")
    for name in ("w.safetensors", "w.pth", "checkpoint.pth"):
        made = models.model(f"{path}:build", tmp_path / name)
        assert torch.equal(made[0].weight, saved["0.weight"]) and not made.training


def test_torchvision_s_models_are_known_by_name():
    assert sum(p.numel() for p in models.model("torchvision:squeezenet1_1").parameters()) > 1e6
    with pytest.raises(BadInput, match="wanted such as resnet50"):
        models.model("torchvision:resnet5O")


class Evil:
    def __reduce__(self):
        return (print, ("code of a pickle ran",))


@pytest.mark.parametrize(
    ("address", "weights", "sentence"),
    [
        ("resnet50", None, "this names no model; wanted torchvision:NAME"),
        ("nowhere.py:build", None, "there is no such file"),
        ("mine.py:other", None, "no such function"),
        ("mine.py:number", None, "makes no torch module"),
        ("mine.py:broken", None, "the function failed; got ZeroDivisionError"),
        ("mine.py:build", "nothing.pth", "no such file of weights"),
        ("mine.py:build", "evil.pth", "not tensors alone"),
        ("mine.py:build", "text.pth", "not tensors alone"),
        ("mine.py:build", "text.safetensors", "not tensors alone"),
        ("mine.py:build", "other.pth", "do not fit the model"),
        ("mine.py:build", "list.pth", "no dictionary of tensors"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys, address, weights, sentence):
    monkeypatch.chdir(tmp_path)
    module(tmp_path, "def build():\n    return nn.Linear(2, 2)\ndef number():\n    return 3\ndef broken():\n    return 1 / 0\n")
    torch.save(Evil(), tmp_path / "evil.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
    with pytest.raises(BadInput, match=sentence):
        models.model(address, weights)
    assert "code of a pickle ran" not in capsys.readouterr().out
