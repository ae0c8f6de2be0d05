"""Fit, apply, store and load a forward transformation.

Legend: N pairs, M pool pairs, D old, P side, E new dimensions, K classes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fct import device as devices
from fct import digests, vectors
from fct.errors import BadInput, NotPermitted
from fct.files import read_json, whole_folder, write_json
from fct.forward import closed
from fct.forward.fitting import Pairs, fit_network
from fct.forward.network import ForwardEnsemble, ForwardNetwork
from fct.forward.settings import METHODS, FitSettings

FORMAT = 1
CLOSED = ("procrustes", "ridge")
RIDGE_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT = 0.05
BLOCK = 1024


@dataclass(frozen=True)
class Forward:
    """A fitted h. ``network`` for learned methods, ``weight``/``bias`` for closed forms; ``about`` goes into the manifest."""

    method: str
    old_dim: int
    side_dim: int
    new_dim: int
    network: ForwardEnsemble | None = None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def transform(self, old: np.ndarray, side: np.ndarray | None = None, *, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """Carry rows over: (N, D) old, (N, P) side → vectors (N, E) float32 and uncertainty σ (N,) float32.

        σ is the predicted standard deviation (larger = less certain); NaN for a method that predicts none.

        Raises:
            BadInput: rows or dimensions that do not fit this h, or side-information missing (or given to an h without).
        """
        vectors.check("old", old, dim=self.old_dim)
        if self.side_dim and side is None:
            raise BadInput("this h needs side-information", wanted=f"(rows, {self.side_dim})", got="none")
        if side is not None and not self.side_dim:
            raise BadInput("this h was fitted without side-information", got=f"side-information of shape {side.shape}", todo="leave it out")
        if side is not None:
            vectors.check("side", side, dim=self.side_dim, rows=len(old), allow_zero=True)
        chosen = devices.pick(device)
        network = self.network.to(chosen) if self.network is not None else None
        out = np.empty((len(old), self.new_dim), dtype=np.float32)
        sigma = np.full(len(old), np.nan, dtype=np.float32)
        for start in range(0, len(old), BLOCK):
            rows = slice(start, start + BLOCK)
            count = len(old[rows])
            # every block has the same number of rows: the last bits of a matrix product depend on it, and a gallery carried over
            # in other batches, or resumed, must come out the same
            first, second = np.zeros((BLOCK, self.old_dim), dtype=np.float32), np.zeros((BLOCK, self.side_dim), dtype=np.float32)
            first[:count] = old[rows]
            if side is not None:
                second[:count] = side[rows]
            if network is None:
                assert self.weight is not None and self.bias is not None  # one of the two kinds, by construction
                out[rows] = (np.concatenate([first, second], axis=1).astype(np.float64) @ self.weight + self.bias)[:count]
                continue
            with torch.inference_mode():
                predicted, spread = network(torch.from_numpy(first).to(chosen), torch.from_numpy(second).to(chosen))
                out[rows] = predicted[:count].cpu().numpy()
                if self.about.get("settings", {}).get("uncertainty"):
                    sigma[rows] = spread[:count].cpu().numpy()
        return out, sigma

    @property
    def digest(self) -> str:
        """SHA-256 of method, dimensions and every weight: who carried a vector over."""
        tensors = self.tensors()
        named = {name: digests.of_array(np.ascontiguousarray(value.numpy())) for name, value in tensors.items()}
        return digests.of_json([self.method, self.old_dim, self.side_dim, self.new_dim, named])

    def tensors(self) -> dict[str, torch.Tensor]:
        if self.network is not None:
            return {name: value.contiguous() for name, value in self.network.state_dict().items()}
        assert self.weight is not None and self.bias is not None
        return {"weight": torch.from_numpy(np.ascontiguousarray(self.weight)), "bias": torch.from_numpy(np.ascontiguousarray(self.bias))}

    def save(self, folder: str | Path) -> None:
        """Write weights.safetensors and manifest.json, whole or not at all; no pickle."""
        with whole_folder(folder) as part:
            save_file(self.tensors(), part / "weights.safetensors")
            dims = {"old": self.old_dim, "side": self.side_dim, "new": self.new_dim}
            manifest = {
                "format": FORMAT,
                "method": self.method,
                "dims": dims,
                "digest": self.digest,
                "weights_sha256": digests.of_file(part / "weights.safetensors"),
            }
            write_json(part / "manifest.json", manifest | self.about)


def load(folder: str | Path) -> Forward:
    """Load an h and check names, shapes and digests.

    Raises:
        BadInput: not such a folder, or written by a newer version of this package.
        NotPermitted: the weights are not the ones the manifest names.
    """
    folder = Path(folder)
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not {"format", "method", "dims", "digest", "weights_sha256"} <= manifest.keys():
        raise BadInput("not the manifest of a forward transformation", where=folder / "manifest.json")
    if manifest["format"] != FORMAT:
        raise BadInput(
            "the forward transformation has another format",
            wanted=FORMAT,
            got=manifest["format"],
            where=folder,
            todo="use the package version that wrote it, or fit again",
        )
    weights = folder / "weights.safetensors"
    if not weights.exists():
        raise BadInput("a file is missing", wanted=weights.name, where=folder)
    if digests.of_file(weights) != manifest["weights_sha256"]:
        raise NotPermitted("the weights of h were changed since they were written", where=weights, todo="fit again or restore them")
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise BadInput("the weights are not a safetensors file", got=str(error), where=weights) from error
    dims = manifest["dims"]
    known = (
        isinstance(dims, dict) and all(isinstance(dims.get(name), int) for name in ("old", "side", "new")) and manifest["method"] in METHODS
    )
    closed_form = manifest["method"] in CLOSED
    settings = manifest.get("settings")
    if (
        not known
        or (closed_form and tensors.keys() != {"weight", "bias"})
        or not (closed_form or (isinstance(settings, dict) and {"width", "members"} <= settings.keys()))
    ):
        raise BadInput(
            "the weights do not fit the manifest",
            wanted="method, dims and settings of the h that was saved",
            where=folder / "manifest.json",
        )
    about = {key: value for key, value in manifest.items() if key not in {"format", "method", "dims", "digest", "weights_sha256"}}
    if closed_form:
        h = Forward(
            manifest["method"],
            dims["old"],
            dims["side"],
            dims["new"],
            weight=tensors["weight"].numpy(),
            bias=tensors["bias"].numpy(),
            about=about,
        )
    else:
        width, members = int(about["settings"]["width"]), int(about["settings"]["members"])
        network = ForwardEnsemble([ForwardNetwork(dims["old"], dims["side"], dims["new"], width) for _ in range(members)])
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise BadInput("the weights do not fit the manifest", got=" ".join(str(error).split()[:40]), where=folder) from error
        h = Forward(manifest["method"], dims["old"], dims["side"], dims["new"], network=network.eval(), about=about)
    if h.digest != manifest["digest"]:
        raise NotPermitted("h is not the one its manifest names", wanted=manifest["digest"][:12], got=h.digest[:12], where=folder)
    return h


def _held_out(sources: np.ndarray | None, rows: int, seed: int) -> np.ndarray:
    """(N,) bool: about 5 % of the rows, whole sources only."""
    values = np.arange(rows) if sources is None else np.unique(np.asarray(sources), return_inverse=True)[1]
    count = int(values.max()) + 1
    chosen = np.random.default_rng(seed).permutation(count)[: max(1, round(HELD_OUT * count))] if count > 1 else np.zeros(0, dtype=np.int64)
    return np.isin(values, chosen)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((vectors.normalise(a) * vectors.normalise(b)).sum(axis=1).mean())


def fit(
    old: np.ndarray,
    new: np.ndarray,
    *,
    side: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    sources: np.ndarray | None = None,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    pool_old: np.ndarray | None = None,
    pool_side: np.ndarray | None = None,
    pool_new: np.ndarray | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    title: str = "fitting h",
) -> Forward:
    """Fit h on pairs of vectors of the same items.

    Args:
        old: (N, D) φ of the old model; new: (N, E) φ of the new model, the scale it gives them.
        side: (N, P) side-information ψ of the old release, numbers of any dtype.
        labels: (N,) class numbers of ``head``'s rows; −1 where unknown.
        sources: (N,) rows of one source (views of an image, drawings of a pack) are never split between fitting and validation.
        head: weight (K, E) and bias (K,) of the new model's classification head; used frozen.
        pool_old, pool_side, pool_new: (M, …) unlabelled pairs of other classes.
        settings: the recipe; by default the shipped one.

    Returns:
        the h, with its settings, seed, input digests, seconds and the mean cosine on held-out sources in ``about``.

    Raises:
        BadInput: unknown method, rows or dimensions that do not correspond, labels outside of the head, NaN or infinity.
    """
    settings = settings or FitSettings()
    started = time.perf_counter()
    if settings.method not in METHODS:
        raise BadInput("unknown method", wanted=", ".join(METHODS), got=settings.method)
    vectors.check("old", old)
    vectors.check("new", new, rows=len(old))
    if side is not None:
        vectors.check("side", side, rows=len(old), allow_zero=True)
    for name, given in (("labels", labels), ("sources", sources)):
        if given is not None and len(given) != len(old):
            raise BadInput(f"{name} have the wrong length", wanted=len(old), got=len(given))
    if (pool_old is None) != (pool_new is None) or (pool_old is not None and (pool_side is None) != (side is None)):
        raise BadInput("the pool is incomplete", wanted="pool-old and pool-new, and pool-side exactly when side is given")
    if pool_old is not None and pool_new is not None:
        vectors.check("pool-old", pool_old, dim=old.shape[1])
        vectors.check("pool-new", pool_new, dim=new.shape[1], rows=len(pool_old))
        if pool_side is not None and side is not None:
            vectors.check("pool-side", pool_side, dim=side.shape[1], rows=len(pool_old), allow_zero=True)
    if head is not None:
        vectors.check("head weight", head[0], dim=new.shape[1])
        if np.shape(head[1]) != (len(head[0]),):
            raise BadInput("head bias has the wrong shape", wanted=(len(head[0]),), got=np.shape(head[1]))
        if labels is not None and (int(np.max(labels)) >= len(head[0]) or int(np.min(labels)) < -1):
            wrong = int(np.max(labels)) if int(np.max(labels)) >= len(head[0]) else int(np.min(labels))
            raise BadInput("a label has no row in the head", wanted=f"0 … {len(head[0]) - 1} or −1", got=wrong)

    def none(rows: int) -> np.ndarray:
        return np.zeros((rows, 0), dtype=np.float32)

    numbers = np.full(len(old), -1) if labels is None else np.asarray(labels)
    everything = Pairs(np.asarray(old), none(len(old)) if side is None else np.asarray(side), np.asarray(new, dtype=np.float32), numbers)
    held = _held_out(sources, len(old), seed)
    pairs, rest = everything.take(~held), everything.take(held)
    if len(pairs) < 2:
        raise BadInput("there are too few pairs to fit h on", wanted="at least 2 beside those held out", got=len(pairs))
    pool = None
    if pool_old is not None and pool_new is not None and settings.pool_share > 0:
        pool = Pairs(
            np.asarray(pool_old),
            none(len(pool_old)) if pool_side is None else np.asarray(pool_side),
            np.asarray(pool_new, dtype=np.float32),
            np.full(len(pool_old), -1),
        )
    dims: dict[str, Any] = {"old_dim": old.shape[1], "side_dim": everything.side.shape[1], "new_dim": new.shape[1]}
    about: dict[str, Any] = {"settings": asdict(settings), "seed": seed, "pairs": len(pairs), "pool": 0 if pool is None else len(pool)}
    if settings.method in CLOSED:
        h = _fit_closed(settings.method, pairs, rest, pool, dims, about)
    else:
        usable = head if labels is not None and settings.head_weight > 0 else None
        chosen = devices.pick(device)
        names = [f"{title} {number + 1}/{settings.members}" if settings.members > 1 else title for number in range(settings.members)]
        members = [
            fit_network(pairs, pool, usable, settings, seed=seed + 1000 * number, device=chosen, title=name)
            for number, name in enumerate(names)
        ]
        h = Forward(settings.method, **dims, network=ForwardEnsemble(members).eval(), about=about)
    about["inputs"] = {
        name: digests.of_array(np.asarray(array))
        for name, array in (
            ("old", old),
            ("side", side),
            ("new", new),
            ("labels", labels),
            ("pool_old", pool_old),
            ("pool_side", pool_side),
            ("pool_new", pool_new),
        )
        if array is not None
    }
    if len(rest):
        carried, _ = h.transform(rest.old, rest.side if dims["side_dim"] else None)
        about["validation"] = {"rows": len(rest), "mean_cosine": round(_cosine(carried, rest.new), 6)}
    about["seconds"] = round(time.perf_counter() - started, 3)
    return h


def _fit_closed(method: str, pairs: Pairs, rest: Pairs, pool: Pairs | None, dims: dict[str, Any], about: dict[str, Any]) -> Forward:
    parts = [pairs] if pool is None else [pairs, pool]
    x = np.concatenate([np.concatenate([p.old, p.side], axis=1) for p in parts]).astype(np.float64)
    y = np.concatenate([p.new for p in parts]).astype(np.float64)
    if method == "procrustes":
        weight, bias = closed.procrustes(x, y)
        return Forward(method, **dims, weight=weight, bias=bias, about=about)
    best: tuple[float, Forward] | None = None
    for strength in RIDGE_STRENGTHS:
        weight, bias = closed.ridge(x, y, strength)
        h = Forward(method, **dims, weight=weight, bias=bias, about=about)
        score = _cosine(h.transform(rest.old, rest.side if dims["side_dim"] else None)[0], rest.new) if len(rest) else 0.0
        if best is None or score > best[0]:
            best = score, h
            about["ridge_strength"] = strength
    assert best is not None
    return best[1]
