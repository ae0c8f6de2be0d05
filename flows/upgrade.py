"""The upgrade as a Prefect flow. It decides when; what a step does is in :mod:`registry.upgrade`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from fct import audit
from fct.errors import Unreachable
from registry import lock, publish
from registry.releases import plain_name
from registry.report.description import escape
from registry.upgrade import Upgrade
from registry.workspace import Workspace, open_workspace

RETRY_AFTER_S: list[float] = [2, 10, 30, 60, 120, 120]  # nearly six minutes
_held: set[str] = set()  # locks of this process
STEPS = ("contract", "embed", "fit", "transform", "index", "evaluate", "validate")


def image_folders(workspace: Workspace) -> list[str]:
    """Folders of the gallery items' images, as the items table names them."""
    if "items" not in workspace.gallery.tables():
        return []
    items = workspace.gallery.items()
    pairs = zip(items["role"], items["image_uri"], strict=True)
    return sorted({str(Path(uri).parent) for role, uri in pairs if role == "item" and uri})


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether a step failed for a reason that passes by itself (the registry is down). Bad input and full disks do not."""
    try:
        state.result()
    except Unreachable as error:
        print(f"{error}; trying again", file=sys.stderr)
        return True
    except BaseException:
        return False
    return False


@task(
    task_run_name="{step}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_AFTER_S),
    retry_delay_seconds=RETRY_AFTER_S,
    retry_condition_fn=worth_retrying,
)
def run_step(upgrade: Upgrade, step: str, *arguments: Any) -> Any:
    """One step; finished ones are recognised and not done again."""
    print(f"{upgrade.workspace.settings.model} v{upgrade.version}: {step}", file=sys.stderr)
    return publish.publish(upgrade, *arguments) if step == "publish" else getattr(upgrade, step)()


@contextmanager
def alone(workspace: Workspace, version: int) -> Iterator[None]:
    """Hold the model's lock, unless this process holds it already (:func:`run` around the flow)."""
    key = str(workspace.locks / workspace.settings.model)
    if key in _held:
        yield
        return
    holder = f"{os.environ.get('USER', 'somebody')}: upgrade to version {version}"
    with lock.hold(workspace.locks, workspace.settings.model, holder, lease_s=workspace.settings.promote.lock_lease_s):
        _held.add(key)
        try:
            yield
        finally:
            _held.discard(key)


@flow(name="upgrade", flow_run_name="{name}", persist_result=False)
def upgrade_flow(params: str, version: int, name: str) -> dict[str, Any]:
    """Carry the gallery to a registered version and put the candidate before people. Running it again continues."""
    workspace = open_workspace(params)
    upgrade = Upgrade(workspace, version)
    with (
        alone(workspace, version),
        audit.opened_below(image_folders(workspace)) as opened,
    ):
        result: Any = None
        for step in STEPS:
            result = run_step(upgrade, step)
        candidate: dict[str, Any] = run_step(upgrade, "publish", len(opened))  # type: ignore[assignment]
    _artifacts(workspace, version, name, result, candidate)
    return {
        "outcome": result["outcome"],
        "digest": result["digest"],
        "problems": result["problems"],
        "run_id": candidate["run_id"],
        "gallery_images_read": len(opened),
    }


def _artifacts(workspace: Workspace, version: int, name: str, verdict: dict[str, Any], candidate: dict[str, Any]) -> None:
    """What people see in Prefect's UI: where the candidate is, and a table of its gates."""
    key = f"{plain_name(workspace.settings.model)}-v{version}".lower()
    where = workspace.releases.page_of(version)
    create_markdown_artifact(
        key=key,
        markdown=f"**{verdict['outcome']}**: {escape(name, 200)}, verdict `{verdict['digest'][:12]}`\n\n"
        + (f"[The candidate in MLflow]({where}): read its description, then approve or reject there.\n\n" if where else "")
        + f"MLflow run `{candidate['run_id']}`",
    )
    rows = [
        {"gate": gate["gate"], "of what": gate["subject"], "value": gate["value"], "bound": gate["bound"], "outcome": gate["outcome"]}
        for gate in verdict["gates"]
    ]
    create_table_artifact(key=f"{key}-gates", table=rows, description=f"Gates of {escape(name, 200)}")


def name_of(workspace: Workspace, version: int) -> str:
    """What people call this upgrade: ``icons: v1 → v2``."""
    serving = workspace.ledger.serving()
    steps = f"v{version}, first release" if serving is None else f"v{serving['release']} → v{version}"
    return f"{workspace.settings.model}: {steps}"


def run(workspace: Workspace, version: int) -> dict[str, Any]:
    """Run the flow for one version. The lock comes first: who is refused need not wait for Prefect to start."""
    with alone(workspace, version):
        return upgrade_flow(str(workspace.params), version, name_of(workspace, version))  # type: ignore[no-any-return]
