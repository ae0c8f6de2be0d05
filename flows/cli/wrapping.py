"""A pretrained model becomes a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import Json, Out, Root, give, say
from flows.cli.development import DEV
from flows.cli.inputs import listing

CANARIES, MOST = 64, 1000  # images; of more, some are drawn


def wrap(
    model: Annotated[
        str, typer.Argument(help="torchvision:NAME, timm:NAME, or FILE.py:FUNCTION, a function of yours that returns a torch module.")
    ],
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of images, any depth: the side-information is fitted on them, and some become canaries. They must be neither items of the "
            "gallery nor pictures of users."
        ),
    ],
    out: Out,
    weights: Annotated[
        Path | None, typer.Option(help="File of the model's weights: .safetensors, or a state_dict saved by torch. Nothing is downloaded.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Name of the layer whose output is the vector. The default is the model's output.")
    ] = None,
    pooling: Annotated[str, typer.Option(help="How a map or tokens become a vector: mean, or first (the first token).")] = "mean",
    size: Annotated[int, typer.Option(help="Pixels: the centre square of an image is brought to this size.")] = 256,
    crop: Annotated[int, typer.Option(help="Pixels: the middle that the model sees. It may equal --size.")] = 224,
    mean: Annotated[str, typer.Option(help="Mean of red, green and blue in 0–1, which the model wants subtracted.")] = "0.485,0.456,0.406",
    std: Annotated[
        str, typer.Option(help="Standard deviation of red, green and blue in 0–1, by which the model wants them divided.")
    ] = "0.229,0.224,0.225",
    side_network: Annotated[
        str | None,
        typer.Option(help="Another model, written as MODEL, which makes the side-information. Keep the same one in all versions."),
    ] = None,
    side_weights: Annotated[Path | None, typer.Option(help="File of the side network's weights.")] = None,
    side_layer: Annotated[
        str | None,
        typer.Option(
            help="Layer whose output makes the side-information. The default is the side network's output, or the model's last map."
        ),
    ] = None,
    side_crop: Annotated[int | None, typer.Option(help="Pixels that the side network sees. The default is --crop.")] = None,
    side_bytes: Annotated[int, typer.Option(help="Bytes of side-information for each item.")] = 128,
    metric: Annotated[str, typer.Option(help="Metric of the search: cosine or l2.")] = "cosine",
    root: Root = None,
    json: Json = False,
) -> None:
    """Make a release of a pretrained model. Nothing is trained: the side-information is a compression of what a network sees.

    Example: fct wrap torchvision:resnet50 --weights resnet50.pth --layer avgpool --images photos/ --out build/releases/v1
    """
    from fct import release
    from fct.arrays import given as places
    from fct.datasets.sampling import some_images
    from fct.release import models, wrapping
    from fct.release.folder import FILES

    places.place(out, holds=FILES)
    how = release.Preprocess(size, crop, _three("--mean", mean), _three("--std", std))
    pixels, left, passed = some_images(images, Path.cwd(), root or (), size=size, least=CANARIES + 2 * side_bytes, most=CANARIES + MOST)
    listing("images are left out", left)
    say(*passed)
    network = models.model(model, weights)
    second = models.model(side_network, side_weights) if side_network is not None else None
    wrapped = release.wrap(
        network,
        pixels[CANARIES:],
        preprocess=how,
        layer=layer,
        pooling=pooling,
        side_network=second,
        side_preprocess=None if second is None else release.Preprocess(size, side_crop or crop, how.mean, how.std),
        side_layer=side_layer,
        side_bytes=side_bytes,
    )
    made_of = {"kind": "own map" if second is None else "side network", "model": model, "network": side_network or model}
    made = wrapping.write_wrapped(out, wrapped, pixels[:CANARIES], size=size, metric=metric, made_of=made_of)
    result = {"out": str(out), "fingerprint": made.fingerprint, "dim": made.dim, "side_bytes": made.side_bytes}
    say(f"Next: fct register {out}")
    give(result, json, f"{out}: vectors of {made.dim} dimensions, {made.side_bytes} bytes of side-information for each item")


def _three(option: str, text: str) -> tuple[float, ...]:
    from fct.errors import BadInput

    try:
        found = tuple(float(value) for value in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 3:
        raise BadInput(f"{option} cannot be read", wanted="three numbers, such as 0.485,0.456,0.406", got=text)
    return found


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=DEV)(wrap)
