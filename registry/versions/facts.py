"""Facts about the versions of a model, gathered from contract, verdict, tags and ledger; the status follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fct.arrays import digests
from fct.arrays.files import read_json
from fct.errors import BadInput, NotPermitted
from registry.entry import Entry, approved_verdict, decided
from registry.mlflow.store import Version
from registry.revisions import history, names
from registry.revisions.revision import read
from registry.upgrade_files import CANDIDATE, CONTRACT, REVISION, TRANSFORM, VERDICT
from registry.verdicts.verdict import digest_of
from registry.versions import approval
from registry.versions.status import Facts, Status, derive
from registry.workspace import Workspace


def gather(workspace: Workspace, versions: list[Version] | None = None) -> dict[int, Facts]:
    """Version → what is known about it; of ``versions`` as MLflow said them, by default as it says now."""
    versions = workspace.releases.versions() if versions is None else versions
    approvers = workspace.settings.promote.approvers
    entries = workspace.ledger.entries()
    decisions = decided(entries)
    served, now = {entry.release for entry in entries}, entries[-1].release if entries else None
    contracts = {}
    for version in versions:
        path = workspace.upgrade_folder(version.number) / CONTRACT
        contracts[version.number] = read_json(path) if path.exists() else {"ok": None, "problems": []}
    facts = {}
    for version in versions:
        n = version.number
        folder = workspace.upgrade_folder(n)
        path = folder / VERDICT
        verdict = None if void(workspace, n, entries) else _verdict(path)
        newer = [v.number for v in versions if v.number > n and contracts[v.number]["ok"] is not False]
        facts[n] = Facts(
            contract_ok=contracts[n]["ok"],
            problems=tuple(contracts[n]["problems"]),
            forward_ready=(folder / TRANSFORM).exists(),
            verdict=verdict["outcome"] if verdict else None,
            approved=verdict is not None
            and isinstance(
                approval.read(version.tags, verdict["digest"], approvers, approved_verdict(decisions.get(n))), approval.Approval
            ),
            rejected=isinstance(approval.read_rejection(version.tags), approval.Rejection),
            is_serving=now == n,
            was_serving=n in served,
            newer_version_exists=bool(newer),
            newer_is_serving=now is not None and now > n,
        )
    return facts


def readable_verdict(workspace: Workspace, version: int) -> dict[str, Any] | None:
    """The verdict of a version, or None where there is none that can be believed (altered, half a file): then there is work to do."""
    return None if void(workspace, version) else _verdict(workspace.upgrade_folder(version) / VERDICT)


def void(workspace: Workspace, version: int, entries: list[Entry] | None = None) -> bool:
    """Whether what the candidate was measured with is gone, by a purge, a repair or (:func:`dropped`) a gc: then its verdict is none.

    Args:
        entries: of the ledger, where they were read.
    """
    entries = workspace.ledger.entries() if entries is None else entries
    said = {entry.detail["void"][str(version)] for entry in entries if str(version) in entry.detail.get("void", {})}
    path = workspace.upgrade_folder(version) / REVISION
    if said and (not path.exists() or digests.of_file(path) in said):
        return True
    # one that served, or that a later one has replaced, keeps its status: nobody waits for it
    now = entries[-1].release if entries else None
    waits = all(entry.release != version for entry in entries) and (now is None or version > now)
    return waits and dropped(workspace, version, entries) is not None


def dropped(workspace: Workspace, version: int, entries: list[Entry] | None = None) -> int | None:
    """Number of the ledger entry by which a gc dropped what a passed candidate was measured with, as after its rejection; None without one.

    One that was refused stays so, and is not measured again after every gc. ``entries`` as of :func:`void`.
    """
    entries = workspace.ledger.entries() if entries is None else entries
    verdict = _verdict(workspace.upgrade_folder(version) / VERDICT)
    if verdict is None or verdict["outcome"] != "passed":
        return None
    served = next((entry for entry in reversed(entries) if entry.release == version), None)
    revision = history.serving(served)
    space = verdict["covers"].get("space") if revision is None else revision.space
    return next((entry.number for entry in entries if space in names.gone([entry])), None)


def unjudged(workspace: Workspace, version: int) -> NotPermitted:
    """Why a version that has no verdict can be neither approved nor promoted."""
    said, number = f"version {version} has no verdict yet", dropped(workspace, version)
    todo = "run `fct reconcile --once`"
    if number is not None:
        by = next(entry.action for entry in workspace.ledger.entries() if entry.number == number)
        said = f"what version {version} was measured with was dropped by {by} (ledger entry {number})"
        todo = f"measure again: `fct upgrade {version}`"
    return NotPermitted(said, todo=todo, code="not-passed")


def _verdict(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except BadInput:
        return None
    return found if isinstance(found, dict) and "digest" in found and digest_of(found) == found["digest"] else None


def unpublished(workspace: Workspace, version: int) -> bool:
    """Whether the verdict is not the one that was put before people (a run was killed in between), or its candidate was made anew."""
    folder = workspace.upgrade_folder(version)
    verdict = _verdict(folder / VERDICT)
    try:
        candidate, revision = read_json(folder / CANDIDATE), read(folder / REVISION)
        return verdict is None or candidate["verdict"] != verdict["digest"] or revision.space != verdict["covers"]["space"]
    except (BadInput, KeyError, TypeError):
        return True


def ignored(workspace: Workspace, versions: list[Version] | None = None) -> dict[int, str]:
    """Version → why a decision that stands on it as a tag does not count; ``versions`` as of :func:`gather`."""
    found, decisions = {}, decided(workspace.ledger.entries())
    for version in workspace.releases.versions() if versions is None else versions:
        verdict = readable_verdict(workspace, version.number)
        tags, digest = version.tags, str(verdict["digest"]) if verdict else None
        recorded = approved_verdict(decisions.get(version.number))
        said = approval.read(tags, digest, workspace.settings.promote.approvers, recorded), approval.read_rejection(tags)
        sentences = [one.sentence for one in said if isinstance(one, approval.Ignored)]
        if isinstance(said[0], approval.Approval) and verdict and verdict["outcome"] != "passed":
            sentences.append(f"the tag {approval.APPROVE} is ignored: the verdict is {verdict['outcome']}, and no approval lifts that.")
        elif isinstance(said[0], approval.Approval) and recorded != digest and unpublished(workspace, version.number):
            sentences.append(
                f"the tag {approval.APPROVE} does not count yet: its verdict has no report, which `fct reconcile --once` publishes."
            )
        if approval.APPROVE in tags and verdict is None and dropped(workspace, version.number) is not None:
            sentences.append(f"{unjudged(workspace, version.number)}.")
        if sentences:
            found[version.number] = " ".join(sentences)
    return found


def deleted(workspace: Workspace, versions: list[Version] | None = None) -> list[str]:
    """A sentence where the release that serves is no version in MLflow any more; ``versions`` as of :func:`gather`."""
    now = workspace.ledger.release()
    known = {one.number for one in (workspace.releases.versions() if versions is None else versions)}
    if now is None or now in known:
        return []
    said = f"version {now} serves and MLflow has no such version any more: somebody deleted it there."
    return [f"{said} It goes on serving from its files, which the ledger names; no alias and no tag can show it."]


def statuses(workspace: Workspace, versions: list[Version] | None = None) -> dict[int, Status]:
    """Version → status; ``versions`` as of :func:`gather`."""
    return {version: derive(facts) for version, facts in gather(workspace, versions).items()}


def waiting(workspace: Workspace) -> list[int]:
    """Versions whose upgrade has work to do, oldest first: registered, fitted, or judged and not yet put before people."""
    if not workspace.releases.is_ours():
        return []
    working = (Status.REGISTERED, Status.FITTED)
    judged = (Status.PASSED, Status.APPROVED, Status.REFUSED, Status.INCONCLUSIVE)
    return [v for v, status in statuses(workspace).items() if status in working or (status in judged and unpublished(workspace, v))]
