"""What Prefect says of the one who holds the model's lock: it calls a run crashed whose heartbeats were late, and its process may live.

Nothing is decided by it. The lock says who lives and keeps others from the work; this is the sentence for people who read both.
"""

from __future__ import annotations

import os

from flows import passwords
from registry.lock import Lease
from registry.workspace import Workspace


def yet_alive(workspace: Workspace, holder: Lease | None) -> str:
    """A clause that names the holder's run where Prefect calls it crashed; empty where it does not, or cannot be asked."""
    api = passwords.prefect_api(workspace)
    if holder is None or api is None:
        return ""
    passwords.let_in(workspace, api)
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    password = os.environ.get(passwords.PREFECT_PASSWORD)
    told = {PREFECT_API_URL: api} | ({PREFECT_API_AUTH_STRING: password} if password else {})
    try:
        with temporary_settings(told), get_client(sync_client=True) as client:
            upgrades = FlowFilter(name=FlowFilterName(any_=["upgrade"]))
            runs = client.read_flow_runs(flow_filter=upgrades, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200)
    except Exception:  # whatever its client raises: what is so stands without it
        return ""
    runs = [run for run in runs if run.parameters.get("params") == str(workspace.params)]
    mine = [run for run in runs if holder.holder.endswith(f"upgrade to version {run.parameters.get('version')}")]
    if any(run.state is None or not run.state.is_final() for run in mine):
        return ""  # this is the holder's, and the others are over
    late = [run.name for run in mine if run.state is not None and run.state.is_crashed() and run.state.timestamp.timestamp() > holder.since]
    return f"; Prefect says that its run {late[0]!r} crashed, but its process lives, and what it does counts" if late else ""
