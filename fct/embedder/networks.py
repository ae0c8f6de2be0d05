"""Embedders: networks that turn images into (φ, mid-level map).

The mid-level map keeps the spatial layout; side-information can be a projection of it (:mod:`fct.side.kinds`).

Legend: N images, C channels, S side of the square image in pixels, D dimensions of φ, c h w the map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from fct.errors import BadInput

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer
WRITTEN = "fct.embedder"  # a program names its modules' classes, and its fingerprint must not depend on where this file lies


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class SmallCNN(nn.Module):
    """Three convolutions with pooling, flattened, one linear layer: what one shipped a few years ago.

    Flattening (not pooling) before the last layer keeps where things are; a pooled variant falls below raw pixels on icons.
    """

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int, size: int, width: int = 16):
        super().__init__()
        self.stem = nn.Sequential(_conv(channels, width), nn.MaxPool2d(2), _conv(width, width), nn.MaxPool2d(2))
        self.body = nn.Sequential(_conv(width, width), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4))
        self.out = nn.Linear(width * 16, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) float in 0–1 → φ (N, D), map (N, c, S/4, S/4)."""
        middle = self.stem(images)
        return self.out(self.body(middle).flatten(1)), middle


class SmallPooledCNN(nn.Module):
    """The same stem, pooled over the whole image: a weak model that forgets where things are. For comparisons."""

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int, size: int, width: int = 32):
        super().__init__()
        self.stem = nn.Sequential(_conv(channels, width), nn.MaxPool2d(2), _conv(width, width), nn.MaxPool2d(2))
        self.body = nn.Sequential(_conv(width, 2 * width), nn.AdaptiveAvgPool2d(1))
        self.out = nn.Linear(2 * width, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) float in 0–1 → φ (N, D), map (N, c, S/4, S/4)."""
        middle = self.stem(images)
        return self.out(self.body(middle).flatten(1)), middle


class _Block(nn.Module):
    __module__ = WRITTEN

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = _conv(inputs, outputs, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.skip: nn.Module = nn.Identity() if inputs == outputs and stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.skip(x))


class SmallResNet(nn.Module):
    """Residual blocks at three resolutions, flattened at 4×4."""

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int, size: int, width: int = 24):
        super().__init__()
        self.stem = nn.Sequential(_conv(channels, width, 2), _Block(width, width, 1), _Block(width, 2 * width, 2))
        self.body = nn.Sequential(_Block(2 * width, 2 * width, 1), _Block(2 * width, 3 * width, 2), nn.AdaptiveAvgPool2d(4))
        self.out = nn.Linear(3 * width * 16, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) float in 0–1 → φ (N, D), map (N, c, S/4, S/4)."""
        middle = self.stem(images)
        return self.out(self.body(middle).flatten(1)), middle


class SmallViT(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) for small images: patches of an eighth of the side, 4 layers, mean of the tokens."""

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int, size: int, width: int = 96):
        super().__init__()
        patch = max(2, size // 8)
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True) for _ in range(4)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, S, S) float in 0–1 → φ (N, D), map (N, 96, 8, 8), the tokens after half of the layers."""
        maps = self.patches(images)
        tokens = maps.flatten(2).transpose(1, 2) + self.positions
        middle = tokens
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if number == 1:
                middle = tokens
        return self.out(self.norm(tokens).mean(dim=1)), middle.transpose(1, 2).reshape(maps.shape)


class _TorchvisionBase(nn.Module):
    """Three channels and ImageNet's normalisation for a torchvision backbone."""

    __module__ = WRITTEN

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def prepare(self, images: Tensor) -> Tensor:
        if self.channels == 1:
            images = images.expand(-1, 3, -1, -1)
        return (images - self.mean) / self.std


class TorchvisionResNet(_TorchvisionBase):
    """ResNet-18/50 of torchvision; the map is the output of ``layer3`` (14×14 for a 224-pixel image)."""

    __module__ = WRITTEN

    def __init__(self, name: str, dim: int, channels: int):
        import torchvision

        super().__init__(channels)
        self.net = getattr(torchvision.models, name)(weights=None)
        self.net.fc = nn.Linear(self.net.fc.in_features, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(self.prepare(images)))))
        middle = net.layer3(net.layer2(net.layer1(x)))
        return net.fc(net.avgpool(net.layer4(middle)).flatten(1)), middle


class TorchvisionMobileNet(_TorchvisionBase):
    """MobileNetV3-small of torchvision; the map is the output of its middle feature block."""

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int):
        import torchvision

        super().__init__(channels)
        self.net = torchvision.models.mobilenet_v3_small(weights=None)
        self.net.classifier = nn.Linear(576, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features
        middle = features[:7](self.prepare(images))
        return self.net.classifier(self.net.avgpool(features[7:](middle)).flatten(1)), middle


class TorchvisionViT(_TorchvisionBase):
    """ViT-B/16 of torchvision; images are resized to a multiple of 16; the map is the patch tokens after half of the layers."""

    __module__ = WRITTEN

    def __init__(self, dim: int, channels: int, size: int):
        import torchvision

        super().__init__(channels)
        self.side = max(32, round(size / 16) * 16)
        self.net: VisionTransformer = torchvision.models.vit_b_16(weights=None, image_size=self.side)
        self.net.heads = nn.Sequential(nn.Linear(768, dim))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        net, grid = self.net, self.side // 16
        x = self.prepare(functional.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False))
        x = net.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([net.class_token.expand(x.shape[0], -1, -1), x], dim=1) + net.encoder.pos_embedding
        layers = list(net.encoder.layers)
        for layer in layers[: len(layers) // 2]:
            x = layer(x)
        middle = x[:, 1:].transpose(1, 2).reshape(-1, 768, grid, grid)
        for layer in layers[len(layers) // 2 :]:
            x = layer(x)
        return net.heads(net.encoder.ln(x)[:, 0]), middle


ARCHITECTURES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "small-cnn": SmallCNN,
    "small-cnn-pooled": SmallPooledCNN,
    "small-resnet": SmallResNet,
    "small-vit": SmallViT,
    "resnet18": lambda dim, channels, size: TorchvisionResNet("resnet18", dim, channels),
    "resnet50": lambda dim, channels, size: TorchvisionResNet("resnet50", dim, channels),
    "mobilenet-v3": lambda dim, channels, size: TorchvisionMobileNet(dim, channels),
    "vit-b-16": lambda dim, channels, size: TorchvisionViT(dim, channels, size),
}


def build(architecture: str, dim: int, channels: int, size: int, seed: int) -> nn.Module:
    """An untrained embedder: (N, C, S, S) float in 0–1 → φ (N, D), map (N, c, h, w).

    Args:
        architecture: a key of :data:`ARCHITECTURES`.
        dim: D.
        channels: C, 1 (mode L) or 3 (mode RGB).
        size: S, at least 16.
        seed: of the initial weights.

    Raises:
        BadInput: unknown architecture, or an image too small for it.
    """
    if architecture not in ARCHITECTURES:
        raise BadInput("unknown architecture", wanted=" or ".join(ARCHITECTURES), got=architecture)
    if size < 16 or dim < 1:
        raise BadInput("the embedder's sizes are too small", wanted="image_size ≥ 16 and dim ≥ 1", got=f"{size} and {dim}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](dim, channels, size)
