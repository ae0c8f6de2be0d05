"""A workspace in which version 1 serves and a later one waits for people: made without training and without MLflow.

Everything but the numbers of the verdict is real: releases, gallery, h, carried space, index, canaries, ledger, files of the upgrade.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fct import forward
from fct.arrays.files import write_json
from registry import formats
from registry.revisions import kept
from registry.revisions.building import pin
from registry.revisions.revision import read
from registry.upgrade_files import CANDIDATE, CONTRACT, PROMISE, REPORT, REVISION, TRANSFORM, VERDICT
from registry.upgrades.carrying import carry
from registry.upgrades.publish import approved_files
from registry.upgrades.steps.index import index
from registry.upgrades.steps.validate import _covers
from registry.upgrades.upgrade import Upgrade
from registry.verdicts import canaries
from registry.verdicts.verdict import digest_of
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import NoMlflow, at_door

IDS = [f"i{number:02}" for number in range(by_hand.ITEMS)]
CANARIES = [f"canary:c{number}" for number in range(8)]
ROWS = len(IDS) + len(CANARIES)


def waiting(folder: Path, version: int = 2) -> Workspace:
    """A later version is passed and published; nobody has decided anything. Versions between the two are registered alone."""
    workspace = by_hand.project(folder)
    door = at_door(workspace)
    releases = [by_hand.release_of(folder / "given" / f"v{number}", number) for number in range(1, version + 1)]
    for release in releases:
        door.register(release.folder, "file:///gallery")
    one = releases[0]
    phi = by_hand.add_items(workspace, one, IDS, 1)
    by_hand.add_items(workspace, one, CANARIES, 2, "canary")
    kept.keep(workspace, one)
    by_hand.append(workspace, "promote", pin(workspace, 1, "spaces/v1-native", one, {}))
    measured(workspace, version, phi, phi, turned(phi))
    return workspace


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """The same workspace in another folder, with what its door to MLflow knows: a test may change it, and the original is made once.

    Pictures of items stay where they are.
    """
    shutil.copytree(workspace.root, folder, dirs_exist_ok=True)
    found = Workspace(folder / workspace.params.name, workspace.settings)
    door = workspace.releases
    assert isinstance(door, NoMlflow)
    door.copy_to(at_door(found), workspace.root, folder)
    return found


def turned(phi: np.ndarray) -> np.ndarray:
    """(N, 8) what version 2 gives the items to which version 1 gives φ."""
    return np.ascontiguousarray(np.roll(phi, 3, axis=1))


def measured(workspace: Workspace, version: int, phi: np.ndarray, old: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """The upgrade's files as its steps leave them, up to the candidate in MLflow. Returns the verdict.

    Args:
        phi: (N, 8) of the items. old, new: (M, 8) pairs that h is fitted on.
    """
    upgrade = Upgrade(workspace, version)
    write_json(upgrade.folder / CONTRACT, {"ok": True, "problems": [], "champion": workspace.ledger.release()})
    h = forward.fit(old, new, method="procrustes", device="cpu")
    h.save(upgrade.forward_folder(1))
    pairs = upgrade.pairs_folder(1)
    (pairs / "canaries").mkdir(parents=True)
    asked = by_hand.rows(len(CANARIES), 2)
    for name, rows in (("ids", np.array(CANARIES)), ("old", asked), ("new", turned(asked))):
        np.save(pairs / "canaries" / f"{name}.npy", rows)
    write_json(pairs / "pairs.json", {})
    workspace.gallery.create_space(upgrade.space, by_hand.DIM, upgrade.new.fingerprint, {1: h.digest})
    carry(workspace, upgrade.space, version, {1: h})
    write_json(upgrade.folder / TRANSFORM, {"space": upgrade.space})
    index(upgrade)
    revision = read(upgrade.folder / REVISION)
    promise, native = canaries.promised(h, pairs, turned(phi), upgrade.new.metric)
    space = workspace.gallery.read_space(upgrade.space)
    result = canaries.ask(promise, native, np.array(CANARIES), space.ids, space.vectors, upgrade.new.metric, 0.02)
    said = canaries.as_json(canaries.Answered(promise, result))
    write_json(upgrade.folder / PROMISE, said)
    (upgrade.folder / REPORT).write_text("<p>what people read</p>", encoding="utf-8")
    return reached(workspace, version, covers=_covers(upgrade, revision, said, {}, "all right"))


def reached(workspace: Workspace, version: int, **changes: Any) -> dict[str, Any]:
    """Write down a verdict, passed unless ``changes`` say otherwise, and put it before people."""
    upgrade, door = Upgrade(workspace, version), workspace.releases
    assert isinstance(door, NoMlflow)
    verdict = {"format": formats.VERDICT, "model": "tiny", "version": version, "from": workspace.ledger.release(), "outcome": "passed"}
    verdict |= {"problems": [], "gates": [], "suite": {}, "metrics": {}, "covers": {}} | changes
    verdict |= {"digest": digest_of(verdict)}
    write_json(upgrade.folder / VERDICT, verdict)
    run = door.publish_candidate(version, {name: upgrade.folder / name for name in (VERDICT, REPORT)}, {}, "v1 → v2")
    said = {"run_id": run, "verdict": verdict["digest"], "forwards": {}, "files": approved_files(upgrade)}
    write_json(upgrade.folder / CANDIDATE, said)
    door.mark(version, verdict["outcome"], verdict["digest"])
    return verdict


def with_promote(workspace: Workspace, **changes: Any) -> Workspace:
    """The same workspace with other settings of the block ``promote``."""
    settings = replace(workspace.settings, promote=replace(workspace.settings.promote, **changes))
    found = replace(workspace, settings=settings)
    found.__dict__["_releases"] = workspace.releases
    return found
