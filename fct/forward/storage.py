"""Loading an h from its folder (:mod:`fct.forward.manifest`): names, shapes and digests are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fct.arrays import digests
from fct.arrays.files import read_json
from fct.errors import Altered, BadInput
from fct.forward.joined import SIDE, Joined
from fct.forward.manifest import FORMAT, JOINS, KEYS, OLDEST, PARTS, READS
from fct.forward.network import ForwardEnsemble, ForwardNetwork
from fct.forward.settings import CLOSED, METHODS
from fct.forward.transformation import Forward
from fct.forward.uncertainty import Uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping

UNCERTAINTY = ("mean", "scale", "weight", "numbers")


def load(folder: str | Path) -> Forward:
    """Load an h and check names, shapes and digests.

    Raises:
        BadInput: not such a folder, or written by a newer (or much older) version of this package.
        Altered: the weights are not the ones the manifest names.

    Examples:
        >>> import numpy as np, fct
        >>> old = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
        >>> h = fct.fit(old, old[:, ::-1], method="procrustes")
        >>> h.save("h")  # a folder with weights.safetensors and manifest.json
        >>> fct.load("h").digest == h.digest
        True
        >>> fct.load("elsewhere")
        Traceback (most recent call last):
        fct.errors.BadInput: there is no such folder of a forward transformation; in elsewhere; fct fit writes one
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput("there is no such folder of a forward transformation", where=folder, todo="fct fit writes one")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BadInput("not the manifest of a forward transformation", where=folder / "manifest.json")
    if manifest["format"] > FORMAT:
        raise BadInput(
            "the forward transformation was written by a newer version of this package",
            wanted=f"format {FORMAT}",
            got=f"format {manifest['format']}",
            where=folder,
            todo="update the package",
            code="newer-format",
        )
    if manifest["format"] < OLDEST:
        raise BadInput(
            "the forward transformation was written by an older version of this package",
            wanted=f"format {OLDEST} or newer",
            got=f"format {manifest['format']}",
            where=folder,
            todo="fit it again",
        )
    if not manifest.keys() >= KEYS - {"joined"} or ("joined" in manifest) != (manifest["format"] == JOINS):
        raise BadInput("not the manifest of a forward transformation", where=folder / "manifest.json")
    reads = manifest.get(READS, [])
    if not isinstance(reads, list) or reads != [part for part in PARTS if part in reads]:
        raise BadInput(
            "the manifest names what h does not read",
            wanted=f"of {', '.join(PARTS)}, in this order",
            got=reads,
            where=folder / "manifest.json",
            todo="fit it again",
        )
    weights = folder / "weights.safetensors"
    if not weights.exists():
        raise BadInput("a file is missing", wanted=weights.name, where=folder)
    if digests.of_file(weights) != manifest["weights_sha256"]:
        raise Altered("the weights of h were changed since they were written", where=weights, todo="fit again or restore them")
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise BadInput("the weights are not a safetensors file", got=str(error), where=weights) from error
    joined = Joined.of(manifest["joined"]) if "joined" in manifest else None
    h = replace(_assemble(manifest, tensors, folder), joined=joined)
    if joined is not None and SIDE in joined.parts and not h.side_dim:
        raise BadInput("the gallery of this h has side-information as a part, and h has none", where=folder / "manifest.json")
    if h.digest != manifest["digest"]:
        raise Altered("h is not the one its manifest names", wanted=str(manifest["digest"])[:12], got=h.digest[:12], where=folder)
    return h


def _assemble(manifest: dict[str, Any], tensors: Mapping[str, torch.Tensor], folder: Path) -> Forward:
    """The h of a manifest and its tensors; every name and shape must be the one that the manifest implies."""
    dims, method, network = manifest["dims"], manifest["method"], manifest["network"]
    if manifest["format"] == 3 and isinstance(network, dict):
        network = {"classes": 0} | network
    numbers = [n for name in ("old", "side", "new") if isinstance(n := dims.get(name), int)] if isinstance(dims, dict) else []
    fits = len(numbers) == 3 and method in METHODS and (network is None) == (method in CLOSED)
    if fits and network is not None:
        kinds = {"members": int, "width": int, "twice": bool, "linear": bool, "classes": int}
        fits = isinstance(network, dict) and all(isinstance(network.get(name), kind) for name, kind in kinds.items())
    if not fits:
        raise BadInput(
            "the weights do not fit the manifest",
            wanted="method, dims and network of the h that was saved",
            where=folder / "manifest.json",
        )
    old, side, new = numbers
    columns = old + side
    shapes: dict[str, tuple[int, ...]] = {}
    if any(name.startswith("uncertainty.") for name in tensors):
        shapes = {f"uncertainty.{name}": (4,) if name == "numbers" else (columns,) for name in UNCERTAINTY}
    made: ForwardEnsemble | None = None
    if network is None or network["linear"]:
        shapes |= {"weight": (columns, new), "bias": (new,)}
    if network is not None:
        found_members = {name.split(".")[1] for name in tensors if name.startswith("members.")}
        last = tensors.get("members.0.out.weight")
        if len(found_members) != network["members"] or last is None or last.ndim != 2 or last.shape[1] != network["width"]:
            raise BadInput(  # before a manifest that was altered makes networks larger than memory
                "the weights do not fit the manifest",
                wanted=f"{network['members']} networks of width {network['width']}",
                got=f"{len(found_members)} of width {last.shape[1] if last is not None and last.ndim == 2 else 'unknown'}",
                where=folder,
            )
        with torch.random.fork_rng(devices=[]):
            members = [ForwardNetwork(old, side, new, network["width"], network["twice"]) for _ in range(network["members"])]
        made = ForwardEnsemble(members)
        if network["classes"]:
            shapes |= {"head.weight": (network["classes"], new), "head.bias": (network["classes"],)}
        shapes |= {name: tuple(value.shape) for name, value in made.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != shapes:
        name = min(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        raise BadInput(
            "the weights do not fit the manifest",
            wanted=f"{name} {shapes.get(name, 'absent')}",
            got=found.get(name, "absent"),
            where=folder,
        )
    arrays = {name: np.asarray(value.numpy()) for name, value in tensors.items() if not name.startswith("members.")}
    spread = Uncertainty(*(arrays[f"uncertainty.{name}"] for name in UNCERTAINTY)) if "uncertainty.mean" in arrays else None
    if made is not None:
        made.load_state_dict({name: value for name, value in tensors.items() if name.startswith("members.")})
        made.eval()
    about = {key: value for key, value in manifest.items() if key not in KEYS}
    head = (arrays["head.weight"], arrays["head.bias"]) if "head.weight" in arrays else None
    return Forward(method, old, side, new, made, arrays.get("weight"), arrays.get("bias"), spread, head, about)
