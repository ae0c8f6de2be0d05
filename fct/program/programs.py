"""Exported programs: one ``.pt2`` that returns (φ, ψ), written by torch.export and loaded by one loader that refuses pickle.

``torch.export.load`` by itself unpickles and can load compiled payloads, so :func:`load` looks at every record of the archive
first. Legend: N images, C channels, S side in pixels, D dimensions of φ, P numbers of ψ.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fct import device as devices
from fct.arrays.files import whole_file
from fct.arrays.vectors import differ
from fct.errors import BadInput
from fct.program import graph
from fct.program.records import checked_records, records_of
from fct.program.sandbox import Sealed

LARGEST_BATCH = 4096

Embed = Callable[[Tensor], tuple[Tensor, Tensor]]


def export(program: nn.Module, channels: int, size: int, path: str | Path) -> None:
    """Export ``program`` ((N, C, S, S) uint8 → φ (N, D) float, ψ (N, P) int8) with a dynamic N of 1 … 4096.

    Raises:
        BadInput: the program does not return that, torch cannot export it, or it calls an operator that programs may not call.
    """
    example = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    program = program.eval()
    with torch.inference_mode():
        out = program(example)
    if not (isinstance(out, tuple) and len(out) == 2):
        raise BadInput("the program does not return (φ, ψ)", wanted="a tuple of two tensors", got=type(out).__name__)
    phi, psi = out
    if phi.ndim != 2 or not phi.is_floating_point() or psi.ndim != 2 or psi.dtype != torch.int8 or len(psi) != 2 or len(phi) != 2:
        raise BadInput(
            "the program's outputs have the wrong form",
            wanted="φ (N, D) float and ψ (N, P) int8",
            got=f"{tuple(phi.shape)} {phi.dtype} and {tuple(psi.shape)} {psi.dtype}",
        )
    try:
        exported = torch.export.export(program, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=LARGEST_BATCH)},))
    except Exception as error:  # torch.export raises many kinds; the user needs the first line of the reason
        raise BadInput(
            "torch.export cannot export the program",
            got=str(error).strip().splitlines()[0],
            todo="see torch.export's documentation on control flow and dynamic shapes",
        ) from error
    for part in exported.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths and line numbers of this machine; they would make the fingerprint depend on both
    with whole_file(path) as part:
        buffer = io.BytesIO()
        torch.export.save(exported, buffer)
        part.write_bytes(buffer.getvalue())
        load(part)  # who exports it hears of an operator that nobody would load


def load(path: str | Path, device: torch.device | None = None) -> Embed:
    """The program of an archive whose every record is JSON or a raw tensor, and whose graph only computes (:mod:`fct.program.graph`).

    Returns:
        a function (N, C, S, S) uint8 → φ (N, D) float32, ψ (N, P) int8; N at most 4096.

    Raises:
        BadInput: missing or damaged archive, records outside of its one folder or twice; a pickle, a compiled payload, an unknown
            record, or an operator or argument that no program may have, by name.
    """
    try:
        return graph.read(checked_records(Path(path)), device)
    except graph.Refused as error:
        raise BadInput(f"the program holds {error.what}", got=error.got, where=path, todo=error.todo or "export it anew") from error


def fingerprint(path: str | Path, preprocessing: dict[str, object]) -> str:
    """SHA-256 over the program's records (not the zip around them) and the preprocessing: who made a vector."""
    digest = hashlib.sha256(json.dumps(preprocessing, sort_keys=True).encode())
    for name, data in sorted(records_of(Path(path)).items()):
        if name != ".data/serialization_id":
            digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def unsteady(program: Embed, images: np.ndarray) -> str | None:
    """On what the vectors depend besides their image, one clause; None where on nothing.

    K images together, the same again, in the other order, and each alone must give the same φ within :data:`fct.arrays.vectors.NOISE`, and the
    same ψ but for a code that was between two numbers: else an item's vector is another one at a search than at its ingest.

    Args:
        images: (K, C, S, S) uint8, all different, K ≥ 2.

    Raises:
        BadInput: the program cannot be run on one of these batches.
    """
    cpu = torch.device("cpu")

    def run(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        made = [embed(program, batch, device=cpu) for batch in batches]
        return np.concatenate([phi for phi, _ in made]), np.concatenate([psi for _, psi in made])

    phi, psi = run([images])
    others = {
        "how often the program ran": lambda: run([images]),
        "the place of the image in its batch": lambda: tuple(block[::-1] for block in run([images[::-1]])),
        "the other images of the batch": lambda: run([image[None] for image in images]),
    }
    for what, again in others.items():
        other, code = again()
        if not np.isfinite(other).all() or differ(phi, other).any() or (np.abs(psi.astype(np.int64) - code) > 1).any():
            return what
    return None


class _Module(nn.Module):
    """A program for what wants a module."""

    def __init__(self, program: Embed):
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.program(images)


def traced(program: Embed, images: np.ndarray) -> Embed:
    """The same function without Python between its operators: some three times quicker for one image, and other threads go on meanwhile.

    TorchScript records it on the first image, where it runs in this process (a :class:`fct.program.sandbox.Sealed` one does not). Sizes are
    constants of a recording, and sizes of a graph come from the shape of its images alone: so the recording runs where the shape is the
    recorded one, (1, C, S, S), and the program itself for all others. Where it cannot be recorded, or does not give the same bits for
    each of the (N, C, S, S) uint8 images, the program comes back as it is.
    """
    if isinstance(program, Sealed):
        return program
    some = torch.from_numpy(np.ascontiguousarray(images)).split(1)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its age, and of sizes that are checked in Python
            found = torch.jit.trace(_Module(program), some[0], check_trace=False)
            for part in some:
                if not all(torch.equal(one, other) for one, other in zip(program(part), found(part), strict=True)):
                    return program
    except Exception:  # torch raises many kinds, and the program itself is as good
        return program

    def quick(given: Tensor) -> tuple[Tensor, Tensor]:
        recorded = given.shape == some[0].shape and given.dtype == torch.uint8
        return found(given) if recorded else program(given)  # type: ignore[no-any-return]

    return quick


def embed(
    program: Embed, images: np.ndarray, *, device: torch.device, batch: int = 512, title: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a program over (N, C, S, S) uint8 images.

    Returns:
        φ (N, D) float32 and ψ (N, P) int8.

    Raises:
        BadInput: no images.
    """
    if len(images) == 0:
        raise BadInput("there are no images to embed", got=0, where=title)

    def one(start: int) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            first, second = program(torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(device))
            return first.float().cpu().numpy(), second.cpu().numpy()

    phi, psi = [], []
    with tqdm(total=len(images), desc=title, unit="image", disable=title is None, mininterval=1) as bar:
        for first, second in devices.spread(one, range(0, len(images), batch), device):
            phi.append(first)
            psi.append(second)
            bar.update(len(first))
    return np.concatenate(phi), np.concatenate(psi)
