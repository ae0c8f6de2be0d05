"""The worker: serves the flows *upgrade* and *reconcile* to Prefect's server, and runs them.

*reconcile* runs at every event of the receiver and on a schedule; it schedules *upgrade* runs, which people see under names such as
``icons: v1 → v2`` and can retry in Prefect's UI.

    python -m flows.worker --params params.yaml
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.states import Crashed

from flows import reconcile
from flows.receiver import EVENT, resource_of
from flows.upgrade import name_of, upgrade_flow
from registry import lock, running
from registry.releases import plain_name
from registry.workspace import Workspace, open_workspace

MOST_TRIES = 3  # a run that failed for reasons of the world is begun again by reconcile, so often in all
ALIVE = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)


@flow(name="reconcile", persist_result=False)
def reconcile_flow(params: str) -> list[dict[str, Any]]:
    """Look at the registry: carry out decisions, schedule upgrades, let MLflow's tags and alias follow. See flows/reconcile.py."""
    return reconcile.once(open_workspace(params), schedule)


def schedule(workspace: Workspace, version: int) -> dict[str, Any]:
    """Have the worker run the upgrade to ``version``, unless that run is there already."""
    name = plain_name(workspace.settings.model)
    with get_client(sync_client=True) as client:
        runs = [run for run in _runs(client, name) if run.parameters.get("version") == version]
        now = [run for run in runs if run.state_type in ALIVE]
        if now and now[0].state_type == StateType.RUNNING and lock.holder_of(workspace.locks, workspace.settings.model) is None:
            # its process is gone: a killed worker cannot say so itself
            client.set_flow_run_state(now[0].id, Crashed(message="the lock of this upgrade is free: its process has ended"), force=True)
            now = []
        if now:
            return {"outcome": "under way", "problems": [], "flow_run": str(now[0].id)}
        failed = [run for run in runs if run.state_type in (StateType.FAILED, StateType.CRASHED)]
        if len(failed) >= MOST_TRIES:
            problem = f"its upgrade failed {len(failed)} times; see {failed[0].name} in Prefect, then retry it there or type `fct upgrade {version}`"
            return {"outcome": "failed", "problems": [problem]}
        key = f"{name} v{version} {len(runs)}"  # two reconciles that saw the same runs schedule one
    run = run_deployment(
        f"upgrade/{name}",
        parameters={"params": str(workspace.params), "version": version, "name": name_of(workspace, version)},
        flow_run_name=name_of(workspace, version),
        timeout=0,
        idempotency_key=key,
        as_subflow=False,
    )
    return {"outcome": "scheduled", "problems": [], "flow_run": str(run.id)}  # type: ignore[union-attr]


def _runs(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """Runs of the deployment ``upgrade``, the latest first."""
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["upgrade"])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


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
        concurrency_limit=1,
        description=f"Carry the gallery of {model} to a registered version, up to its verdict.",
        tags=["fct"],
    )
    looking = await reconcile_flow.ato_deployment(
        name,
        parameters={"params": params},
        interval=workspace.settings.services.reconcile_every_s,
        paused=False,
        concurrency_limit=1,
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
    asyncio.run(serve(open_workspace(parser.parse_args().params)))


if __name__ == "__main__":
    main()
