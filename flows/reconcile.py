"""Re-read the registry, carry out what people decided, start what is to be started, and let the copies for people follow the facts.

A webhook is only a hint to do this: whatever was lost, doubled, forged or out of order, one look at the registry finds what is to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fct.arrays.files import disk_errors
from fct.errors import FctError, LockHeld, OperationFailed
from registry import lock
from registry.decisions import decisions, promotion
from registry.items import debts
from registry.mlflow import seen
from registry.revisions import alarm, heads
from registry.versions import facts, follow, look
from registry.versions.status import Status
from registry.workspace import Workspace

Result = dict[str, Any]


def here(workspace: Workspace, version: int) -> Result:
    """Run the upgrade to ``version`` in this process; a Prefect server sees it where there is one."""
    from flows import crashed, passwords, upgrading

    try:
        return upgrading.run(workspace, version, passwords.prefect_api(workspace))
    except LockHeld as error:
        said = crashed.yet_alive(workspace, lock.holder_of(workspace.locks, workspace.settings.model))
        if said:
            raise LockHeld(f"{error}{said}") from error
        raise


def once(workspace: Workspace, start: Callable[[Workspace, int], Result] = here) -> list[Result]:
    """One pass. Decisions first, so that an approval does not wait for another version's upgrade.

    What came of it is kept for ``fct status`` and ``fct doctor`` (:mod:`registry.versions.look`).

    Args:
        start: begins (or continues) the upgrade to a version, and says what came of it.

    Returns:
        one result for everything that was done (``version``, ``outcome``, ``problems``).

    Raises:
        FctError: the first failure, after everything else was done.
    """
    results: list[Result] = []
    try:
        failed = _look(workspace, start, results)
    except FctError as error:
        failed = error
    look.remember(workspace, results, failed)
    if failed is not None:
        raise failed
    return results


def foreseen(workspace: Workspace) -> list[str]:
    """What one pass would do, in sentences; decisions that people set by tags since the last pass are recorded in it, too."""
    found, auto = facts.statuses(workspace), workspace.settings.promote.auto
    approved = [version for version, status in found.items() if status is Status.APPROVED]
    said = [f"version {version} is approved and would be promoted" for version in approved if auto]
    return said + [f"the upgrade to version {version} would be run up to its verdict" for version in facts.waiting(workspace)]


def _look(workspace: Workspace, start: Callable[[Workspace, int], Result], results: list[Result]) -> FctError | None:
    """Append what is done to ``results``; the first failure, after everything else was done."""
    failed: FctError | None = None
    notes: dict[int, str] = {}
    # first: an upgrade takes minutes, and `fct status` is to know the version meanwhile
    heads.heed(workspace, seen.ask(workspace.releases).head)
    ours = workspace.releases.is_ours()
    if ours:
        results += [{"version": None, "outcome": "recorded", "problems": [said]} for said in decisions.record(workspace)]
        for version, done in promotion.carry_out(workspace).items():
            if isinstance(done, LockHeld):
                results.append({"version": version, "outcome": "waits for its promotion", "problems": [str(done)]})
            elif isinstance(done, FctError):
                notes[version], failed = str(done), failed or done
                results.append({"version": version, "outcome": "not promoted", "problems": [str(done)]})
            else:
                results.append({"version": version, "outcome": "promoted", "entry": done.number, "problems": []})
    tried: set[int] = set()
    while todo := [version for version in facts.waiting(workspace) if version not in tried]:
        version = todo[0]
        tried.add(version)
        try:
            alarm.refuse(workspace)  # before a run is begun, which would count as one that failed
            with disk_errors(workspace.folder):
                results.append({"version": version} | start(workspace, version))
        except LockHeld as error:  # somebody else does the work; nothing has failed
            results.append({"version": version, "outcome": "waits", "problems": [str(error)]})
        except Exception as raised:  # of whatever kind: one odd version must not keep the others waiting
            problem = raised if isinstance(raised, FctError) else _unforeseen(version, raised)
            if facts.statuses(workspace).get(version) == "invalid":
                results.append({"version": version, "outcome": "invalid", "problems": [str(problem)]})
            else:
                results.append({"version": version, "outcome": "failed", "problems": [str(problem)]})
                failed = failed or problem
    if ours:
        results += [{"version": None, "outcome": "forgotten", "problems": [said]} for said in debts.pay(workspace)]
        for sentence in follow.follow(workspace, notes):
            results.append({"version": None, "outcome": "corrected", "problems": [sentence]})
    return failed


def _unforeseen(version: int, raised: Exception) -> OperationFailed:
    """What no sentence was written for, as one."""
    said = f"{type(raised).__name__}: {str(raised)[:300]}"
    error = OperationFailed(
        f"the upgrade to version {version} failed", got=said, todo=f"FCT_DEBUG=1 fct upgrade {version} shows where", code="unexpected"
    )
    error.__cause__ = raised
    return error


def watch(workspace: Workspace, every_s: float, say: Callable[[list[Result]], None], complain: Callable[[str], None]) -> None:
    """:func:`once` again and again, until interrupted; what fails now may work at the next look."""
    while True:
        try:
            results = once(workspace)
            if results:
                say(results)
        except FctError as error:
            complain(f"{error}; looking again in {every_s:g} s")
        time.sleep(every_s)
