"""What a purge owes in MLflow: reports there name the least certain items, and MLflow may be away while somebody is forgotten.

Then the ledger says so (``owes`` in the detail of an entry), and the next look at the registry makes up for it (``paid``). Neither names an item: what
goes from a report is whatever the gallery holds no more.
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any

from fct.arrays.files import read_json, whole_file
from fct.errors import BadInput, LockHeld, OperationFailed
from registry import lock
from registry.entry import REPORTS, owed
from registry.report.review import plain
from registry.revisions.entering import enter
from registry.upgrade_files import CANDIDATE, REPORT
from registry.workspace import Workspace

SENTENCE = "Reports in MLflow may still name some of them: that is owed, as the ledger says, and `fct reconcile --once` does it when MLflow answers"
SHOWN = 200  # characters of an id in it
GONE = '<td class="mono">(deleted)</td>'
ITEM = re.compile(r'<td class="mono">(.*?)</td>')  # in the table of the least certain items, the one place where a report names them


def settle(workspace: Workspace, *, by: str, why: str) -> str | None:
    """Take purged items out of MLflow's reports, or write into the ledger that it is owed. The caller holds the ledger's lock.

    Returns:
        why it is owed, None where it is done.
    """
    since = owed(workspace.ledger.entries())
    try:
        _clean(workspace)
    except Exception as error:  # of any store: whatever it is, the reports were not rewritten
        if since is None:
            _enter(workspace, {"items": 0, "owes": REPORTS}, by, why)
        return str(error) or type(error).__name__
    if since is not None:
        _enter(workspace, {"items": 0, "paid": since}, by, why)
    return None


def pay(workspace: Workspace) -> list[str]:
    """Do what an earlier purge could not. Returns it in sentences; nothing while others write to the ledger, or MLflow has no such model.

    Raises:
        OperationFailed: MLflow answers and its reports cannot be rewritten.
    """
    since = owed(workspace.ledger.entries())
    if since is None:
        return []
    try:
        with lock.hold(workspace.locks, workspace.ledger_lock, "reconcile: reports", lease_s=workspace.settings.promote.lock_lease_s):
            problem = settle(workspace, by="registry", why="MLflow answers again")
    except LockHeld:
        return []
    if problem is not None:
        raise OperationFailed("reports in MLflow may still name items that were purged", got=problem, todo="run the command again")
    return [f"purged items left the reports in MLflow, which was owed since ledger entry {since}"]


def _enter(workspace: Workspace, detail: dict[str, Any], by: str, why: str) -> None:
    enter(workspace, workspace.ledger.head(), action="delete", by=by, why=why, detail=detail)


def _clean(workspace: Workspace) -> None:
    """Every report of a candidate in MLflow without items that the gallery holds no more."""
    model, living = workspace.settings.model, None
    for folder in sorted((workspace.folder / "upgrades").glob(f"{model}-v*")):
        version = re.fullmatch(re.escape(model) + r"-v(\d+)", folder.name)
        if version is None or not (folder / CANDIDATE).exists():
            continue
        if not workspace.releases.is_ours():
            raise OperationFailed(f"MLflow knows no model {model} with a gallery", where=workspace.tracking_uri.rpartition("@")[2])
        current = _run_of(folder)
        for run in workspace.releases.candidate_runs(int(version[1])):  # one a verdict, and each has its report
            living = {plain(one, SHOWN) for one in workspace.gallery.item_ids().tolist()} if living is None else living
            try:
                there = workspace.releases.candidate_file(run, REPORT).read_text(encoding="utf-8")
            except (BadInput, FileNotFoundError):
                if run == current:
                    raise
                continue  # a run that was cut short has none
            here = folder / REPORT if run == current else None  # the candidate's is the one whose digest the purge's entry names
            after = without_dead(there, living) if here is None or not here.exists() else here.read_text(encoding="utf-8")
            if after != there:
                cache = workspace.folder / "cache" / f"purge-{run}"
                try:
                    with whole_file(cache / REPORT) as part:
                        part.write_text(after, encoding="utf-8")
                    workspace.releases.replace_candidate_file(run, cache / REPORT)
                finally:
                    shutil.rmtree(cache, ignore_errors=True)


def _run_of(folder: Path) -> str | None:
    try:
        return str(read_json(folder / CANDIDATE)["run_id"])
    except (BadInput, KeyError, TypeError):
        return None


def without_dead(text: str, living: set[str]) -> str:
    """A report without items that are not among ``living`` (as a report shows them)."""
    return ITEM.sub(lambda cell: cell[0] if html.unescape(cell[1]) in living else GONE, text)
