"""Facts about the versions of a model, gathered from contract, verdict, tags and ledger; the status follows from them."""

from __future__ import annotations

from fct.files import read_json
from registry import approval
from registry.status import Facts, Status, derive
from registry.workspace import Workspace


def gather(workspace: Workspace) -> dict[int, Facts]:
    """Version → what is known about it."""
    versions = workspace.releases.versions()
    entries = workspace.ledger.entries()
    served = {int(e.serving["release"]) for e in entries if e.serving}
    serving = entries[-1].serving if entries else None
    now = None if serving is None else int(serving["release"])
    contracts = {}
    for version in versions:
        path = workspace.upgrade_folder(version.number) / "contract.json"
        contracts[version.number] = read_json(path) if path.exists() else {"ok": None, "problems": []}
    facts = {}
    for version in versions:
        n = version.number
        folder = workspace.upgrade_folder(n)
        path = folder / "verdict" / "verdict.json"
        verdict = read_json(path) if path.exists() else None
        newer = [v.number for v in versions if v.number > n and contracts[v.number]["ok"] is not False]
        facts[n] = Facts(
            contract_ok=contracts[n]["ok"],
            problems=tuple(contracts[n]["problems"]),
            forward_ready=(folder / "transform.json").exists(),
            verdict=verdict["outcome"] if verdict else None,
            approved=verdict is not None and isinstance(approval.read(version.tags, verdict["digest"]), approval.Approval),
            rejected=approval.read_rejection(version.tags) is not None,
            is_serving=now == n,
            was_serving=n in served,
            newer_version_exists=bool(newer),
            newer_is_serving=now is not None and now > n,
        )
    return facts


def statuses(workspace: Workspace) -> dict[int, Status]:
    """Version → status."""
    return {version: derive(facts) for version, facts in gather(workspace).items()}


def waiting(workspace: Workspace) -> list[int]:
    """Versions whose upgrade has work to do, oldest first: registered or fitted, and newer than what serves."""
    if not workspace.releases.is_ours():
        return []
    return [version for version, status in statuses(workspace).items() if status in (Status.REGISTERED, Status.FITTED)]
