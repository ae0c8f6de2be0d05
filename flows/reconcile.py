"""Re-read the registry, start what is to be started, and let the copies for people follow the facts."""

from __future__ import annotations

from typing import Any

from fct.errors import FctError
from registry import facts, promotion
from registry.workspace import Workspace


def once(workspace: Workspace) -> list[dict[str, Any]]:
    """Find registered versions whose upgrade has work to do and run it, oldest first.

    Returns:
        one result for each version that was worked on (``version``, ``outcome`` …).
    """
    results: list[dict[str, Any]] = []
    failed: FctError | None = None
    tried: set[int] = set()
    while todo := [version for version in facts.waiting(workspace) if version not in tried]:
        from flows.upgrade import run

        version = todo[0]
        tried.add(version)
        try:
            results.append({"version": version} | run(workspace, version))
        except FctError as error:
            if facts.statuses(workspace).get(version) == "invalid":
                results.append({"version": version, "outcome": "invalid", "problems": [str(error)]})
            else:
                failed = failed or error  # one odd version must not keep the others waiting
    if workspace.releases.versions():
        for sentence in promotion.follow(workspace):
            results.append({"version": None, "outcome": "corrected", "problems": [sentence]})
    if failed is not None:
        raise failed
    return results
