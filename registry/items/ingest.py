"""Items enter the gallery: embedded natively, φ and ψ stored, images never needed again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fct import device as devices
from fct.arrays import flaws
from fct.errors import BadInput, OperationFailed
from fct.gallery.gallery import Gallery
from fct.gallery.names import Ingested
from fct.program import programs
from fct.release.folder import Release
from registry import lock
from registry.entry import Entry
from registry.images import Arrival
from registry.items.arrivals import declared, find
from registry.items.recording import record
from registry.revisions import alarm, history, kept
from registry.upgrades import rereading
from registry.workspace import Workspace

Listed = list[tuple[str, str]]  # (id, why)


def default_version(workspace: Workspace) -> int:
    """The release that serves, else the only one registered."""
    now = workspace.ledger.release()
    if now is not None:
        return now
    versions = workspace.releases.versions()
    if len(versions) != 1:
        raise BadInput(
            "it is not clear which release embeds the items",
            wanted="--version N",
            got=f"registered versions {[v.number for v in versions]}",
            todo="nothing serves yet; name a version",
        )
    return versions[0].number


@alarm.stops
def ingest(
    workspace: Workspace,
    place: str | Path,
    *,
    version: int | None = None,
    roots: Sequence[str | Path] = (),
    by: str,
    why: str = "",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Embed images with a release and store φ and ψ; running it again changes nothing, and finishes what was cut short.

    Where a release serves already, its space and index follow in the same run and a new revision is recorded: from then on the items
    are found. Where somebody rolls back meanwhile, the release that serves then embeds them as well. For ``promote.double_embed_days`` after a promotion they are embedded by the release before as well, so that a rollback
    keeps them.

    Args:
        place: folder, folder with a manifest, or Parquet file (:func:`registry.items.arrivals.find`).
        roots: where files may lie besides, as links or as a table names them; ``data.roots`` count anyway.
        dry_run: read every image and write nothing; pictures are not compared with those that are there.

    Returns:
        added, unchanged, version; broken: (id, why) of images that cannot be read, conflicts: (id, why) of ids that are there with
        another content (both are left out, the rest is ingested); left: reason → files of a folder that were passed over; duplicates: (id, id of an image with the same bytes before it);
        entry: number of the ledger entry, None where nothing changed; serves: whether a release serves, so that they are found.

    Raises:
        BadInput: no images, none that can be read, or a release that does not serve. NotPermitted: files are damaged (:mod:`registry.revisions.alarm`).
        OperationFailed: ``version`` was named, and somebody rolled back from it meanwhile.
    """
    ledger, gallery, settings = workspace.ledger, workspace.gallery, workspace.settings
    number = default_version(workspace) if version is None else version
    serves = ledger.release()
    _refuse(gallery, number, serves)
    release, twin = kept.opened(workspace, number), _twin(workspace, ledger.entries(), number)
    count, parts, left = find(Path(place).absolute(), workspace.root, (*settings.data.roots, *roots))
    if release.adopted:
        release.program()  # which says that there is none
    if dry_run:
        return _foreseen(release, count, parts, gallery, number) | {"left": left.by_reason}
    device = devices.pick(settings.device)
    broken, conflicts, duplicates, seen = Listed(), Listed(), Listed(), dict[str, str]()
    added = unchanged = 0
    own = _Embedder(workspace, number, device)
    other = None if twin is None else _Embedder(workspace, twin, device)
    with lock.hold(workspace.locks, f"{settings.model}-ingest", f"{by}: ingest", lease_s=settings.promote.lock_lease_s) as held:
        alarm.compare(workspace, alarm.recorded(workspace), "items")
        mine = workspace.fenced(held.check)
        _canaries(mine, own)
        with tqdm(total=count, desc="ingesting", unit="image", mininterval=1) as bar:
            for part in parts:
                whole = _readable(part, release, broken, duplicates, seen)
                now, before_ = _write(mine, own, whole, conflicts, broken) if whole else (0, 0)
                if other is not None and whole:
                    _write_again(mine, own, other, whole)
                added, unchanged = added + now, unchanged + before_
                bar.update(len(part))
    if len(broken) == count:
        raise BadInput(f"none of {count} images can be read", got=f"{broken[0][0]}: {broken[0][1]}", where=place)
    with lock.wait(workspace.locks, workspace.ledger_lock, f"{by}: ingest", lease_s=settings.promote.lock_lease_s) as held:
        entry = record(
            workspace.fenced(held.check),
            added,
            number,
            twin,
            by=by,
            why=why,
            check=held.check,
            roots=declared(Path(place).absolute(), roots),
        )
    after = ledger.release()
    if after is not None and after < number and after != twin:
        sentence = f"release {after} came to serve while release {number} embedded the items, which it has never seen"
        if version is not None:
            raise OperationFailed(sentence, todo="run the same command again without --version: nothing is lost, and both keep them")
        print(f"{sentence}: it embeds them, too", file=sys.stderr)
        return ingest(workspace, place, roots=roots, by=by, why=why)
    said = {
        "left": left.by_reason,
        "broken": broken,
        "conflicts": conflicts,
        "duplicates": duplicates,
        "entry": None if entry is None else entry.number,
        "serves": serves is not None,
    }
    return {"added": added, "unchanged": unchanged, "version": number} | said


def _refuse(gallery: Gallery, number: int, serves: int | None) -> None:
    """BadInput where another release serves, or the gallery was begun with another one."""
    if serves not in (None, number):
        raise BadInput(f"release {serves} serves, so new items are embedded by it", wanted=serves, got=number)
    natives = sorted(gallery.native_versions())
    if serves is None and set(natives) - {number}:
        raise BadInput(
            "the gallery holds items of another version already, and nothing serves yet",
            got=f"native versions {natives}",
            todo="let that version serve first",
        )


def _foreseen(release: Release, count: int, parts: Iterator[list[Arrival]], gallery: Gallery, number: int) -> dict[str, Any]:
    """What an ingest would find: every image is read, none is embedded, so that pictures are not compared with those that are there."""
    broken, conflicts, duplicates, seen = Listed(), Listed(), Listed(), dict[str, str]()
    known = {} if "items" not in gallery.tables() else gallery.items()
    names = known.get("id", np.empty(0, dtype=str)).tolist()
    described = {one: tuple(str(known[name][row]) for name in ("label", "source", "image_uri")) for row, one in enumerate(names)}
    added = unchanged = 0
    with tqdm(total=count, desc="reading", unit="image", mininterval=1) as bar:
        for part in parts:
            for one, _ in _readable(part, release, broken, duplicates, seen):
                there = described.get(one.id)
                if there is None:
                    added += 1
                elif there == (one.label, one.source, one.uri):
                    unchanged += 1
                else:
                    conflicts.append((one.id, "it is there with another label, source or path"))
            bar.update(len(part))
    if len(broken) == count:
        raise BadInput(f"none of {count} images can be read", got=f"{broken[0][0]}: {broken[0][1]}")
    said = {"broken": broken, "conflicts": conflicts, "duplicates": duplicates, "entry": None, "serves": False}
    return {"added": added, "unchanged": unchanged, "version": number} | said


def _twin(workspace: Workspace, entries: list[Entry], number: int) -> int | None:
    """The release before, while new items are embedded by it as well."""
    days = workspace.settings.promote.double_embed_days
    promoted = [entry for entry in entries if entry.action == "promote" and entry.release == number]
    earlier = history.before(entries, number) if promoted else None
    if (
        earlier is None
        or earlier.space not in workspace.gallery.tables()
        or datetime.now(UTC) - datetime.fromisoformat(promoted[-1].at) > timedelta(days=days)
    ):
        return None
    return None if kept.opened(workspace, earlier.release, check=False).adopted else earlier.release


class _Embedder:
    """A release with its program, ready to embed."""

    def __init__(self, workspace: Workspace, version: int, device: torch.device) -> None:
        self.version, self.release, self.device = version, kept.opened(workspace, version), device
        self.program = self.release.program(device)

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return programs.embed(self.program, images, device=self.device)

    @property
    def of(self) -> tuple[int, str]:
        return self.version, self.release.fingerprint


def _canaries(workspace: Workspace, own: _Embedder) -> None:
    if len(workspace.gallery.item_ids(role="canary")):
        return
    ids, images = own.release.canaries()
    empty, bits = [""] * len(ids), own.release.side_bits
    workspace.gallery.ingest(*own.of, ids, *own.embed(images), empty, empty, empty, role="canary", psi_bits=bits)


def still_there(gallery: Gallery, ids: np.ndarray) -> Callable[[], None]:
    """What is asked right before a write: these are items still. Who found an item there must not bring back what was deleted since."""

    def check() -> None:
        if not gallery.native_version_of(ids).all():
            raise OperationFailed("an item was deleted while it was being ingested again", todo="run the same command again")

    return check


def _readable(
    part: list[Arrival], release: Release, broken: Listed, duplicates: Listed, seen: dict[str, str]
) -> list[tuple[Arrival, np.ndarray]]:
    """The arrivals of a part whose image can be read; the others are listed in ``broken``, equal files in ``duplicates``."""
    whole = []
    for one in part:
        try:
            if one.id.startswith("canary:"):  # here, not where it is read: a gallery from before may hold such an item
                raise BadInput("an id cannot be stored", wanted="texts that do not begin with canary:", got=ascii(one.id)[:200])
            image, digest = one.read(release.size, release.mode)
        except BadInput as error:
            broken.append((one.id[:200].encode("utf-8", "backslashreplace").decode(), str(error)))
            continue
        first = seen.setdefault(digest, one.id)
        if first != one.id:
            duplicates.append((one.id, first))
        whole.append((one, image))
    return whole


def _write(
    workspace: Workspace, own: _Embedder, whole: list[tuple[Arrival, np.ndarray]], conflicts: Listed, broken: Listed
) -> tuple[int, int]:
    """Rows added and unchanged; ids that are there with another content go from ``whole`` to ``conflicts`` and stay as they are, and images
    whose vector cannot be used to ``broken``."""
    gallery, bits = workspace.gallery, own.release.side_bits
    phi, psi = own.embed(np.stack([image for _, image in whole]))
    flawed = flaws.find("its vector", phi, alike=True)
    if flawed.kinds:
        broken += flawed.listed(np.array([one.id for one, _ in whole], dtype=str))
        good = ~flawed.bad
        whole[:] = [one for one, fine in zip(whole, good, strict=True) if fine]
        phi, psi = phi[good], psi[good]
        if not whole:
            return 0, 0
    ids, *texts = (np.array([getattr(one, name) for one, _ in whole], dtype=str) for name in ("id", "label", "source", "uri"))
    natives = gallery.native_version_of(ids)
    gallery = gallery.fenced(still_there(gallery, ids[natives > 0]))
    differs = gallery.conflicts(own.version, ids, phi, psi, *texts)
    conflicts += [(str(one), str(what)) for one, what in zip(ids, differs, strict=True) if what]
    whole[:] = [one for one, what in zip(whole, differs, strict=True) if not what]
    new = (differs == "") & ((natives == own.version) | (natives == 0))
    found = Ingested(0, 0)
    if new.any():
        gallery.delete_leftovers(own.version, ids[new & (natives == 0)])
        found = gallery.ingest(*own.of, ids[new], phi[new], psi[new], *(text[new] for text in texts), psi_bits=bits)
        pixels = np.stack([image for _, image in whole])[new[differs == ""]]  # `whole` is without conflicts by now
        rereading.check_features(gallery, own.version, ids[new], pixels, own.embed)
    later = (differs == "") & (natives > own.version)  # embedded by a release that was rolled back: this one has nothing of them yet
    again = gallery.add_features(*own.of, ids[later], phi[later], psi[later], psi_bits=bits).added if later.any() else 0
    return found.added + again, int((differs == "").sum()) - found.added - again


def _write_again(workspace: Workspace, own: _Embedder, twin: _Embedder, whole: list[tuple[Arrival, np.ndarray]]) -> None:
    """Features by the release before, of the items that are native to the one that serves."""
    gallery, release = workspace.gallery, twin.release
    ids = np.array([one.id for one, _ in whole], dtype=str)
    todo = np.flatnonzero((gallery.native_version_of(ids) == own.version) & ~np.isin(ids, gallery.feature_ids(twin.version)))
    if not len(todo):
        return
    gallery = gallery.fenced(still_there(gallery, ids[todo]))
    same = (release.size, release.mode) == (own.release.size, own.release.mode)
    images = [whole[row][1] if same else whole[row][0].read(release.size, release.mode)[0] for row in todo]
    gallery.add_features(*twin.of, ids[todo], *twin.embed(np.stack(images)), psi_bits=release.side_bits)
