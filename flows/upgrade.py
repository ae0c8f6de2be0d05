"""The upgrade, step by step. What a step does is in :mod:`registry.upgrades.steps`; here stands in which order, and what is tried again.

Without a Prefect server the steps run in the process of the command, with one as its flow (:mod:`flows.upgrade_flow`;
:func:`flows.upgrading.run` chooses): the same list, the same function for a step (docs/decisions/0009-steps-without-a-server.md).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fct import audit
from fct.errors import BadInput, NotPermitted, Unreachable
from registry import lock
from registry.mlflow.releases import Missing
from registry.revisions import alarm
from registry.upgrades.publish import publish
from registry.upgrades.steps.contract import contract
from registry.upgrades.steps.embed import embed
from registry.upgrades.steps.evaluate import evaluate
from registry.upgrades.steps.fit import fit
from registry.upgrades.steps.index import index
from registry.upgrades.steps.transform import transform
from registry.upgrades.steps.validate import validate
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace

RETRY_AFTER_S: list[float] = [2, 10, 30, 60, 120, 120]  # nearly six minutes
DOES: dict[str, Callable[..., Any]] = {
    "contract": contract,
    "embed": embed,
    "fit": fit,
    "transform": transform,
    "index": index,
    "evaluate": evaluate,
    "validate": validate,
    "publish": publish,
}
STEPS = tuple(DOES)
_held: dict[str, lock.Held] = {}  # locks of this process


def do(upgrade: Upgrade, step: str, *arguments: Any) -> Any:
    """One step; finished ones are recognised and not done again.

    Raises:
        Unreachable: the registry does not answer, also at the last of several tries. Bad input and full disks are not tried again.
    """
    print(f"{upgrade.workspace.settings.model} v{upgrade.version}: {step}", file=sys.stderr, flush=True)
    pauses = iter(RETRY_AFTER_S)
    while True:
        try:
            return DOES[step](upgrade, *arguments)
        except Unreachable as error:
            pause = next(pauses, None)
            if pause is None:
                raise
            print(f"{error}; trying again in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)


def carry(workspace: Workspace, version: int, step: Callable[..., Any] = do) -> dict[str, Any]:
    """Carry the gallery to a registered version and put the candidate before people. Running it again continues.

    Args:
        step: does one step, given the upgrade, its name and what only this step is given.

    Returns:
        the verdict, and of the candidate ``run_id`` and ``gallery_images_read``.
    """
    alarm.refuse(workspace)
    with alone(workspace, version) as mine, alarm.sounding(workspace), audit.opened_below(image_folders(workspace)) as opened:
        verdict, upgrade = dict[str, Any](), Upgrade(mine, version)
        for name in STEPS[:-1]:
            verdict = step(upgrade, name)
        candidate = step(upgrade, STEPS[-1], len(opened))
    return verdict | {"run_id": candidate["run_id"], "gallery_images_read": len(opened)}


def fetch(workspace: Workspace, version: int) -> None:
    """Have the files of a release here before the model's lock is taken: a store may be slow. What is wrong with them the step *contract* says.

    Raises:
        OperationFailed: the store does not give them now.
    """
    with suppress(Missing, Unreachable, NotPermitted, BadInput):
        workspace.releases.folder_of(version)


def image_folders(workspace: Workspace) -> list[str]:
    """Folders of the gallery items' images, as the items table names them."""
    if "items" not in workspace.gallery.tables():
        return []
    items = workspace.gallery.items()
    pairs = zip(items["role"], items["image_uri"], strict=True)
    return sorted({str(Path(uri).parent) for role, uri in pairs if role == "item" and uri})


@contextmanager
def alone(workspace: Workspace, version: int) -> Iterator[Workspace]:
    """Hold the model's lock, unless this process holds it already (:func:`flows.upgrading.run` around the flow): the workspace as its holder writes it."""
    key = str(workspace.locks / workspace.settings.model)
    if key in _held:
        yield workspace.fenced(_held[key].check)
        return
    holder = f"{os.environ.get('USER', 'somebody')}: upgrade to version {version}"
    with lock.hold(workspace.locks, workspace.settings.model, holder, lease_s=workspace.settings.promote.lock_lease_s) as held:
        _held[key] = held
        try:
            yield workspace.fenced(held.check)
        finally:
            del _held[key]


def name_of(workspace: Workspace, version: int) -> str:
    """What people call this upgrade: ``icons: v1 → v2``."""
    now = workspace.ledger.release()
    steps = f"v{version}, first release" if now is None else f"v{now} → v{version}"
    return f"{workspace.settings.model}: {steps}"


def outcome(carried: dict[str, Any]) -> dict[str, Any]:
    """What :func:`carry` returned, in a few words."""
    return {name: carried[name] for name in ("outcome", "digest", "problems", "run_id", "gallery_images_read")}
