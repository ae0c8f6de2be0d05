"""A release folder: everything version n is released with.

``program.pt2`` (φ, ψ) in one exported program · ``head.safetensors`` the classification head, where there is one ·
``picture.safetensors`` how ψ is drawn, where ψ is a picture · ``canaries.safetensors`` images of no user · ``release.json`` preprocessing, dimensions, measurements, digest of every file.

An *adopted* release is release.json alone: its vectors were computed elsewhere, and its embedder is not at hand (:func:`write_adopted`).

Legend: N images, C channels, S side in pixels, D dimensions of φ, P numbers of ψ, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fct.arrays import digests
from fct.errors import Altered, BadInput
from fct.side import codes

if TYPE_CHECKING:  # a release can be opened, and compared with its digests, without torch
    import torch

    from fct.program import programs
    from fct.side import picture as pictures

FORMAT = 1
METRICS = ("cosine", "l2")
PIECES = ("program.pt2", "canaries.safetensors", "release.json")
HEAD = "head.safetensors"
PICTURE = "picture.safetensors"
FILES = (*PIECES, HEAD, PICTURE)  # of a release, all there are


@dataclass(frozen=True)
class Release:
    """A release folder that was opened and found complete.

    Attributes:
        about: release.json.
        approved: says of a release's digest whether it has served; nobody's has, where nothing is given.

    Examples:
        >>> from fct import release
        >>> made = release.write_adopted("v1", dim=64, side_bits=[], metric="l2", normalised=False, content="0" * 64, canary_ids=[])
        >>> isinstance(made, release.Release), made.metric, made.about["dims"]
        (True, 'l2', {'phi': 64, 'psi': 0})
        >>> made.head() is None, len(made.digest())
        (True, 64)
    """

    folder: Path
    about: dict[str, Any]
    approved: Callable[[str], bool] = field(default=lambda _: False, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        return str(self.about["fingerprint"])

    @property
    def dim(self) -> int:
        return int(self.about["dims"]["phi"])

    @property
    def side_dim(self) -> int:
        """P, the numbers of ψ."""
        return int(self.about["dims"]["psi"])

    @property
    def side_bytes(self) -> int:
        """Bytes of ψ an item in the gallery, its codes packed."""
        return codes.packed_bytes(self.side_dim, self.side_bits)

    @property
    def metric(self) -> str:
        return str(self.about["metric"])

    @property
    def size(self) -> int:
        return int(self.about["preprocessing"]["size"])

    @property
    def mode(self) -> str:
        return str(self.about["preprocessing"]["mode"])

    @property
    def classes(self) -> list[str]:
        return list(self.about["classes"])

    @property
    def adopted(self) -> bool:
        """Whether the vectors of this release were computed elsewhere, by an embedder that is not at hand."""
        return "adopted" in self.about

    def program(self, device: torch.device | None = None) -> programs.Embed:
        """The exported program (φ, ψ): in this process where the release has served, else in a sealed one (:mod:`fct.program.sandbox`).

        Raises:
            BadInput: the release was adopted without one, or its program holds what no program may.
            Altered: it is another one.
        """
        if self.adopted:
            raise BadInput(
                "this release was adopted without its embedder, so it cannot embed an image",
                todo="search with vectors of that embedder, add more of them with `fct adopt`, or promote a version that has an embedder",
            )
        path = self.folder / "program.pt2"
        if not self.approved(self.digest()):
            from fct.program import sandbox

            return sandbox.load(path, device)
        from fct.program import programs

        if digests.of_file(path) != self.about["files"]["program.pt2"]:  # the approval was for those bytes
            raise Altered("the program of a release that was approved was altered", where=path, todo="restore it")
        return programs.load(path, device)

    def canaries(self) -> tuple[np.ndarray, np.ndarray]:
        """ids (K,) strings as they stand in a gallery (``canary:…``), and images (K, C, S, S) uint8."""
        images = load_file(self.folder / "canaries.safetensors")["images"]
        return np.array([f"canary:{one}" for one in self.about["canaries"]], dtype=str), images

    def head(self) -> tuple[np.ndarray, np.ndarray] | None:
        """weight (K, D) and bias (K,), or None for a release without a head."""
        path = self.folder / HEAD
        return read_head(path) if path.exists() else None

    def picture(self) -> pictures.Drawer | None:
        """What draws an image from ψ again, or None where ψ is no picture."""
        from fct.side import picture as pictures

        path = self.folder / PICTURE
        return pictures.from_tensors(load_file(path)) if path.exists() else None

    @property
    def side_bits(self) -> list[int]:
        """Bits of each of the P codes of ψ, as a gallery stores them; 8 each where the release says nothing."""
        given = self.about["side"].get("bits", 8)
        return [int(given)] * self.side_dim if isinstance(given, int) else [int(bits) for bits in given]

    def digest(self) -> str:
        """One digest for the whole folder."""
        return digests.of_json(self.about)


def read_head(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``weight`` (K, D) and ``bias`` (K,) from a safetensors file.

    Raises:
        BadInput: missing, damaged, or without these two tensors.

    Examples:
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> from fct import release
        >>> save_file({"weight": np.ones((10, 4), "f4"), "bias": np.zeros(10, "f4")}, "head.safetensors")
        >>> weight, bias = release.read_head("head.safetensors")
        >>> weight.shape, bias.shape
        ((10, 4), (10,))
    """
    try:
        tensors = load_file(path)
        return tensors["weight"].astype(np.float32), tensors["bias"].astype(np.float32)
    except (OSError, SafetensorError, KeyError) as error:
        raise BadInput(
            "the head cannot be read",
            wanted="a safetensors file with weight (classes, dimensions) and bias (classes,)",
            got=str(error),
            where=path,
        ) from error
