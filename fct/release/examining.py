"""What a release folder lacks: looked at piece by piece, its program run on its canaries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from fct.arrays import digests
from fct.arrays.files import read_json
from fct.errors import Altered, BadInput
from fct.side import codes

if TYPE_CHECKING:  # a release can be opened, and compared with its digests, without torch
    pass
from fct.release.folder import FILES, FORMAT, HEAD, METRICS, PICTURE, PIECES, Release

LOOKED_AT = 8  # canaries that a program is run on
MOST_DIMS = 1 << 20  # of ψ
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
KEYS = {"format", "fingerprint", "preprocessing", "dims", "metric", "side", "classes", "canaries", "measurements", "files"}


def problems(folder: str | Path, *, run: bool = True) -> list[str]:
    """What a folder lacks to be a release, one sentence each; empty when the contract is kept.

    Args:
        run: load the program, run it on some canaries and compare it with the declared dimensions and fingerprint; see that a vector
            depends on nothing but its image. Without it every file is compared with its digest, nothing more.

    Examples:
        >>> from pathlib import Path
        >>> from fct import release
        >>> Path("empty").mkdir()
        >>> release.problems("empty")
        ['program.pt2 is missing', 'canaries.safetensors is missing', 'release.json is missing']
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
        BadInput: pieces are missing, all named.
        Altered: a file was altered after the release was written.

    Examples:
        >>> from fct import release
        >>> _ = release.write_adopted("v1", dim=64, side_bits=[8], metric="cosine", normalised=True, content="0" * 64, canary_ids=[])
        >>> release.open_release("v1").side_dim
        1
        >>> release.open_release("v2")
        Traceback (most recent call last):
        fct.errors.BadInput: there is no such release folder; in v2
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
