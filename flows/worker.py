"""The worker: serves the flows *upgrade* and *reconcile* to Prefect's server, and runs them.

*reconcile* runs at every event of the receiver and on a schedule; it schedules *upgrade* runs, which people see under names such as
``icons: v1 → v2`` and can retry in Prefect's UI.

    python -m flows.worker --params params.yaml
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.states import Crashed

from fct import children
from fct.errors import printable
from flows import crashed, passwords, reconcile
from flows.receiver import EVENT, resource_of
from flows.upgrade import name_of
from flows.upgrade_flow import upgrade_flow
from registry import lock, running
from registry.mlflow.store import plain_name
from registry.workspace import Workspace, open_workspace

MOST_TRIES = 3  # an upgrade that fails is begun again by reconcile, so often in all
STARTING_S = 900.0  # what a run takes at most from being fetched to holding its lock, on a slow and busy machine
GOING = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
WAITING = (StateType.SCHEDULED, StateType.PAUSED)


@flow(name="reconcile", persist_result=False)
def reconcile_flow(params: str) -> list[dict[str, Any]]:
    """Look at the registry: carry out decisions, schedule upgrades, let MLflow's tags and alias follow. See flows/reconcile.py."""
    children.watch()
    results = reconcile.once(open_workspace(params), schedule)
    for one in results:
        where = f"version {one['version']}: " if one["version"] is not None else ""
        print(printable(f"{where}{one['outcome']} {'; '.join(one.get('problems', []))}".rstrip()), flush=True)
    return results


def schedule(workspace: Workspace, version: int) -> dict[str, Any]:
    """Have the worker run the upgrade to ``version``, unless an upgrade is there already or cannot begin yet."""
    name = plain_name(workspace.settings.model)
    holder = lock.holder_of(workspace.locks, workspace.settings.model)
    if holder is not None:
        return {"outcome": "waits", "problems": [f"{holder} works on the model{crashed.yet_alive(workspace, holder)}"]}
    if "items" not in workspace.gallery.tables() or not len(workspace.gallery.item_ids(role="item")):
        return {"outcome": "waits", "problems": ["the gallery is empty: `fct ingest` comes first"]}
    with get_client(sync_client=True) as client:
        found = _runs(client, "upgrade", name)
        for run in found:
            if run.state_type in GOING and _age_s(run) > STARTING_S:
                # nobody holds the lock, so its process has ended; a killed one cannot say so itself
                client.set_flow_run_state(run.id, Crashed(message="the lock of this upgrade is free: its process has ended"), force=True)
        runs = _runs(client, "upgrade", name)
    now = [run for run in runs if run.state_type in (*GOING, *WAITING)]
    if now:
        mine = now[0].parameters.get("version") == version
        return {"outcome": "under way" if mine else "waits", "problems": [] if mine else [f"{now[0].name} is first"]}
    mine = [run for run in runs if run.parameters.get("version") == version]
    if mine and mine[0].state_type == StateType.CANCELLED:
        return {
            "outcome": "cancelled",
            "problems": [f"somebody cancelled {mine[0].name} in Prefect; retry it there or type `fct upgrade {version}`"],
        }
    failed = [run for run in mine if run.state_type == StateType.FAILED]
    if len(failed) >= MOST_TRIES:
        problem = (
            f"its upgrade failed {len(failed)} times; see {failed[0].name} in Prefect, then retry it there or type `fct upgrade {version}`"
        )
        return {"outcome": "failed", "problems": [problem]}
    begun = run_deployment(
        f"upgrade/{name}",
        parameters={"params": str(workspace.params), "version": version, "name": name_of(workspace, version)},
        flow_run_name=name_of(workspace, version),
        timeout=0,
        # two looks that saw the same runs schedule one
        idempotency_key=f"{name} v{version} after {mine[0].id if mine else 'none'}",
        as_subflow=False,
    )
    return {"outcome": "scheduled", "problems": [], "flow_run": str(begun.id)}  # type: ignore[union-attr]


def _age_s(run: FlowRun) -> float:
    """Seconds since the run came into its state."""
    return (datetime.now(UTC) - run.state.timestamp).total_seconds() if run.state is not None else float("inf")


def _runs(client: SyncPrefectClient, flow_name: str, name: str) -> list[FlowRun]:
    """Runs of a deployment, the latest first."""
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


def clear(workspace: Workspace) -> None:
    """Runs that an earlier worker left behind when it was ended are said to have crashed: nothing else would ever say so."""
    name = plain_name(workspace.settings.model)
    idle = lock.holder_of(workspace.locks, workspace.settings.model) is None
    with get_client(sync_client=True) as client:
        for flow_name in ("reconcile", "upgrade"):
            for run in _runs(client, flow_name, name):
                if run.state_type in GOING and (flow_name == "reconcile" or idle):
                    client.set_flow_run_state(run.id, Crashed(message="its worker was ended"), force=True)


async def serve(workspace: Workspace) -> None:
    """Tell Prefect's server of both flows and run what it schedules, until ended."""
    from prefect.events import DeploymentEventTrigger
    from prefect.runner import Runner

    model, params = workspace.settings.model, str(workspace.params)
    name = plain_name(model)
    runner = Runner(name=f"fct-{name}", limit=4, pause_on_shutdown=False)  # a paused deployment would stay paused at the next `fct up`
    upgrade = await upgrade_flow.ato_deployment(
        name,
        paused=False,
        description=f"Carry the gallery of {model} to a registered version, up to its verdict.",
        tags=["fct"],
    )
    looking = await reconcile_flow.ato_deployment(
        name,
        parameters={"params": params},
        interval=workspace.settings.services.reconcile_every_s,
        paused=False,
        triggers=[
            DeploymentEventTrigger(
                name=f"fct {name}: the registry changed",
                expect={EVENT},
                match={"prefect.resource.id": resource_of(model)},
                parameters={"params": params},
            )
        ],
        description="Look at the registry, carry out decisions, schedule upgrades.",
        tags=["fct"],
    )
    for deployment in (upgrade, looking):
        await runner.aadd_deployment(deployment)
    (running.folder_of(workspace.folder) / "worker.ready").touch()
    await runner.start()


def main() -> None:
    """Serve until ended."""
    import argparse
    import asyncio

    parser = argparse.ArgumentParser(prog="python -m flows.worker", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--params", default="params.yaml")
    workspace = open_workspace(parser.parse_args().params)
    if passwords.prefect_api(workspace) is None:
        parser.error("PREFECT_API_URL is not set: where does the Prefect server answer?")
    os.environ.update(children.environment())  # the runs that Prefect's runner starts work for this process
    clear(workspace)
    asyncio.run(serve(workspace))


if __name__ == "__main__":
    main()
