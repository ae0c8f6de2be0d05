"""A release folder: everything version n is released with.

``program.pt2`` (φ, ψ) in one exported program · ``head.safetensors`` the classification head, where there is one ·
``picture.safetensors`` how ψ is drawn, where ψ is a picture · ``canaries.safetensors`` images of no user · ``release.json`` preprocessing, dimensions, measurements, digest of every file.

An *adopted* release is release.json alone: its vectors were computed elsewhere, and its embedder is not at hand (:func:`write_adopted`).

Legend: N images, C channels, S side in pixels, D dimensions of φ, P bytes of ψ, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fct.arrays import digests
from fct.arrays.files import read_json, whole_folder, write_json
from fct.errors import Altered, BadInput
from fct.side import codes

if TYPE_CHECKING:  # a release can be opened, and compared with its digests, without torch
    import torch
    from torch import nn

    from fct.program import programs
    from fct.side import picture as pictures

FORMAT = 1
METRICS = ("cosine", "l2")
PIECES = ("program.pt2", "canaries.safetensors", "release.json")
HEAD = "head.safetensors"
PICTURE = "picture.safetensors"
FILES = (*PIECES, HEAD, PICTURE)  # of a release, all there are
LOOKED_AT = 8  # canaries that a program is run on
MOST_DIMS = 1 << 20  # of ψ
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
KEYS = {"format", "fingerprint", "preprocessing", "dims", "metric", "side", "classes", "canaries", "measurements", "files"}


@dataclass(frozen=True)
class Release:
    """A release folder that was opened and found complete.

    Attributes:
        about: release.json. approved: says of a release's digest whether it has served; nobody's has, where nothing is given.
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
            BadInput: the release was adopted without one, or its program holds what no program may. Altered: it is another one.
        """
        if self.adopted:
            raise BadInput(
                "this release was adopted without its embedder, so it cannot look at an image",
                todo="ask with vectors of that embedder, `fct adopt` more of them, or promote a version that has an embedder",
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
    """
    import torch

    from fct.program import programs
    from fct.side import picture as pictures

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
            "too few canaries, or ids that repeat",
            wanted="at least 8 different ids",
            got=f"{len(set(canary_ids))} different of {len(canary_ids)}",
        )
    if head is not None and (classes is None or len(classes) != len(head[0])):
        raise BadInput("the head's classes are not named", wanted=f"{len(head[0])} class names", got=0 if classes is None else len(classes))
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
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
                raise BadInput("the picture does not fit ψ", wanted=f"{psi.shape[1]} dimensions", got=len(picture.weight))
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


def write_adopted(
    folder: str | Path, *, dim: int, side_bits: list[int], metric: str, normalised: bool, content: str, canary_ids: list[str]
) -> Release:
    """Write the release folder of a gallery that was computed elsewhere.

    Args:
        dim: D. side_bits: of each of the P codes of ψ, none where there is no side-information.
        normalised: whether every vector was delivered with norm 1.
        content: digest of the rows that the gallery began with; it stands in the place of the embedder in the fingerprint.

    Raises:
        BadInput: an unknown metric.
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


def problems(folder: str | Path, *, run: bool = True) -> list[str]:
    """What a folder lacks to be a release, one sentence each; empty when the contract is kept.

    Args:
        run: load the program, run it on some canaries and compare it with the declared dimensions and fingerprint; see that a vector
            depends on nothing but its image. Without it every file is compared with its digest, nothing more.
    """
    lacking, altered = _examined(Path(folder), run)
    return lacking + altered


def _examined(folder: Path, run: bool) -> tuple[list[str], list[str]]:
    """What :func:`problems` finds: what is missing or wrong, and which files are others than were written."""
    altered: list[str] = []
    found = [f"{piece} is missing" for piece in PIECES if not (folder / piece).is_file()]
    if not (folder / "release.json").is_file():
        return found, altered
    try:
        about = read_json(folder / "release.json")
    except BadInput as error:
        return [str(error)], altered
    if not isinstance(about, dict):
        return ["release.json is not an object"], altered
    if about.get("format") != FORMAT:
        return [f"release.json has format {about.get('format')}, wanted {FORMAT}"], altered
    lacking = sorted(KEYS - about.keys())
    if "adopted" in about:
        found = [f"{name} is no part of an adopted release" for name in FILES if name != "release.json" and (folder / name).exists()]
    if lacking:
        return [*found, *(f"release.json lacks {key}" for key in lacking)], altered
    if "adopted" in about:
        return found + _forms(about), altered
    if not isinstance(about["files"], dict):
        return [*found, "release.json names no files"], altered
    strange = sorted(map(repr, about["files"].keys() - set(FILES)))  # a name could lead out of the folder
    if strange:
        return [*found, f"release.json names files that are no part of a release: {', '.join(strange)}"], altered
    named = [
        *PIECES,
        *(name for name in (HEAD, PICTURE) if (folder / name).exists()),
    ]  # what is read has a digest, or it could be exchanged
    found += [f"release.json has no digest of {name}" for name in named if name != "release.json" and name not in about["files"]]
    for name, digest in about["files"].items():
        path = folder / name
        if not path.is_file():
            if name not in PIECES:
                found.append(f"{name} is missing")
        elif digests.of_file(path) != digest:
            altered.append(f"{name} is not the file the release was written with")
    if found or altered or not run:
        return found, altered
    return _ran(Release(folder, about)), altered


def _ran(release: Release) -> list[str]:
    """What is wrong with a release whose files are whole: its program is loaded and run on two canaries."""
    import torch

    from fct.program import programs

    found = []
    try:
        ids, images = release.canaries()
        _ = release.dim, release.side_dim, release.metric, release.size, release.mode, release.classes
    except SafetensorError as error:
        return [str(error).splitlines()[0]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # someone else wrote it, in another form
        return [f"release.json or the canaries have another form than a release's: {type(error).__name__} {error}".strip()]
    found += _forms(release.about)
    if found:
        return found
    form = {"L": 1, "RGB": 3}.get(release.mode), release.size, release.size
    if images.dtype != np.uint8 or images.shape[1:] != form:
        return [f"release.json or the canaries have another form than a release's: {images.shape} {images.dtype}, wanted {form} uint8 each"]
    if len({image.tobytes() for image in images}) < len(images):  # of equal ones nobody sees whether a vector depends on its neighbours
        return ["the canaries repeat an image"]
    try:
        program = release.program()
        phi, psi = programs.embed(program, images[:2], device=torch.device("cpu"))
        depends = programs.unsteady(program, images[:LOOKED_AT])
    except (BadInput, RuntimeError) as error:  # torch's own, of a program that has served and runs in this process
        return [str(error).splitlines()[0]]
    if depends is not None:
        found.append(f"the program's vectors depend on {depends}, not on their image alone")
    if release.metric not in METRICS:
        found.append(f"release.json has the metric {release.metric}, wanted {' or '.join(METRICS)}")
    if phi.shape[1] != release.dim or psi.shape[1] != release.side_dim:
        found.append(f"the program gives φ {phi.shape[1]} and ψ {psi.shape[1]}, release.json says {release.dim} and {release.side_dim}")
    if release.side_dim == 0:
        found.append("side-information ψ is missing")
    found += _beside(release)
    if len(ids) != len(images) or len(ids) < 8:
        found.append("canaries are missing")
    if programs.fingerprint(release.folder / "program.pt2", release.about["preprocessing"]) != release.fingerprint:
        found.append("the fingerprint is not that of program and preprocessing")
    return found


def _forms(about: dict[str, Any]) -> list[str]:
    """Which keys of release.json have another form than :func:`write` gives them: whoever opens a release relies on it."""
    try:
        digests.of_json(about)
    except ValueError:  # half a character, as JSON can spell it
        return ["release.json holds text that is no UTF-8"]
    dims, side, ids, classes, said, seen = (about[key] for key in ("dims", "side", "canaries", "classes", "measurements", "preprocessing"))
    texts = isinstance(ids, list) and all(isinstance(one, str) and one and not CONTROL.search(one) for one in ids)
    whole = isinstance(dims, dict) and all(type(dims.get(key)) is int for key in ("phi", "psi"))
    fits = {
        "dims": whole,
        "side": whole and isinstance(side, dict) and _packs(side.get("bits", 8), dims["psi"]),
        "canaries": texts and len(set(ids)) == len(ids),
        "classes": isinstance(classes, list) and all(isinstance(one, str) for one in classes),
        "measurements": isinstance(said, dict) and all(type(one) in (int, float) for one in said.values()),
        "fingerprint": isinstance(about["fingerprint"], str),
        "preprocessing": isinstance(seen, dict) and type(seen.get("size")) is int and seen.get("mode") in ("L", "RGB"),
    }
    if "adopted" in about:
        fits |= {"adopted": whole and _fits_adopted(about), "metric": about["metric"] in METRICS, "files": about["files"] == {}}
    return [f"release.json has {key} of another form than a release's" for key, fit in fits.items() if not fit]


def _fits_adopted(about: dict[str, Any]) -> bool:
    """Whether what an adopted release says of its vectors is of their form, and its fingerprint follows from it."""
    said, dims, bits = about["adopted"], about["dims"], about["side"].get("bits") if isinstance(about["side"], dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("content"), str) or not isinstance(said.get("normalised"), bool):
        return False
    wanted = digests.of_json({"adopted": said["content"], "dim": dims["phi"], "metric": about["metric"]})
    return dims["phi"] > 0 and isinstance(bits, list) and about["fingerprint"] == wanted


def _packs(bits: Any, dims: int) -> bool:
    """Whether so many codes can be packed with these bits; a number beyond all memory is not tried."""
    if not 0 <= dims <= MOST_DIMS:
        return False
    try:
        codes.packed_bytes(dims, bits)
    except (BadInput, TypeError, ValueError, OverflowError):
        return False
    return True


def _beside(release: Release) -> list[str]:
    """What is wrong with head and picture, where there are any."""
    found = []
    try:
        head, drawer = release.head(), release.picture()
    except (BadInput, SafetensorError, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"the head or the picture cannot be read: {(str(error).splitlines() or [''])[0]}"]
    if head is not None:
        weight, bias = head
        if weight.shape != (len(release.classes), release.dim) or bias.shape != weight.shape[:1]:
            found.append(
                f"the head has {weight.shape} and {bias.shape}, wanted ({len(release.classes)}, {release.dim}) and a number a class"
            )
        elif not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            found.append("the head holds NaN or infinity")
    if drawer is not None and len(drawer.weight) != release.side_dim:
        found.append(f"{PICTURE} draws from {len(drawer.weight)} dimensions, ψ has {release.side_dim}")
    return found


def open_release(folder: str | Path, *, check: bool = True, run: bool = True) -> Release:
    """Open a release folder.

    Args:
        check: look for :func:`problems`; leave out only where that was done a moment ago.
        run: load and run the program, too; leave out where it was run before and :meth:`Release.digest` is compared with the one of then.

    Raises:
        BadInput: pieces are missing, all named. Altered: a file was altered after the release was written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput("there is no such release folder", where=folder)
    if check:
        found, altered = _examined(folder, run)
        if altered:
            raise Altered("the release was altered: " + "; ".join(altered), where=folder, todo="restore it, or release a new version")
        if found:
            raise BadInput("the release is incomplete: " + "; ".join(found), where=folder)
    return Release(folder, read_json(folder / "release.json"))
