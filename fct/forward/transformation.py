"""A fitted forward transformation h and how it is applied.

Legend: N rows, D old, P side, E new dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fct import device as devices
from fct.arrays import digests, given, vectors
from fct.arrays.files import whole_folder, write_json
from fct.arrays.shapes import Float32
from fct.errors import BadInput
from fct.forward.joined import CARRIED, OLD, SIDE, Joined
from fct.forward.manifest import CARRIES, FILES, JOINS, READS, package_version
from fct.forward.network import LEAST_OUTPUTS, ForwardEnsemble, ForwardNetwork
from fct.forward.uncertainty import Uncertainty, unsure

BLOCK = 1024


@dataclass(frozen=True)
class Forward:
    """A fitted h. ``network`` for learned methods, ``weight`` (D + P, E) and ``bias`` (E,) for closed forms.

    With both, the linear map is one more member of the networks' mean.

    ``uncertainty`` gives σ where the network learned no log-variance; with ``head``, the new model's weight (K, E) and bias (K,), σ counts
    for less where the head is sure of a carried row. ``about`` goes into the manifest. ``joined``: what its gallery holds, where that is not
    the carried vectors alone.

    Examples:
        >>> import numpy as np, fct
        >>> rng = np.random.default_rng(0)
        >>> old, side = rng.normal(size=(200, 4)).astype("float32"), rng.integers(-127, 128, (200, 2)).astype("int8")
        >>> new = np.hstack([old, side / 100])  # the new model sees what the old one saw, and what ψ says
        >>> h = fct.fit(old, new, side=side, method="ridge")
        >>> isinstance(h, fct.Forward), h.method, h.closed
        (True, 'ridge', True)
        >>> carried, sigma = h.transform(old, side)
        >>> bool(np.allclose(carried, new, atol=0.01))
        True
        >>> h.transform(old)
        Traceback (most recent call last):
        fct.errors.BadInput: ...
    """

    method: str
    old_dim: int
    side_dim: int
    new_dim: int
    network: ForwardEnsemble | None = None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    uncertainty: Uncertainty | None = None
    head: tuple[np.ndarray, np.ndarray] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    joined: Joined | None = None

    def transform(
        self, old: np.ndarray, side: np.ndarray | None = None, *, device: str = "cpu"
    ) -> tuple[Float32[np.ndarray, "N E"], Float32[np.ndarray, " N"]]:
        """Carry rows over: (N, D) old, (N, P) side → vectors (N, E) float32 and uncertainty σ (N,) float32.

        σ is a predicted standard deviation in units of the new space's own, of the shipped recipe with a head times how unsure that head
        is (:func:`fct.forward.uncertainty.unsure`); larger = backfill first. A row comes out the same bits in whatever batch and order.

        Raises:
            BadInput: rows or dimensions that do not fit this h, or side-information missing (or given to an h without).
        """
        self.check(old, side)
        out, sigma = np.empty((len(old), self.new_dim), dtype=np.float32), np.empty(len(old), dtype=np.float32)
        for rows, carried, spread in self.blocks(old, side, device=device):
            out[rows], sigma[rows] = carried, spread
        return out, sigma

    def gallery(self, old: np.ndarray, side: np.ndarray | None = None, *, device: str = "cpu") -> np.ndarray:
        """What the gallery holds of items (N, D), (N, P): the carried vectors (N, E), or the rows (N, J) of its parts beside each other.

        Raises:
            BadInput: as :meth:`transform`.
        """
        self.check(old, side)
        if self.joined is None:
            return self.transform(old, side, device=device)[0]
        found = {OLD: old} if side is None else {OLD: old, SIDE: side}
        if CARRIED in self.joined.parts:
            found[CARRIED] = self.transform(old, side, device=device)[0]
        return self.joined.rows(found)

    def queries(self, new: np.ndarray, old: np.ndarray | None = None, side: np.ndarray | None = None) -> np.ndarray:
        """What is asked of the gallery: new vectors (Q, E), and where its parts need them, the same queries' old vectors and ψ.

        Returns:
            (Q, E) the new vectors themselves where the gallery is carried alone; else (Q, J). Of a gallery of old vectors alone, ``old`` itself.

        Raises:
            BadInput: rows that do not correspond, or what a part needs is missing.
        """
        parts = (CARRIED,) if self.joined is None else self.joined.parts
        vectors.check("new", new, dim=self.new_dim)
        given_, dims = {CARRIED: new, OLD: old, SIDE: side}, {OLD: self.old_dim, SIDE: self.side_dim}
        for part, dim in dims.items():
            rows = given_[part]
            if rows is not None:
                vectors.check(part, rows, dim=dim, rows=len(new), allow_zero=part == SIDE)
            elif part in parts:
                what = (
                    "the queries embedded by the old model"
                    if part == OLD
                    else "the queries' side-information, by the network that made the gallery's"
                )
                raise BadInput(f"this gallery is searched with its part {part}, too", wanted=what, got="none", todo=f"give {part}")
        found = {part: rows for part, rows in given_.items() if rows is not None}
        return new if self.joined is None else self.joined.queries(found)

    def check(self, old: np.ndarray, side: np.ndarray | None, *, alike: bool = False) -> None:
        """Raise BadInput where rows do not fit this h; ``alike``: as :func:`fct.arrays.vectors.check` means it, for files from outside."""
        vectors.check("old", old, dim=self.old_dim, alike=alike)
        if self.side_dim and side is None:
            raise BadInput("this h needs side-information", wanted=f"(rows, {self.side_dim})", got="none")
        if side is not None and not self.side_dim:
            raise BadInput("this h was fitted without side-information", got=f"side-information of shape {side.shape}", todo="leave it out")
        if side is not None:
            vectors.check("side", side, dim=self.side_dim, rows=len(old), allow_zero=True)

    def blocks(
        self, old: np.ndarray, side: np.ndarray | None = None, *, device: str = "cpu"
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Checked rows block by block: which rows, their vectors and their σ."""
        chosen = devices.pick(device)
        network = self.network.to(chosen) if self.network is not None else None
        affine = None if self.weight is None or self.bias is None else (_widened(self.weight, 1), _widened(self.bias, 0))
        # a head of few classes is widened by ones that no row can have, for the same reason as narrow vectors are
        head = None if self.head is None else (_widened(self.head[0], 0), _lowest(self.head[1]))
        for start in range(0, len(old), BLOCK):
            rows = slice(start, min(start + BLOCK, len(old)))
            count = rows.stop - start
            # every block has the same number of rows: the last bits of a matrix product depend on it, and a gallery carried over
            # in other batches, or resumed, must come out the same
            first, second = np.zeros((BLOCK, self.old_dim), dtype=np.float32), np.zeros((BLOCK, self.side_dim), dtype=np.float32)
            first[:count] = old[rows]
            if side is not None:
                second[:count] = side[rows]
            both = np.concatenate([first, second], axis=1).astype(np.float64) if affine or self.uncertainty else np.zeros((0, 0))
            sigma = np.ones(count, dtype=np.float32)
            carried = np.zeros((count, self.new_dim), dtype=np.float32)
            if affine is not None:
                carried = (both @ affine[0] + affine[1])[:count, : self.new_dim].astype(np.float32)
            if network is not None:
                with torch.inference_mode():
                    predicted, spread = network(torch.from_numpy(first).to(chosen), torch.from_numpy(second).to(chosen))
                    learned, sigma = predicted[:count].cpu().numpy(), spread[:count].cpu().numpy()
                members = len(network.members)
                carried = learned if affine is None else (members * learned + carried) / (members + 1)
            if self.uncertainty is not None:
                sigma = self.uncertainty.sigma(both)[:count]
            if head is not None:
                whole = np.zeros((BLOCK, self.new_dim), dtype=np.float32)
                whole[:count] = carried
                sigma = sigma * unsure(whole, head)[:count]
            yield rows, carried, sigma

    @property
    def reads(self) -> tuple[str, ...]:
        """What it is given, in this order: ``phi``, ``psi``, ``preview``; empty where its manifest does not say (pairs of files, earlier code)."""
        return tuple(self.about.get(READS, ()))

    def looks(self, psi_dim: int) -> bool:
        """Whether it reads a preview beside ψ of ``psi_dim`` dimensions; where the manifest does not say, the number of dimensions does."""
        return "preview" in self.reads if self.reads else self.side_dim > psi_dim

    @property
    def closed(self) -> bool:
        """Whether it is a closed form: nothing of it was learned by gradient descent."""
        return self.network is None

    @property
    def digest(self) -> str:
        """SHA-256 of method, dimensions and every weight: who carried a vector over."""
        named = {name: digests.of_array(np.ascontiguousarray(value.numpy())) for name, value in self.tensors().items()}
        joins = [] if self.joined is None else [self.joined.to_json()]
        return digests.of_json([self.method, self.old_dim, self.side_dim, self.new_dim, named, *joins])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that is stored, by name."""
        arrays = self.uncertainty.tensors() if self.uncertainty is not None else {}
        if self.weight is not None and self.bias is not None:
            arrays = arrays | {"weight": self.weight, "bias": self.bias}
        if self.head is not None:
            arrays = arrays | {"head.weight": self.head[0], "head.bias": self.head[1]}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        if self.network is not None:
            tensors |= {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        return tensors

    def save(self, folder: str | Path) -> None:
        """Write weights.safetensors and manifest.json, whole or not at all; no pickle."""
        network: dict[str, int | bool] | None = None
        if self.network is not None:
            first = self.network.members[0]
            assert isinstance(first, ForwardNetwork)
            network = {"members": len(self.network.members), "width": first.out.in_features, "twice": first.twice}
            network["linear"] = self.weight is not None
            network["classes"] = 0 if self.head is None else len(self.head[1])
        given.place(folder, holds=FILES)
        with whole_folder(folder) as part:
            save_file(self.tensors(), part / "weights.safetensors")
            manifest = {
                "format": CARRIES if self.joined is None else JOINS,
                "package": package_version(),
                "method": self.method,
                "dims": {"old": self.old_dim, "side": self.side_dim, "new": self.new_dim},
                "network": network,
                "digest": self.digest,
                "weights_sha256": digests.of_file(part / "weights.safetensors"),
            }
            joins = {} if self.joined is None else {"joined": self.joined.to_json()}
            write_json(part / "manifest.json", manifest | joins | self.about)


def _widened(array: np.ndarray, axis: int) -> np.ndarray:
    """Zeros up to 16 outputs: the last bits of narrower products depend on a row's place in the block."""
    missing = max(0, LEAST_OUTPUTS - array.shape[axis])
    return np.pad(array, [(0, missing if at == axis else 0) for at in range(array.ndim)])


def _lowest(bias: np.ndarray) -> np.ndarray:
    """Biases of the classes by which :func:`_widened` widens a head: never the highest, and nothing in the sum."""
    return np.pad(bias.astype(np.float64), (0, max(0, LEAST_OUTPUTS - len(bias))), constant_values=-1e30)
