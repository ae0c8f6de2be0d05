"""The upgrade as a Prefect flow. It decides when; what a step does is in :mod:`registry.upgrade`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from fct import audit
from registry import lock, publish
from registry.upgrade import Upgrade
from registry.workspace import Workspace, open_workspace

STEPS = ("contract", "embed", "fit", "transform", "index", "evaluate", "validate")


def image_folders(workspace: Workspace) -> list[str]:
    """Folders of the gallery items' images, as the items table names them."""
    if "items" not in workspace.gallery.tables():
        return []
    items = workspace.gallery.items()
    pairs = zip(items["role"], items["image_uri"], strict=True)
    return sorted({str(Path(uri).parent) for role, uri in pairs if role == "item" and uri})


@task(task_run_name="{step}", cache_policy=NO_CACHE, persist_result=False)
def run_step(upgrade: Upgrade, step: str) -> Any:
    """One step; finished ones are recognised and not done again."""
    print(f"{upgrade.workspace.settings.model} v{upgrade.version}: {step}", file=sys.stderr)
    return getattr(upgrade, step)()


@flow(name="upgrade", flow_run_name="{name}", persist_result=False)
def upgrade_flow(params: str, version: int, name: str) -> dict[str, Any]:
    """Carry the gallery to a registered version and put the candidate before people. Running it again continues."""
    workspace = open_workspace(params)
    settings = workspace.settings
    upgrade = Upgrade(workspace, version)
    holder = f"{os.environ.get('USER', 'somebody')}: upgrade to version {version}"
    with (
        lock.hold(workspace.locks, settings.model, holder, lease_s=settings.promote.lock_lease_s),
        audit.opened_below(image_folders(workspace)) as opened,
    ):
        result: Any = None
        for step in STEPS:
            result = run_step(upgrade, step)
        candidate = publish.publish(upgrade, len(opened))
    create_markdown_artifact(
        key=f"{settings.model}-v{version}".lower().replace("_", "-"),
        markdown=f"**{result['outcome']}**: {name}, verdict `{result['digest'][:12]}`, MLflow run `{candidate['run_id']}`",
    )
    return {
        "outcome": result["outcome"],
        "digest": result["digest"],
        "problems": result["problems"],
        "run_id": candidate["run_id"],
        "gallery_images_read": len(opened),
    }


def run(workspace: Workspace, version: int) -> dict[str, Any]:
    """Run the flow for one version."""
    serving = workspace.ledger.serving()
    steps = f"v{version}, first release" if serving is None else f"v{serving['release']} → v{version}"
    return upgrade_flow(str(workspace.params), version, f"{workspace.settings.model}: {steps}")  # type: ignore[no-any-return]
