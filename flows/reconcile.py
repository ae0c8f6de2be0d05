"""Re-read the registry, start what is to be started, and let the copies for people follow the facts."""

from __future__ import annotations

from typing import Any

from fct.errors import BadInput
from registry import facts, promotion
from registry.workspace import Workspace


def once(workspace: Workspace) -> list[dict[str, Any]]:
    """Find registered versions whose upgrade has work to do and run it, oldest first.

    Returns:
        one result for each version that was worked on (``version``, ``outcome`` …).
    """
    results = []
    for version in facts.waiting(workspace):
        from flows.upgrade import run

        try:
            results.append({"version": version} | run(workspace, version))
        except BadInput as error:
            if facts.statuses(workspace).get(version) != "invalid":
                raise
            results.append({"version": version, "outcome": "invalid", "problems": [str(error)]})
    if workspace.releases.versions():
        for sentence in promotion.follow(workspace):
            results.append({"version": None, "outcome": "corrected", "problems": [sentence]})
    return results
