"""Items enter the gallery: embedded natively, φ and ψ stored, images never needed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fct import device as devices
from fct import forward
from fct import program as programs
from fct.datasets.images import read_image
from fct.datasets.manifest import read_manifest
from fct.errors import BadInput, NotPermitted
from registry import lock
from registry.carrying import carry
from registry.decisions import ledger_lock
from registry.revision import next_number, pin
from registry.workspace import Workspace

GALLERY_SPLITS = ("gallery", "gallery_unseen")
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
CHUNK = 1024


def find(folder: Path) -> list[tuple[str, str, str, Path]]:
    """(id, label, source, file) of every image: from the manifest's gallery splits where there is one, else by walking the folder.

    Raises:
        BadInput: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise BadInput("there is no such folder", where=folder)
    if (folder / "manifest.csv").exists():
        rows = read_manifest(folder).rows(*GALLERY_SPLITS)
        found = list(zip(rows.id.tolist(), rows.label.tolist(), rows.source.tolist(), rows.files, strict=True))
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and path.is_file())
        found = [(path.relative_to(folder).as_posix(), path.parent.name if path.parent != folder else "", "", path) for path in files]
    if not found:
        raise BadInput("there are no images to ingest", wanted="image files, or a manifest with gallery splits", where=folder)
    return found


def default_version(workspace: Workspace) -> int:
    """The release that serves, else the only one registered."""
    serving = workspace.ledger.serving()
    if serving is not None:
        return int(serving["release"])
    versions = workspace.releases.versions()
    if len(versions) != 1:
        raise BadInput(
            "which release should embed the items?",
            wanted="--version N",
            got=f"registered versions {[v.number for v in versions]}",
            todo="nothing serves yet",
        )
    return versions[0].number


def ingest(workspace: Workspace, folder: str | Path, *, version: int | None = None, by: str, why: str = "") -> dict[str, int]:
    """Embed the images of a folder with a release and store φ and ψ; running it again changes nothing.

    Where a release serves already, its space and index follow in the same run and a new revision is recorded.

    Returns:
        added, unchanged, version.

    Raises:
        BadInput: no images, an unreadable one, ids that are there with another content, or a release that does not serve.
    """
    ledger, gallery = workspace.ledger, workspace.gallery
    number = default_version(workspace) if version is None else version
    serving = ledger.serving()
    if serving is not None and number != serving["release"]:
        raise BadInput(f"release {serving['release']} serves, so new items are embedded by it", wanted=serving["release"], got=number)
    release = workspace.releases.release(number)
    found = find(Path(folder).absolute())
    known = (
        gallery.items() if "items" in gallery.tables() else {"id": np.empty(0, dtype=str), "native_version": np.empty(0, dtype=np.int32)}
    )
    elsewhere = set(known["id"][known["native_version"] != number].tolist())  # carried over from an earlier version: there already
    if serving is None and elsewhere:
        raise BadInput(
            "the gallery was begun with another version and nothing serves yet",
            got=f"native versions {sorted(gallery.native_versions())}",
            todo="let that version serve first",
        )
    skipped = sum(one[0] in elsewhere for one in found)
    found = [one for one in found if one[0] not in elsewhere]
    device = devices.pick(workspace.settings.device)
    program = release.program(device)
    added, unchanged = 0, skipped
    with lock.hold(workspace.locks, f"{workspace.settings.model}-ingest", f"{by}: ingest", lease_s=workspace.settings.promote.lock_lease_s):
        if not len(gallery.item_ids(role="canary")):
            ids, images = release.canaries()
            phi, psi = programs.embed(program, images, device=device)
            empty = [""] * len(ids)
            gallery.ingest(number, release.fingerprint, ids, phi, psi, empty, empty, empty, role="canary", psi_bits=release.side_bits)
        with tqdm(total=len(found), desc="ingesting", unit="image", mininterval=1) as bar:
            for start in range(0, len(found), CHUNK):
                part = found[start : start + CHUNK]
                images = np.stack([read_image(file, release.size, release.mode) for *_, file in part])
                phi, psi = programs.embed(program, images, device=device)
                ids_, labels, sources, files = zip(*part, strict=True)
                uris, bits = [str(file) for file in files], release.side_bits
                done = gallery.ingest(number, release.fingerprint, list(ids_), phi, psi, list(labels), list(sources), uris, psi_bits=bits)
                added, unchanged = added + done.added, unchanged + done.unchanged
                bar.update(len(part))
    held_by = f"{by}: ingest"
    with lock.hold(workspace.locks, ledger_lock(workspace), held_by, lease_s=workspace.settings.promote.lock_lease_s) as held:
        head = ledger.head()
        now = None if head is None else head.serving
        if now is not None and _lacking(workspace, now):
            revision = _extend(workspace, now)
            held.check()
            ledger.append(
                head,
                action="ingest",
                by=by,
                why=why,
                model=workspace.settings.model,
                serving=revision,
                detail={"added": added, "version": number},
            )
        elif now is None and added:
            ledger.append(
                head,
                action="ingest",
                by=by,
                why=why,
                model=workspace.settings.model,
                serving=None,
                detail={"added": added, "version": number},
            )
    return {"added": added, "unchanged": unchanged, "version": number}


def _lacking(workspace: Workspace, serving: dict[str, Any]) -> bool:
    """Whether an item is not in the space that serves; by the tables, so that an ingest cut short is finished by the next."""
    space = serving["space"]
    there = workspace.gallery.space_ids(space, at=serving["tables"][space]["version"])
    return bool(set(workspace.gallery.item_ids().tolist()) - set(there.tolist()))


def _extend(workspace: Workspace, serving: dict[str, Any]) -> dict[str, Any]:
    """Missing rows into the space that serves, each from its own native version; a new index; the next revision."""
    number, space = int(serving["release"]), serving["space"]
    folder = workspace.upgrade_folder(number)
    forwards = {int(m): forward.load(folder / f"h-v{m}") for m in serving["forward"]}
    if {str(m): h.digest for m, h in forwards.items()} != serving["forward"]:
        raise NotPermitted("an h is not the one that serves", where=folder, todo="restore it")
    carry(workspace, space, number, forwards)
    revision = pin(workspace, number, space, workspace.releases.release(number, check=False), serving["forward"])
    return revision | {"revision": next_number(workspace.ledger.entries(), number), "verdict": serving["verdict"]}
