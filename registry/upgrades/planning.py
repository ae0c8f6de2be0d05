"""``fct plan``: what an upgrade would do and cost, before anything of it is written.

Every rate is measured now, on this machine, by the functions that the upgrade itself calls, on some hundred rows of the right
dimensions in a temporary folder. The workspace is only read. Counts are those of the live gallery and of params.yaml.

Legend: D, P, E old, side and new dimensions.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import numpy as np

from fct import children
from fct.errors import BadInput
from fct.gallery import indexing
from fct.release.examining import open_release
from fct.release.folder import Release
from registry.revisions import kept
from registry.upgrades.steps.contract import adopted_before
from registry.upgrades.timing import ID_BYTES, INDEXED, OneNative, Plan, timed
from registry.workspace import Workspace


def plan(workspace: Workspace, what: int | Path | None = None, *, said: Callable[[str], None] = lambda text: None) -> Plan:
    """Plan the upgrade of the live gallery to a release.

    Args:
        what: number of a registered version, or the folder of a release that is not registered; by default the newest version.
        said: told what is being measured.

    Raises:
        BadInput: no such version or folder; an empty gallery; nothing to carry over.
    """
    releases, gallery = workspace.releases, workspace.gallery
    if isinstance(what, Path):
        new, name, number = open_release(what), str(what), max((v.number for v in releases.versions()), default=0) + 1
    else:
        known = [v.number for v in releases.versions()]
        if what is None and not known:
            raise BadInput("no version is registered", todo="give the folder of a release, or register one")
        number = known[-1] if what is None else what
        new, name = kept.opened(workspace, number), f"version {number}"
    adopted_before(workspace, number)
    natives = [m for m in gallery.native_versions() if m < number] or [m for m in gallery.native_versions() if m == number]
    found = Plan(name, number, {m: len(gallery.item_ids(native_version=m)) for m in natives})
    if workspace.ledger.release() == number:
        raise BadInput(f"version {number} serves already", todo="there is nothing to upgrade")
    if not sum(found.rows.values()):
        raise BadInput("the gallery has nothing to carry over", todo="`fct ingest` or `fct adopt` first")
    with tempfile.TemporaryDirectory() as place:
        said("starting up")
        found.steps.append(("starting", _starting(), "Python, torch, MLflow"))
        for m in natives:
            said(f"items native to version {m}")
            with redirect_stderr(io.StringIO()):  # progress bars of what is only tried
                OneNative(workspace, new, m, Path(place), found).measure()
        said("index")
        with redirect_stderr(io.StringIO()):
            _index(workspace, new, natives, found)
    found.disk_free = shutil.disk_usage(workspace.folder).free
    found.memory_there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    prices = workspace.settings.plan
    rows = sum(found.rows.values())
    found.price = found.seconds / 3600 * prices.machine_hour
    found.avoided_price = found.avoided_seconds / 3600 * prices.machine_hour + rows / 1000 * prices.thousand_images
    if found.disk > found.disk_free:
        found.notes.append("the disk is too small")
    if found.memory > found.memory_there:
        found.notes.append("the memory is too small")
    return found


def _starting() -> float:
    """Seconds until the command is at work: what it imports, in a process of its own."""
    code = "import torch, mlflow, great_expectations, faiss, lance, flows.upgrade"
    return timed(lambda: children.run([sys.executable, "-c", code], capture=True))


def _index(workspace: Workspace, new: Release, natives: list[int], found: Plan) -> None:
    """Building the index of the whole space, timed on some rows of the gallery's own, turned into E dimensions."""
    settings, gallery = workspace.settings.index, workspace.gallery
    rows = sum(found.rows.values())
    kind = settings.kind_for(rows)
    ids = gallery.item_ids(native_version=natives[0])
    chosen = np.sort(np.random.default_rng(0).permutation(ids)[:INDEXED])
    phi = np.concatenate([batch.phi for batch in gallery.features(natives[0], ids=chosen)]).astype(np.float32)
    turned = phi @ np.random.default_rng(0).normal(size=(phi.shape[1], new.dim)).astype(np.float32)
    build = timed(lambda: indexing.build(turned, new.metric, replace(settings, kind=kind)))
    growth = np.log(max(rows, 2)) / np.log(max(len(turned), 2)) if kind == "hnsw" else 1.0
    digest = timed(lambda: gallery.snapshot("items"))
    found.steps.append(("index", build * rows / len(turned) * growth + 3 * digest, f"{kind} of {rows} rows, digests"))
    links = 8 * settings.hnsw_m if kind == "hnsw" else 0
    found.disk += rows * (4 * new.dim + links + ID_BYTES)
    found.memory = max(found.memory, rows * (3 * 4 * new.dim + links + 4 * ID_BYTES))
