"""Writing a release folder, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from fct.arrays import digests
from fct.arrays.files import whole_folder, write_json
from fct.errors import BadInput
from fct.release.examining import open_release
from fct.side import codes

if TYPE_CHECKING:  # a release can be opened, and compared with its digests, without torch
    from torch import nn

    from fct.side import picture as pictures
from fct.release.folder import FORMAT, HEAD, METRICS, PICTURE, Release


def write(
    folder: str | Path,
    program: nn.Module,
    *,
    size: int,
    mode: str,
    canary_ids: list[str],
    canary_images: np.ndarray,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    classes: list[str] | None = None,
    metric: str = "cosine",
    picture: pictures.Drawer | None = None,
    side: dict[str, Any] | None = None,
    measurements: dict[str, float] | None = None,
) -> Release:
    """Write a release folder from any torch module that returns (φ, ψ) for (N, C, S, S) uint8 images.

    Args:
        program: on the CPU; φ (N, D) float, ψ (N, P) int8 with P ≥ 1.
        size, mode: what an image is converted to before the program sees it (S; ``L`` or ``RGB``).
        canary_ids, canary_images: K ids and (K, C, S, S) uint8 images of no user.
        head: weight (classes, D) and bias; ``classes`` names its rows.
        picture: what draws an image from ψ, where ψ is a picture.
        side: what is worth knowing about ψ; ``bits`` (one number, or one for each of the P codes) is how a gallery packs it, by
            default 8; the rest is shown to people.
        measurements: metric → fraction 0–1, as measured by whoever trained it.

    Raises:
        BadInput: a piece is missing or has the wrong form, by name.

    Examples:
        The smallest program: φ is a linear map of 8 × 8 pixels, ψ the picture in 2 × 2 cells. Its weights are random here.

        >>> import numpy as np, torch
        >>> from fct import release
        >>> class Tiny(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.out = torch.nn.Linear(64, 4)
        ...     def forward(self, images):
        ...         ink = 1 - images.float() / 255
        ...         cells = torch.nn.functional.adaptive_avg_pool2d(ink, 2).flatten(1)
        ...         return self.out(ink.flatten(1)), (cells * 254 - 127).round().to(torch.int8)
        >>> nobody = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
        >>> ids = [f"noise-{number}" for number in range(8)]
        >>> made = release.write("tiny", Tiny(), size=8, mode="L", canary_ids=ids, canary_images=nobody)
        >>> made.dim, made.side_dim, made.side_bytes, release.problems("tiny")
        (4, 4, 4, [])
    """
    import torch

    from fct.program import programs
    from fct.side import picture as pictures

    channels = _formed(size, mode, canary_ids, canary_images, head, classes, metric)
    with whole_folder(folder) as part:
        programs.export(program, channels, size, part / "program.pt2")
        phi, psi = programs.embed(program.eval(), canary_images[:2], device=torch.device("cpu"))
        if psi.shape[1] == 0:
            raise BadInput(
                "the release has no side-information ψ",
                wanted="at least one byte per item",
                todo="see fct.side.prepare, or docs/bring-your-own.md",
            )
        if head is not None and (head[0].shape[1:] != phi.shape[1:] or head[1].shape != head[0].shape[:1]):
            wanted = f"weight (classes, {phi.shape[1]}) and bias (classes,)"
            raise BadInput("the head does not fit φ", wanted=wanted, got=f"{head[0].shape} and {head[1].shape}")
        save_file({"images": np.ascontiguousarray(canary_images)}, part / "canaries.safetensors")
        if head is not None:
            save_file(
                {"weight": np.ascontiguousarray(head[0], dtype=np.float32), "bias": np.ascontiguousarray(head[1], dtype=np.float32)},
                part / HEAD,
            )
        if picture is not None:
            if len(picture.weight) != psi.shape[1]:
                raise BadInput("the drawer of the picture does not fit ψ", wanted=f"{psi.shape[1]} dimensions", got=len(picture.weight))
            save_file(pictures.tensors_of(picture), part / PICTURE)
        bits = codes.bits_of((side or {}).get("bits", 8), psi.shape[1])
        # "bilinear" is a name in every fingerprint and stays; files are resized bicubically (docs/formats.md)
        preprocessing: dict[str, object] = {"size": size, "mode": mode, "resize": "bilinear", "background": "white"}
        about = {
            "format": FORMAT,
            "fingerprint": programs.fingerprint(part / "program.pt2", preprocessing),
            "preprocessing": preprocessing,
            "dims": {"phi": phi.shape[1], "psi": psi.shape[1]},
            "metric": metric,
            "side": {**(side or {}), "bits": bits.tolist(), "bytes": codes.packed_bytes(psi.shape[1], bits)},
            "classes": list(classes or []),
            "canaries": list(canary_ids),
            "measurements": measurements or {},
            "files": digests.of_folder(part),
        }
        write_json(part / "release.json", about)
    return open_release(folder)


def _formed(
    size: int,
    mode: str,
    canary_ids: list[str],
    canary_images: np.ndarray,
    head: tuple[np.ndarray, np.ndarray] | None,
    classes: list[str] | None,
    metric: str,
) -> int:
    """Channels of an image; BadInput where something that :func:`write` is given has the wrong form."""
    channels = {"L": 1, "RGB": 3}.get(mode)
    if channels is None:
        raise BadInput("unknown image mode", wanted="L or RGB", got=mode)
    if canary_images.dtype != np.uint8 or canary_images.shape[1:] != (channels, size, size) or len(canary_images) != len(canary_ids):
        raise BadInput(
            "the canaries have the wrong form",
            wanted=f"({len(canary_ids)}, {channels}, {size}, {size}) uint8",
            got=f"{canary_images.shape} {canary_images.dtype}",
        )
    if len(set(canary_ids)) != len(canary_ids) or len(canary_ids) < 8:
        raise BadInput(
            "there are too few canaries, or ids repeat",
            wanted="at least 8 different ids",
            got=f"{len(set(canary_ids))} different of {len(canary_ids)}",
        )
    if head is not None and (classes is None or len(classes) != len(head[0])):
        raise BadInput("the head's classes are not named", wanted=f"{len(head[0])} class names", got=0 if classes is None else len(classes))
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
    return channels


def write_adopted(
    folder: str | Path, *, dim: int, side_bits: list[int], metric: str, normalised: bool, content: str, canary_ids: list[str]
) -> Release:
    """Write the release folder of a gallery that was computed elsewhere.

    Args:
        dim: D.
        side_bits: of each of the P codes of ψ, none where there is no side-information.
        normalised: whether every vector was delivered with norm 1.
        content: digest of the rows that the gallery began with; it stands in the place of the embedder in the fingerprint.

    Raises:
        BadInput: an unknown metric.

    Examples:
        >>> from fct import release
        >>> made = release.write_adopted("v1", dim=64, side_bits=[4] * 16, metric="cosine", normalised=True, content="0" * 64, canary_ids=[])
        >>> made.adopted, made.dim, made.side_bytes  # 16 codes of 4 bits each
        (True, 64, 8)
    """
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
    with whole_folder(folder) as part:
        about = {
            "format": FORMAT,
            "fingerprint": digests.of_json({"adopted": content, "dim": dim, "metric": metric}),
            "preprocessing": {"size": 1, "mode": "L"},
            "dims": {"phi": dim, "psi": len(side_bits)},
            "metric": metric,
            "side": {
                "bits": side_bits,
                "bytes": codes.packed_bytes(len(side_bits), np.array(side_bits, dtype=np.int64)),
                "kinds": ["given"] * bool(side_bits),
            },
            "classes": [],
            "canaries": canary_ids,
            "measurements": {},
            "files": {},
            "adopted": {"normalised": normalised, "content": content},
        }
        write_json(part / "release.json", about)
    return open_release(folder)
