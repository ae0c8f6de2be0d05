"""Modules in the common ways of writing an embedder: what they call, a release's program may call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fct import embedder, side
from fct.side.settings import SideSettings


class Attention(nn.Module):
    """Multi-head attention with scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width))


class Written(nn.Module):
    """Attention written out, as CLIP's first release has it, with QuickGELU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.q, self.k, self.v = heads, nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = (one(x).view(n, tokens, self.heads, -1).transpose(1, 2) for one in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5, dim=-1)
        return torch.einsum("nhqk,nhkd->nqhd", weights, v).contiguous().flatten(2)


class Block(nn.Module):
    def __init__(self, width: int, attention: nn.Module, activation: Callable[[Tensor], Tensor], scaled: bool):
        super().__init__()
        self.first, self.attention, self.second = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.grow, self.shrink, self.activation = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), activation
        self.scale = nn.Parameter(torch.full((width,), 1e-5)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        seen = self.attention(self.first(x))
        x = x + (seen if self.scale is None else seen * self.scale)
        return x + self.shrink(self.activation(self.grow(self.second(x))))


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Tower(nn.Module):
    """An image tower: DINOv2 (class and register tokens, positions interpolated, layer scale), CLIP (class token, norm before) or SigLIP (attention pooling)."""

    def __init__(self, kind: str, side: int = 56, width: int = 64):
        super().__init__()
        self.kind, self.patches = kind, nn.Conv2d(3, width, 14, 14)
        self.token, self.registers = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 4, width))
        self.positions = nn.Parameter(torch.randn(1, 36 if kind == "dinov2" else (side // 14) ** 2, width) * 0.02)
        tanh = nn.GELU(approximate="tanh")
        made = {
            "dinov2": lambda: Block(width, Attention(width, 4), nn.GELU(), True),
            "clip": lambda: Block(width, Written(width, 4), quick_gelu, False),
            "siglip": lambda: Block(width, Attention(width, 4), tanh, False),
        }
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(made[kind]() for _ in range(2))
        self.pool, self.probe = nn.MultiheadAttention(width, 4, batch_first=True), nn.Parameter(torch.randn(1, 1, width))
        self.project = nn.Parameter(torch.randn(width, 48) * 0.1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patches(images)
        x = maps.flatten(2).transpose(1, 2)
        if self.kind == "dinov2":
            grid = self.positions.reshape(1, 6, 6, -1).permute(0, 3, 1, 2)
            places = functional.interpolate(grid, size=maps.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
            x = x + places.permute(0, 2, 3, 1).view(1, -1, x.shape[-1])
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.registers.expand(x.shape[0], -1, -1), x], dim=1)
        else:
            x = x + self.positions
        if self.kind == "clip":
            x = self.before(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1))
        for block in self.blocks:
            x = block(x)
        x = self.after(x)
        found = self.pool(self.probe.repeat(x.shape[0], 1, 1), x, x)[0][:, 0] if self.kind == "siglip" else x[:, 0]
        return functional.normalize(found @ self.project, dim=-1)


class Idioms(nn.Module):
    """What preprocessing and side-information are written with."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False, antialias=True)
        grey = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).clamp(0, 1)
        nearest = functional.interpolate(grey, size=(16, 16), mode="nearest")
        low, high = nearest.amin(dim=(2, 3)), nearest.amax(dim=(2, 3))
        parts = torch.stack([low, high, nearest.sum(dim=(2, 3)), nearest.std(dim=(2, 3)), nearest.var(dim=(2, 3))], dim=2).flatten(1)
        padded = functional.pad(functional.pad(x, (1, 1, 1, 1)), (1, 1, 1, 1), mode="reflect")
        pooled = functional.max_pool2d(padded, 2) - functional.avg_pool2d(padded, 2)
        several = torch.where(pooled > 0, pooled.abs().sqrt(), pooled.square() / 2).flip(3).roll(1, 2)
        waves = torch.sin(several) + torch.cos(several) + torch.tanh(several).exp().log1p() + torch.log(several.abs() + 1)
        cut = waves[:, :, 2:10, 2:10].reshape(x.shape[0], -1)
        order = cut.argmax(dim=1, keepdim=True).float() + cut.argmin(dim=1, keepdim=True).to(torch.float32)
        top = cut.sort(dim=1).values[:, -8:] + cut.topk(8, dim=1).values + cut.cumsum(dim=1)[:, :8]
        found = torch.cat(
            [parts, cut, order, top, cut.norm(dim=1, keepdim=True), torch.rsqrt(cut.square().mean(dim=1, keepdim=True) + 1)], dim=1
        )
        found = torch.maximum(found, torch.full_like(found, -5.0)).minimum(torch.ones_like(found) * 5) + torch.zeros_like(found)
        return functional.leaky_relu(functional.elu(found.floor() + found.ceil() - found.round() + found.neg() + found.pow(2) / 3))


class Further(nn.Module):
    """More of them: whole numbers and bits, comparisons, choosing, reshaping, further layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.GroupNorm(2, 6), nn.InstanceNorm2d(6), nn.PReLU(), nn.SELU(), nn.CELU(), nn.Softplus(), nn.Mish()])
        self.layers.extend(
            [nn.Softsign(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Hardshrink(), nn.Softshrink(), nn.Threshold(0.1, 0.0), nn.GLU(1)]
        )
        self.grow, self.line, self.back = nn.Conv2d(3, 6, 3), nn.Conv1d(3, 3, 3), nn.ConvTranspose2d(3, 3, 2, 2)
        self.norm, self.kernel, self.bias = nn.RMSNorm(8), nn.Bilinear(8, 8, 4), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        whole = (x * 255).to(torch.int32)
        bits = ((whole & 15) | (whole >> 4)) ^ (whole << 1) & ~whole % 7
        halves = torch.div(whole, 2, rounding_mode="floor") + torch.div(whole.float(), 3, rounding_mode="trunc") + whole // 5
        marks = ((whole > 3) & (whole < 90)) | (whole >= 200) | (whole <= 1) | (whole == 7) | ~(whole != 9)
        either = torch.logical_or(marks, torch.logical_not(torch.logical_and(marks, whole.bool())))
        mixed = bits.float() + halves.double().float() + either.float() + marks.int() + x.half().float() + x.bfloat16().float()
        mixed = (
            mixed.masked_fill(marks, 0.5)
            + (1 - x)
            + 2 / (x + 1)
            + x.sign()
            + torch.erf(x)
            + torch.expm1(-x)
            + x.trunc()
            + x.reciprocal().clamp(max=3)
        )
        maps = self.grow(mixed / 300)
        for layer in self.layers:
            maps = layer(maps)
        small = functional.max_pool2d(functional.pixel_unshuffle(mixed[:, :, :16, :16], 4), 2)
        large = functional.pixel_shuffle(small.repeat(1, 2, 1, 1)[:, :48], 4)
        theta = torch.eye(2, 3).repeat(n, 1, 1)
        turned = functional.grid_sample(large, functional.affine_grid(theta, [n, 3, 8, 8], align_corners=False), align_corners=False)
        pieces = functional.unfold(turned, 3, stride=2).transpose(1, 2).contiguous()
        line = self.line(turned.flatten(2)[:, :, :16]).log_softmax(dim=-1)
        first, second = turned.mean(dim=1).chunk(2, dim=1)
        left, right = turned.split([4, 4], dim=3)
        rows = self.norm(torch.cat([first, second], dim=1))
        joined = self.kernel(rows[:, 0], rows[:, 1]) + self.bias + torch.baddbmm(rows[:, :4, :4], rows[:, :4], rows[:, :4].mT)[:, 0]
        order = rows[:, 0].argsort(dim=1)
        picked = rows[:, 0].gather(1, order) + rows[:, 0].index_select(1, torch.arange(8)) + rows[:, 0][:, [0, 2, 1, 3, 4, 5, 6, 7]]
        steps = torch.linspace(0, 1, 8) * torch.arange(8, dtype=torch.float32) + torch.tril(torch.ones(8, 8)).triu(-2).sum(0).cumprod(0)
        near = functional.cosine_similarity(left.flatten(1), right.flatten(1), dim=1).unsqueeze(1) + torch.cdist(first, second).flatten(1)
        found = [maps.amax(dim=(2, 3)), pieces.flatten(1)[:, :8], line.flatten(1)[:, :8], joined, picked, steps.expand(n, -1), near]
        found += [
            self.back(turned).movedim(1, 3).flatten(1)[:, :8],
            rows.prod(dim=1),
            rows.logsumexp(dim=1),
            rows.max(dim=1).values,
            rows.min(dim=1).values,
        ]
        found += [
            either.any(dim=1).float().flatten(1)[:, :4],
            either.all(dim=1).float().flatten(1)[:, :4],
            rows.squeeze(0).unsqueeze(1).flatten(1)[:, :4],
        ]
        found += [
            rows.median(dim=1).values,
            functional.relu6(functional.hardtanh(rows)).flatten(1)[:, :4],
            functional.one_hot(order, 8).float().flatten(1)[:, :4],
        ]
        return torch.cat(found, dim=1).nan_to_num(0.0)


class Common(nn.Module):
    """What people's own modules often call, besides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.volume, self.places = nn.Conv2d(3, 8, 3, padding=1), nn.Conv3d(1, 2, 1), nn.Embedding(9, 8)
        self.register_buffer("ids", torch.arange(9).expand(1, -1))

    def forward(self, x: Tensor) -> Tensor:
        n, maps = x.shape[0], self.conv(x)
        maps = functional.silu(maps) + functional.hardswish(maps) + functional.silu(maps + 1, inplace=True) + (maps + 2).sigmoid_()
        maps = (
            (maps + 1).mul_(maps).div_(torch.ones_like(maps) * 3).sub_(maps).clamp_(-5, 5) - maps.mean() + torch.tensor([0.5]).to(x.device)
        )
        size = functional.interpolate(maps, size=(12, 12), mode="bicubic", align_corners=False)
        largest, places = functional.adaptive_max_pool2d(size, 4, return_indices=True)
        first, second = largest.split([4, 4], dim=1)
        rows = largest.flatten(2).mT.narrow(1, 0, 9).clone() + self.places(self.ids)
        rows = (
            rows
            + torch.outer(torch.arange(1, 10).type_as(rows), torch.linspace(0, 1, 8))
            + rows.new_ones(9, 8)
            + torch.zeros(9, 8)
            + torch.full((9, 8), 2.0)
        )
        rows = (
            rows.addcmul(rows, rows, value=0.1).lerp(rows * 2, 0.25)
            + torch.atan2(rows, rows.abs() + 1)
            + (rows.abs() + 1).log2()
            + 2.0 ** rows.tanh()
        )
        var, mean = torch.var_mean(rows, dim=2, keepdim=True)
        rows = (
            (rows - mean) / (var + 1).sqrt()
            + rows.abs().pow(rows.sigmoid())
            + torch.where(rows > mean, rows, 0.0)
            + torch.where(rows.isnan(), 0.0, rows)
        )
        marks = (rows >= mean) & (rows < mean + 1) & (rows <= mean + 2) & (rows == rows)
        flat = rows[:, 0] @ rows[0, :8].t() + torch.mm(rows[:, 1], rows[0, :8].T) + torch.addmm(rows[:, 2], rows[:, 3], rows[0, :8])
        grid = torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")).flatten().repeat_interleave(2)
        line = (
            functional.max_pool1d(rows, 2).flatten(1)[:, :8]
            + torch.linalg.vector_norm(rows, dim=2)[:, :8]
            + rows.amax(dim=1).squeeze(-1).squeeze(-1)
        )
        cube = (
            self.volume(maps[:, None, :2, :4, :4]).flatten(1)[:, :8]
            + maps.max()
            - maps.min()
            + torch.cat([first, second], 1).flatten(1)[:, :8]
        )
        return torch.cat(
            [
                flat,
                line,
                cube,
                grid.expand(n, -1),
                marks.float().flatten(1)[:, :8],
                places.float().flatten(1)[:, :4],
                size.swapaxes(2, 3).flatten(1)[:, :6],
            ],
            dim=1,
        )


class Program(nn.Module):
    """Images → (φ, ψ), around any embedder; ψ is in 8, 4 and 1 bits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = (images.float() / 255 - self.mean) / 0.225
        phi = self.net(x)
        phi = phi[0] if isinstance(phi, tuple) else phi
        wide = functional.adaptive_avg_pool2d(x, 4).flatten(1)
        bits = (wide > wide.median(dim=1, keepdim=True).values).to(torch.int8)
        return phi, torch.cat(
            [(wide * 127).round().clamp(-128, 127).to(torch.int8), (wide * 7).floor().clamp(-8, 7).to(torch.int8), bits], dim=1
        )


def models() -> Iterator[tuple[str, nn.Module, int]]:
    """Name, embedder and side of its images."""
    from torchvision import models as vision

    for name in ("small-cnn", "small-cnn-pooled", "small-resnet", "small-vit"):
        yield name, embedder.build(name, 48, 3, 32, 0), 32
    for name in ("resnet18", "mobilenet-v3", "vit-b-16"):
        yield f"fct {name}", embedder.build(name, 48, 3, 64, 0), 64
    for name in (
        "resnet18",
        "resnet50",
        "efficientnet_b0",
        "mobilenet_v3_large",
        "convnext_tiny",
        "regnet_y_400mf",
        "densenet121",
        "swin_t",
    ):
        yield name, getattr(vision, name)(weights=None), 64
    yield "vit_b_16", vision.vit_b_16(weights=None, image_size=64), 64
    for name in ("dinov2", "clip", "siglip"):
        yield name, Tower(name), 56
    yield "idioms", Idioms(), 40
    yield "further idioms", Further(), 40
    yield "common calls", Common(), 40
    settings = SideSettings(
        ("picture", "pca", "thumbnail", "simclr", "vicreg"),
        dims=16,
        simclr_width=4,
        simclr_epochs=1,
        simclr_batch=8,
        simclr_temperature=0.2,
        simclr_learning_rate=0.002,
    )
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    choices: tuple[dict[str, Any], ...] = ({"bits": 8}, {"bits": 4}, {"bytes": 8, "kinds": ("picture", "pca", "simclr")})
    for more in choices:
        net = embedder.build("small-cnn", 8, 3, 32, 0).eval()
        yield f"side-information, {more}", side.prepare(net, images, replace(settings, **more), seed=0, device=torch.device("cpu")), 32
