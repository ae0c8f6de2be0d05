"""Where the bytes of deleted items may still be, and how they leave: the second half of ``fct delete --purge``."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests, vectors
from fct.arrays.files import whole_file, whole_folder
from fct.gallery import tables
from fct.gallery.gallery import Gallery
from fct.sample.folder import PairsFolder
from registry.items import traces
from registry.items.debts import GONE
from registry.report.review import plain
from registry.revisions.revision import Revision, readable
from registry.upgrade_files import ITEMS, REPORT, REVISION
from registry.workspace import Workspace


def compact(gallery: Gallery) -> None:
    """Rewrite every table without its deleted rows, as a new version; the old versions still hold them until they are dropped."""
    for name in gallery.tables():
        tables.compact(gallery.root, name)


def going(workspace: Workspace, kept: list[Revision], served: Collection[int]) -> dict[str, Any]:
    """What a purge removes, by name, for its entry in the ledger: ``versions`` of tables, ``folders`` of indexes and rehearsals, and
    ``void``: version that has never served → digest of its ``revision.json``, where that names some of it. Its verdict was about rows
    that are gone (:func:`registry.versions.facts.void`), and the next `fct reconcile --once` measures it again.

    Args:
        kept: the newest revisions, without the items, of all releases that can serve: their versions and indexes stay.
        served: releases that have served; their verdicts are history.
    """
    gallery, model, living = workspace.gallery, workspace.settings.model, workspace.gallery.item_ids()
    versions = {}
    for name in gallery.tables():
        wanted = {one.tables[name].version for one in kept if name in one.tables}
        if old := tables.old_versions(gallery.root, name, wanted):
            versions[name] = old
    stays = {workspace.folder / one.index.folder for one in kept}
    indexes = (workspace.folder / "indexes" / model).glob("*")
    folders = [path for path in indexes if path not in stays and _holds_deleted(path, living)]
    void = {}
    for version, folder in _upgrades(workspace):
        folders += folder.glob("rehearsal*")  # of a revision whose table versions go
        revision = readable(folder / REVISION)
        if revision is None or version in served:
            continue
        doomed = any(state.version in versions.get(name, ()) for name, state in revision.tables.items())
        if doomed or workspace.folder / revision.index.folder in folders:
            void[str(version)] = digests.of_file(folder / REVISION)
    names = sorted(path.relative_to(workspace.folder).as_posix() for path in folders)
    return {key: value for key, value in (("versions", versions), ("folders", names), ("void", void)) if value}


def scrub(workspace: Workspace, ids: np.ndarray, check: Callable[[], None]) -> None:
    """Take the items' rows out of what upgrades have written here (in MLflow: :mod:`registry.items.debts`).

    Args:
        check: raises where somebody else works on the gallery meanwhile; asked before each file is exchanged.
    """
    for version, folder in _upgrades(workspace):
        _scrub_upgrade(folder, version, ids, check)


def _upgrades(workspace: Workspace) -> list[tuple[int, Path]]:
    """Version and folder of every upgrade of the model."""
    model, folders = workspace.settings.model, sorted((workspace.folder / "upgrades").glob("*"))
    found = [(re.fullmatch(re.escape(model) + r"-v(\d+)", folder.name), folder) for folder in folders]
    return [(int(match[1]), folder) for match, folder in found if match]


def _holds_deleted(folder: Path, living: np.ndarray) -> bool:
    try:
        ids = np.char.decode(np.load(folder / "ids.npy", allow_pickle=False), "utf-8")
    except (OSError, ValueError):
        return True  # damaged or half written: it serves nobody
    return not bool(np.isin(ids, living).all())


def _scrub_upgrade(folder: Path, version: int, ids: np.ndarray, check: Callable[[], None]) -> None:
    items = folder / ITEMS
    if items.exists():
        with np.load(items, allow_pickle=False) as data:
            rows = {name: data[name] for name in data.files}
        keep = ~np.isin(rows["ids"], ids)
        if not keep.all():
            with whole_file(items) as part, part.open("wb") as file:
                np.savez(file, **{name: values[keep] for name, values in rows.items()})  # type: ignore[arg-type]
                check()
    for pairs in folder.glob("pairs-v*"):
        _scrub_pairs(pairs, ids, check)
    page = folder / REPORT
    if page.exists():
        _scrub_report(page, ids, check)


def _scrub_pairs(pairs: Path, ids: np.ndarray, check: Callable[[], None]) -> None:
    """What h is fitted and judged on, without rows of these ids: an adopted release's own gallery, or images that are items as well."""
    folder = PairsFolder(pairs)
    if not folder.about_file.exists() or traces.given(pairs):
        return
    about = folder.about()
    for part, names in (("fitting", "sources"), ("pool", "sources"), ("sample", "ids"), ("gallery", "ids")):
        if not folder.has(part, names):
            continue
        arrays = {path.name: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted((pairs / part).glob("*.npy"))}
        keep = ~np.isin(arrays[f"{names}.npy"], ids)
        if not keep.all():
            with whole_folder(pairs / part) as rest:
                for name, rows in arrays.items():
                    vectors.save(rest / name, rows[keep])
                check()
            about["counts"] |= {part: int(keep.sum())} if part in about["counts"] else {}
    if about != folder.about():
        folder.describe(about)


def rewritten(workspace: Workspace, ids: np.ndarray, kept: Iterable[int]) -> dict[str, dict[str, str]]:
    """What :func:`scrub` will change of what people have approved: version → file → digest of its bytes afterwards.

    The purge's entry in the ledger names it, so that a promotion takes these bytes and no others.
    """
    found = {}
    for version in kept:
        page = workspace.upgrade_folder(version) / REPORT
        if page.exists():
            text = page.read_text(encoding="utf-8")
            if (after := _without(text, ids)) != text:
                found[str(version)] = {page.name: digests.of_bytes(after.encode())}
    return found


def _scrub_report(page: Path, ids: Iterable[str], check: Callable[[], None]) -> bool:
    text = page.read_text(encoding="utf-8")
    after = _without(text, ids)
    if after == text:
        return False
    with whole_file(page) as part:
        part.write_text(after, encoding="utf-8")
        check()
    return True


def _without(text: str, ids: Iterable[str]) -> str:
    """Blank the ids in the table of the least certain items, the one place where a report names gallery items."""
    for one in ids:
        for shown in {html.escape(plain(str(one), 200)), html.escape(plain(str(one), 200), quote=False)}:
            text = text.replace(f'<td class="mono">{shown}</td>', GONE)
    return text
