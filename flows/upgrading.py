"""An upgrade in this process: under the model's lock, and as Prefect's run where its server is there."""

from __future__ import annotations

import os
from typing import Any

from flows import passwords, upgrade
from registry.workspace import Workspace


def run(workspace: Workspace, version: int, api: str | None = None) -> dict[str, Any]:
    """The whole upgrade to one version, in this process. The lock comes first: who is refused waits for nothing.

    Args:
        api: of the Prefect server that is to see it as a run; without one Prefect is not imported.

    Returns:
        ``outcome``, ``digest`` and ``problems`` of the verdict, ``run_id`` of the candidate in MLflow, ``gallery_images_read``.

    Raises:
        LockHeld: another process works on the model. OperationFailed: the Prefect server does not answer.
    """
    upgrade.fetch(workspace, version)
    with upgrade.alone(workspace, version):
        if api is None:
            return upgrade.outcome(upgrade.carry(workspace, version))
        os.environ["PREFECT_API_URL"] = api  # Prefect reads it when it is imported
        passwords.let_in(workspace, api)
        from flows.upgrade_flow import seen_by_prefect

        return seen_by_prefect(workspace, version, api)
