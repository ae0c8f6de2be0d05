"""What people decide about a version: approve, reject, withdraw. A decision is a tag in MLflow and an entry in the ledger.

:mod:`registry.versions.approval` reads the tags; nothing here changes what serves (:mod:`registry.decisions.promotion` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fct.arrays import digests
from fct.arrays.files import read_object
from fct.errors import Altered, LockHeld, NotPermitted
from registry import formats, lock
from registry.entry import Entry, approved_verdict, decided
from registry.formats import unreadable_is_altered
from registry.mlflow import seen
from registry.revisions import alarm
from registry.revisions.entering import enter
from registry.upgrade_files import CANDIDATE, VERDICT
from registry.verdicts.verdict import digest_of
from registry.versions import approval
from registry.versions.facts import dropped, readable_verdict, unjudged, unpublished, void
from registry.workspace import Workspace


def read_verdict(workspace: Workspace, version: int) -> dict[str, Any] | None:
    """The verdict of a version, None while there is none. Altered when it is not the one that was reached."""
    path = workspace.upgrade_folder(version) / VERDICT
    if not path.exists() or void(workspace, version):
        return None
    with unreadable_is_altered(f"the verdict of version {version}"):
        verdict = read_object(path)
    if digest_of(verdict) != verdict.get("digest"):
        raise Altered(
            f"the verdict of version {version} was altered after it was reached",
            where=path,
            todo=f"delete the folder {path.parent} and run `fct reconcile --once` to measure again",
        )
    formats.readable("verdict", verdict, formats.VERDICT, path)
    return verdict


@alarm.stops
def approve(workspace: Workspace, version: int, *, by: str, why: str, dry_run: bool = False) -> dict[str, Any]:
    """Approve exactly the verdict that was reached: sets the tag ``fct.approve`` and records it in the ledger.

    Raises:
        NotPermitted: there is no verdict, it is not passed or was never put before people, or files are damaged (:mod:`registry.revisions.alarm`).
    """
    workspace.releases.version(version)
    approvers = workspace.settings.promote.approvers
    if approvers and by not in approvers:
        raise NotPermitted(f"{by!r} is not among promote.approvers in params.yaml", wanted=" or ".join(approvers))
    verdict = read_verdict(workspace, version)
    if verdict is None or dropped(workspace, version) is not None:
        raise unjudged(workspace, version)
    if verdict["outcome"] != "passed":
        raise NotPermitted(
            f"the verdict of version {version} is {verdict['outcome']}: " + "; ".join(verdict["problems"]),
            todo="it cannot be approved",
            code="not-passed",
        )
    if unpublished(workspace, version):
        raise NotPermitted(
            f"the report of version {version} is not published yet, so nobody can have read it",
            todo=f"run `fct reconcile --once`, read the report, then `fct approve {version}` again",
            code="not-approved",
        )
    by = by.strip()
    value = approval.expected_value(by, verdict["digest"])
    if dry_run:
        return verdict
    with deciding(workspace, f"{by}: approve {version}"):
        workspace.releases.tag(version, approval.APPROVE, value)
        workspace.releases.untag(version, approval.REJECT)
        _decide(workspace, "approve", by, why, _approved(workspace, version, verdict))
    workspace.releases.mark(version, "approved")
    seen.ask(workspace.releases)
    return verdict


def reject(workspace: Workspace, version: int, *, by: str, why: str, dry_run: bool = False) -> None:
    """Reject a version: sets the tag ``fct.reject``, withdraws an approval, records it in the ledger."""
    workspace.releases.version(version)
    if workspace.ledger.release() == version:
        raise NotPermitted(f"version {version} serves", todo="roll it back first with `fct rollback`")
    by = by.strip()
    value = approval.rejection_value(by, why)
    if dry_run:
        return
    with deciding(workspace, f"{by}: reject {version}"):
        workspace.releases.tag(version, approval.REJECT, value)  # first: it outranks an approval, whatever comes after
        workspace.releases.untag(version, approval.APPROVE)
        _decide(workspace, "reject", by, why, {"version": version})
    workspace.releases.mark(version, "rejected")
    seen.ask(workspace.releases)


def record(workspace: Workspace) -> list[str]:
    """Write into the ledger what people decided by tags in the MLflow UI since. Returns it in sentences.

    MLflow keeps no history of tags; the ledger then says who (as far as a tag can say it), what and which verdict. Decisions that were
    typed (``fct approve``) are there already. While another process writes to the ledger, or files are damaged, nothing is recorded; the next
    look does it.
    """
    if alarm.raised(workspace):
        return []
    try:
        with deciding(workspace, "reconcile: decisions"):
            return _record(workspace)
    except LockHeld:
        return []


def _record(workspace: Workspace) -> list[str]:
    last, said = decided(workspace.ledger.entries()), []
    for version in workspace.releases.versions():
        n, before = version.number, last.get(version.number)
        verdict = readable_verdict(workspace, n)
        rejection = approval.read_rejection(version.tags)
        approvers, recorded = workspace.settings.promote.approvers, approved_verdict(before)
        approved = approval.read(version.tags, verdict["digest"], approvers, recorded) if verdict else None
        if isinstance(rejection, approval.Rejection):
            if before is None or before.action != "reject" or before.by != rejection.by:
                _decide(workspace, "reject", rejection.by, rejection.why, {"version": n, "via": approval.REJECT})
                said.append(f"version {n} is rejected by {rejection.by}")
        elif verdict and verdict["outcome"] == "passed" and isinstance(approved, approval.Approval):
            decided_now = before is None or (before.by, recorded) != (approved.by, verdict["digest"])
            if decided_now and not unpublished(workspace, n):  # else there is no report that it could be about
                _decide(workspace, "approve", approved.by, "", _approved(workspace, n, verdict) | {"via": approval.APPROVE})
                said.append(f"version {n} is approved by {approved.by}")
        elif before is not None and before.action != "withdraw":
            why = f"the tag of the decision '{before.action}' by {before.by} is gone or counts no more"
            _decide(workspace, "withdraw", "registry", why, {"version": n})
            said.append(f"version {n}: {why}")
    return said


def _approved(workspace: Workspace, version: int, verdict: dict[str, Any]) -> dict[str, Any]:
    """What an approval is for: the verdict, and candidate.json with the digest of every file that the promotion will read."""
    candidate = workspace.upgrade_folder(version) / CANDIDATE
    return {"version": version, "verdict": verdict["digest"], "candidate": digests.of_file(candidate)}


@contextmanager
def deciding(workspace: Workspace, holder: str) -> Iterator[None]:
    """Hold the ledger's lock while a decision is written in both places, the tag and the ledger, so that nobody reads one without the other."""
    with lock.hold(workspace.locks, workspace.ledger_lock, holder, lease_s=workspace.settings.promote.lock_lease_s):
        yield


def _decide(workspace: Workspace, action: str, by: str, why: str, detail: dict[str, Any]) -> Entry:
    """A person's word in the ledger. It changes nothing that serves."""
    return enter(workspace, workspace.ledger.head(), action=action, by=by, why=why, detail=detail)
