"""The upgrade as Prefect's flow: the steps of :mod:`flows.upgrade`, where people see them, cancel them and try them again."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from fct import children
from fct.errors import OperationFailed
from flows import upgrade
from registry.mlflow.store import plain_name
from registry.report.description import escape
from registry.workspace import Workspace, open_workspace

seen_step = task(task_run_name="{step}", cache_policy=NO_CACHE, persist_result=False)(upgrade.do)


@flow(name="upgrade", flow_run_name="{name}", persist_result=False)
def upgrade_flow(params: str, version: int, name: str) -> dict[str, Any]:
    """Carry the gallery to a registered version and put the candidate before people. Running it again continues."""
    children.watch()
    workspace = open_workspace(params)
    upgrade.fetch(workspace, version)
    with upgrade.alone(workspace, version):
        carried = upgrade.carry(workspace, version, seen_step)
        _artifacts(workspace, version, name, carried)
    return upgrade.outcome(carried)


def _artifacts(workspace: Workspace, version: int, name: str, carried: dict[str, Any]) -> None:
    """What people see in Prefect's UI: where the candidate is, and a table of its gates."""
    key = f"{plain_name(workspace.settings.model)}-v{version}".lower()
    where = workspace.releases.page_of(version)
    create_markdown_artifact(
        key=key,
        markdown=f"**{carried['outcome']}**: {escape(name, 200)}, verdict `{carried['digest'][:12]}`\n\n"
        + (f"[The candidate in MLflow]({where}): read its description, then approve or reject there.\n\n" if where else "")
        + f"MLflow run `{carried['run_id']}`",
    )
    rows = [
        {"gate": gate["gate"], "of what": gate["subject"], "value": gate["value"], "bound": gate["bound"], "outcome": gate["outcome"]}
        for gate in carried["gates"]
    ]
    create_table_artifact(key=f"{key}-gates", table=rows, description=f"Gates of {escape(name, 200)}")


def seen_by_prefect(workspace: Workspace, version: int, api: str) -> dict[str, Any]:
    """Run the flow in this process. Raises :class:`~fct.errors.OperationFailed` where the server at ``api`` does not answer."""
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        todo = "start it (`fct up`), or unset PREFECT_API_URL: without a server the same steps run in the command itself"
        raise OperationFailed("the Prefect server of this workspace does not answer", got=problem, where=api, todo=todo)
    return upgrade_flow(str(workspace.params), version, upgrade.name_of(workspace, version))  # type: ignore[no-any-return]
