"""Where the bytes of deleted items may still be, and how they leave: the second half of ``fct delete --purge``."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fct import digests, tables, vectors
from fct.errors import BadInput
from fct.files import read_json, whole_file, whole_folder
from fct.gallery import Gallery
from fct.vectors import normalise
from registry.report.review import plain
from registry.revision import Revision
from registry.workspace import Workspace

SHORT = 6  # bytes; a shorter id is found by chance in any file
SEARCHED = 200  # ids whose bytes are searched for; of more, a random part
HEAD = 32  # first bytes of a vector: enough to be no chance, and never cut by a page
CHUNK = 1 << 24
GONE = '<td class="mono">(deleted)</td>'


def compact(gallery: Gallery) -> None:
    """Rewrite every table without its deleted rows, as a new version; the old versions still hold them until :func:`scrub`."""
    for name in gallery.tables():
        tables.compact(gallery.root, name)


def needles(gallery: Gallery, ids: np.ndarray) -> list[bytes]:
    """What to look for: ids as text, JSON, HTML and numpy write them, and the first bytes of their φ, ψ and space vectors.

    A vector that a living item has too (the same picture under another id) is no trace of the deleted one, and is left out.
    """
    chosen = ids if len(ids) <= SEARCHED else np.random.default_rng(0).choice(ids, SEARCHED, replace=False)
    found: set[bytes] = set()
    for one in chosen.tolist():
        texts = {one, json.dumps(one)[1:-1], html.escape(one, quote=True)}
        found |= {text.encode() for text in texts if len(text.encode()) >= SHORT}
        found |= {one.encode("utf-32-le")} if len(one.encode()) >= SHORT else set()
    for name in gallery.tables():
        if name == "items":
            continue
        at = _version_with(gallery, name, chosen)
        rows = gallery.raw(name, at)
        mine = np.isin(rows["id"], chosen)
        others = ~mine & ~np.char.startswith(rows["id"], "canary:")  # a canary that is a copy of an item is a trace of it
        for column in ("phi", "psi", "vector"):
            if column in rows and mine.any():
                for values in (rows[column], normalise(rows[column]) if column == "vector" else rows[column]):
                    heads = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
                    heads = heads if column == "psi" else heads[:, :HEAD]  # codes are small numbers: only the whole row is no chance
                    living = {row.tobytes() for row in heads[others]}
                    found |= {row.tobytes() for row in heads[mine]} - living
    return sorted(found)


def _version_with(gallery: Gallery, name: str, ids: np.ndarray) -> int | None:
    """The newest version of a table that has rows of these ids: they may have been deleted before, and not purged."""
    for version in reversed(tables.versions(gallery.root, name)):
        if np.isin(ids, gallery.table_ids(name, version)).any():
            return version
    return None


def search(folder: Path, wanted: list[bytes]) -> tuple[list[str], int]:
    """Files below ``folder`` that hold one of the byte strings, relative and sorted, and how many strings were looked for."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    overlap = max((len(one) for one in wanted), default=1) - 1
    left = []
    with tqdm(total=sum(_size(path) for path in files), desc="looking for bytes", unit="B", unit_scale=True, mininterval=1) as bar:
        for path in files if wanted else []:
            tail = b""
            try:
                with path.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        block = tail + chunk
                        if any(one in block for one in wanted):
                            left.append(path.relative_to(folder).as_posix())
                            break
                        tail = block[-overlap:] if overlap else b""
                        bar.update(len(chunk))
            except FileNotFoundError:
                continue  # a server's own, gone meanwhile
    return left, len(wanted)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a server's own, gone meanwhile


def scrub(workspace: Workspace, ids: np.ndarray, kept: dict[int, Revision]) -> list[int]:
    """Remove old table versions, old indexes, and the items' rows in what upgrades have written, here and in MLflow.

    Args:
        kept: release → its newest revision, which names the versions and indexes that stay.

    Returns:
        versions that have never served, whose verdict was about rows that are gone. It is removed, so that the next
        `fct reconcile --once` measures them again.
    """
    gallery, model = workspace.gallery, workspace.settings.model
    for name in gallery.tables():
        tables.forget_versions(gallery.root, name)
    living = gallery.item_ids()
    stays = {workspace.folder / revision["index"]["folder"] for revision in kept.values()}
    for folder in (workspace.folder / "indexes" / model).glob("*"):
        if folder not in stays and _holds_deleted(folder, living):
            shutil.rmtree(folder)
    void = []
    for folder in sorted((workspace.folder / "upgrades").glob(f"{model}-v*")):
        version = re.fullmatch(re.escape(model) + r"-v(\d+)", folder.name)
        if version is None:
            continue
        if int(version[1]) not in kept and (folder / "revision.json").exists():
            void.append(int(version[1]))
            shutil.rmtree(folder / "verdict", ignore_errors=True)
            (folder / "revision.json").unlink()
        _scrub_upgrade(workspace, folder, int(version[1]), ids)
    return void


def _holds_deleted(folder: Path, living: np.ndarray) -> bool:
    try:
        ids = np.char.decode(np.load(folder / "ids.npy", allow_pickle=False), "utf-8")
    except (OSError, ValueError):
        return True  # damaged or half written: it serves nobody
    return not bool(np.isin(ids, living).all())


def _scrub_upgrade(workspace: Workspace, folder: Path, version: int, ids: np.ndarray) -> None:
    items = folder / "verdict" / "items.npz"
    if items.exists():
        with np.load(items, allow_pickle=False) as data:
            rows = {name: data[name] for name in data.files}
        keep = ~np.isin(rows["ids"], ids)
        if not keep.all():
            with whole_file(items) as part, part.open("wb") as file:
                np.savez(file, **{name: values[keep] for name, values in rows.items()})  # type: ignore[arg-type]
    _scrub_adopted(folder / f"pairs-v{version}", ids)
    shutil.rmtree(folder / "rehearsal", ignore_errors=True)  # of a revision whose table versions are gone now
    page = folder / "report.html"
    if page.exists():
        _scrub_report(page, ids)
    for run in workspace.releases.candidate_runs(version):  # one a verdict, and each has its report
        with suppress(BadInput):  # a run that was cut short has none
            copy = workspace.folder / "cache" / f"purge-{run}" / page.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(workspace.releases.candidate_file(run, page.name), copy)
            if _scrub_report(copy, ids):
                workspace.releases.replace_candidate_file(run, copy)
        shutil.rmtree(workspace.folder / "cache" / f"purge-{run}", ignore_errors=True)


def _scrub_adopted(pairs: Path, ids: np.ndarray) -> None:
    """An adopted release is asked with rows of its own gallery: without those of the items."""
    if not (pairs / "pairs.json").exists() or not read_json(pairs / "pairs.json").get("adopted"):
        return
    arrays = {path.name: np.load(path, allow_pickle=False) for path in sorted((pairs / "sample").glob("*.npy"))}
    keep = ~np.isin(arrays["ids.npy"], ids)
    if not keep.all():
        with whole_folder(pairs / "sample") as part:
            for name, rows in arrays.items():
                vectors.save(part / name, rows[keep])


def rewritten(workspace: Workspace, ids: np.ndarray, kept: Iterable[int]) -> dict[str, dict[str, str]]:
    """What :func:`scrub` will change of what people have approved: version → file → digest of its bytes afterwards.

    The purge's entry in the ledger names it, so that a promotion takes these bytes and no others.
    """
    found = {}
    for version in kept:
        page = workspace.upgrade_folder(version) / "report.html"
        if page.exists():
            text = page.read_text(encoding="utf-8")
            if (after := _without(text, ids)) != text:
                found[str(version)] = {page.name: digests.of_bytes(after.encode())}
    return found


def _scrub_report(page: Path, ids: Iterable[str]) -> bool:
    text = page.read_text(encoding="utf-8")
    after = _without(text, ids)
    if after == text:
        return False
    with whole_file(page) as part:
        part.write_text(after, encoding="utf-8")
    return True


def _without(text: str, ids: Iterable[str]) -> str:
    """Blank the ids in the table of the least certain items, the one place where a report names gallery items."""
    for one in ids:
        for shown in {html.escape(plain(str(one), 200)), html.escape(plain(str(one), 200), quote=False)}:
            text = text.replace(f'<td class="mono">{shown}</td>', GONE)
    return text
