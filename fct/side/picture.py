"""Side-information that is a picture: drawing the image again from its codes.

Codes of the kind ``picture`` are a PCA of the image in few bits (:mod:`fct.side.kinds`). Turning them back is one matrix product, and what
comes out is blurred and ringing. A small convolutional network, trained when the release is made and on the release's own unlabelled
images alone, takes most of that away: it halves the squared error at 64 and 128 bytes (docs/decisions/0006-picture.md).

Legend: N images, P dimensions of ψ, c h w the picture as it is stored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from fct import device as devices
from fct.arrays.shapes import Num, UInt8
from fct.errors import BadInput

BLOCK = 512
WIDTH = 16
TILE = 4
BATCH = 64


class Drawer(nn.Module):
    """ψ → ink in 0–1: ψ · weight + bias, then a residual correction by three convolutions.

    Args:
        weight: (P, c, h, w); bias: (c, h, w).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, width: int = WIDTH):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        channels = bias.shape[0]
        self.sharpen = nn.Sequential(
            nn.Conv2d(channels, width, 5, 1, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, channels, 5, 1, 2)
        )

    def blurred(self, psi: Tensor) -> Tensor:
        """(N, P) → (N, c, h, w): the linear part."""
        return (psi.float() @ self.weight.flatten(1) + self.bias.flatten()).view(-1, *self.bias.shape)

    def forward(self, psi: Tensor) -> Tensor:
        """(N, P) int8 → (N, c, h, w) float in 0–1."""
        blurred = self.blurred(psi)
        return (blurred + self.correction(blurred)).clamp(0, 1)

    def correction(self, blurred: Tensor) -> Tensor:
        """(N, c, h, w) → (N, c, h, w): the convolutions.

        The last one has so few outputs that most of a processor's lanes stay empty. Where the picture divides into :data:`TILE` × :data:`TILE`
        pixels it is computed a tile at a time, as one convolution with a larger kernel and an output for each pixel of the tile: the same
        sums, in a fifth of the time. (Not its gradient, which is slower this way.)
        """
        last = self.sharpen[-1]
        assert isinstance(last, nn.Conv2d)
        if blurred.shape[2] % TILE or blurred.shape[3] % TILE:
            return self.sharpen(blurred)  # type: ignore[no-any-return]
        shifts = [(row, column) for row in range(TILE) for column in range(TILE)]
        kernel = [functional.pad(last.weight, (column, TILE - 1 - column, row, TILE - 1 - row)) for row, column in shifts]
        weight = torch.stack(kernel, dim=1).flatten(0, 1)  # (c · TILE², width, 4 + TILE, 4 + TILE)
        bias = None if last.bias is None else last.bias.repeat_interleave(TILE * TILE)
        tiles = functional.conv2d(self.sharpen[:-1](blurred), weight, bias, stride=TILE, padding=last.padding)
        return functional.pixel_shuffle(tiles, TILE)


def fit(
    weight: Tensor,
    bias: Tensor,
    psi: np.ndarray,
    ink: np.ndarray,
    *,
    epochs: int,
    seed: int,
    device: torch.device,
    title: str,
    precision: str = devices.AUTO,
) -> Drawer:
    """Train the correction to draw ``ink`` from ``psi``, by squared error.

    Args:
        weight, bias: of the linear part. psi: (N, P) int8. ink: (N, c, h, w) float in 0–1, the pictures the codes were made from.
        precision: see :func:`fct.device.precision`.

    Returns:
        the drawer, on the CPU, in eval mode. Same seed, same machine: same bytes.
    """
    half = devices.precision(precision, device) == devices.BFLOAT16
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Drawer(weight, bias).to(device).to(memory_format=torch.channels_last).train()
    codes, wanted = torch.from_numpy(np.ascontiguousarray(psi)).to(device), torch.from_numpy(np.ascontiguousarray(ink)).to(device)
    steps = max(1, epochs * len(codes) // BATCH)
    optimiser = torch.optim.AdamW(net.sharpen.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + 1)
    with tqdm(total=steps, desc=title, unit="step", mininterval=1) as bar:
        for _ in range(steps):
            rows = torch.randint(len(codes), (min(BATCH, len(codes)),), generator=generator).to(device)
            with torch.no_grad():
                blurred = net.blurred(codes[rows]).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                change = net.sharpen(blurred)
            loss = functional.mse_loss(blurred + change.float(), wanted[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
    return net.cpu().eval()


def draw(
    drawer: Drawer, psi: Num[np.ndarray, "N P"], size: int, mode: str, *, device: torch.device
) -> UInt8[np.ndarray, "N C {size} {size}"]:
    """Draw images from side-information.

    Args:
        psi: (N, P) int8. size, mode: of the images that are wanted (S; ``L`` or ``RGB``).

    Returns:
        (N, C, S, S) uint8. A row comes out the same in any batch.

    Raises:
        BadInput: ψ of another dimension.
    """
    if psi.ndim != 2 or psi.shape[1] != len(drawer.weight):
        raise BadInput("the side-information does not fit the release's drawer", wanted=f"(rows, {len(drawer.weight)})", got=psi.shape)
    channels = 3 if mode == "RGB" else 1
    net = drawer.to(device).to(memory_format=torch.channels_last)

    def one(start: int) -> np.ndarray:
        rows = psi[start : start + BLOCK]
        block = np.zeros((BLOCK, psi.shape[1]), dtype=np.int8)  # always as many rows: the last bits of a product depend on it
        block[: len(rows)] = rows
        with torch.inference_mode():
            ink = net(torch.from_numpy(block).to(device))
            if ink.shape[1] != channels:
                ink = ink.expand(-1, 3, -1, -1) if channels == 3 else ink.mean(dim=1, keepdim=True)
            if ink.shape[2] != size:
                ink = functional.interpolate(ink, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
            return ((1 - ink) * 255).round().to(torch.uint8).cpu().numpy()[: len(rows)]

    blocks = list(devices.spread(one, range(0, len(psi), BLOCK), device))
    return np.concatenate(blocks) if blocks else np.empty((0, channels, size, size), dtype=np.uint8)


def tensors_of(drawer: Drawer) -> dict[str, np.ndarray]:
    """What a release stores of it."""
    return {name: np.ascontiguousarray(value.numpy()) for name, value in drawer.state_dict().items()}


def from_tensors(tensors: dict[str, np.ndarray]) -> Drawer:
    """A drawer from what :func:`tensors_of` gave.

    Raises:
        BadInput: tensors are missing or do not fit each other.
    """
    found = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
    try:
        weight, bias, first = found["weight"], found["bias"], found["sharpen.0.weight"]
        if bias.ndim != 3 or weight.shape[1:] != bias.shape:
            raise RuntimeError(f"weight {tuple(weight.shape)}, bias {tuple(bias.shape)}")
        drawer = Drawer(weight, bias, len(first))
        drawer.load_state_dict(found)
    except (KeyError, RuntimeError) as error:
        raise BadInput(
            "the drawer of a release cannot be read", wanted="weight, bias and sharpen.*", got=" ".join(str(error).split())
        ) from error
    return drawer.eval()
