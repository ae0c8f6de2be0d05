"""A workspace in which two releases have served, made in a moment: adopted releases, a small gallery, and no MLflow anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fct.gallery.names import forward_origin, space_name
from fct.gallery.state import TableState
from fct.release.folder import Release
from fct.release.writing import write_adopted
from registry.revisions import kept
from registry.revisions.building import pin
from registry.revisions.history import numbered
from registry.revisions.revision import IndexState, Revision
from registry.workspace import Workspace, open_workspace

ROOT = Path(__file__).parents[1]
DIM, ITEMS = 8, 40
NOWHERE = "http://127.0.0.1:9"  # nobody listens on the port "discard"


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def release_of(folder: Path, version: int) -> Release:
    canaries = [f"c{number}" for number in range(8)]
    content = f"the vectors of version {version}"
    return write_adopted(folder, dim=DIM, side_bits=[8] * 4, metric="cosine", normalised=False, content=content, canary_ids=canaries)


def project(folder: Path) -> Workspace:
    """A project's folder whose tracking server is nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"model": "tiny", "threads": 1, "device": "cpu", "tracking_uri": NOWHERE}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return open_workspace(folder / "params.yaml")


def add_items(workspace: Workspace, release: Release, ids: list[str], seed: int, role: str = "item", native: int = 1) -> np.ndarray:
    """φ (N, 8) of new items, native to version 1 and in its space (or to another one)."""
    phi, texts = rows(len(ids), seed), [f"label {seed}"] * len(ids)
    psi = np.ones((len(ids), 4), dtype=np.int8)
    workspace.gallery.ingest(native, release.fingerprint, ids, phi, psi, texts, texts, texts, role)
    space = f"spaces/v{native}-native"
    workspace.gallery.create_space(space, DIM, release.fingerprint, {})
    workspace.gallery.append_space(space, ids, phi, "native", np.zeros(len(ids)))
    return phi


def revision_of(release: int, number: int = 1, space: str = "", index: str = "", **more: Any) -> Revision:
    """A revision as an entry may name it; of what it names nothing is there."""
    space = space or f"spaces/v{release}-native"
    about = {"identity": "i", "content": "c", "rows": 0, "build": {}, "files": {}}
    tables = {space: TableState(space, 1, 0, "c", {})}
    known: dict[str, Any] = {"release": release, "fingerprint": f"f{release}", "release_digest": f"d{release}", "forward": {}}
    known |= {"spaces": (space,), "tables": tables, "indexes": (IndexState(index, about),), "number": number, "verdict": f"v{release}"}
    return Revision(**known | more)


def append(workspace: Workspace, action: str, revision: Revision) -> None:
    ledger = workspace.ledger
    serving = numbered(revision, ledger.entries(), "a verdict").to_json()
    ledger.append(ledger.head(), action=action, by="ana", why="", model="tiny", serving=serving)


def two_releases(folder: Path) -> Workspace:
    """Version 2 serves items ``i00`` … ``i39`` carried over from version 1, which served before."""
    workspace = project(folder)
    one, two = (release_of(folder / "releases" / f"v{version}", version) for version in (1, 2))
    ids = [f"i{number:02}" for number in range(ITEMS)]
    phi = np.concatenate([add_items(workspace, one, ids, 1), add_items(workspace, one, [f"canary:c{n}" for n in range(8)], 2, "canary")])
    kept.keep(workspace, one)
    append(workspace, "promote", pin(workspace, 1, "spaces/v1-native", one, {}))
    carried = space_name(2, {1: "ab" * 32})
    workspace.gallery.create_space(carried, DIM, two.fingerprint, {1: "ab" * 32})
    every = [*ids, *(f"canary:c{n}" for n in range(8))]
    workspace.gallery.append_space(carried, every, phi[:, ::-1].copy(), forward_origin(1, 2), np.zeros(len(every)))
    kept.keep(workspace, two)
    append(workspace, "promote", pin(workspace, 2, carried, two, {1: "ab" * 32}))
    return workspace
