"""Is what is promoted what was approved: the verdict as people read it, every file, and what the verdict covers?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fct.arrays import digests
from fct.arrays.files import read_object
from fct.errors import Altered, NotPermitted
from registry import formats
from registry.entry import decided
from registry.formats import unreadable_is_altered
from registry.revisions.revision import Revision
from registry.upgrade_files import CANDIDATE, PROMISE, REPORT, VERDICT
from registry.upgrades.upgrade import Upgrade
from registry.verdicts import canaries
from registry.verdicts.verdict import digest_of
from registry.workspace import Workspace


def check_published(workspace: Workspace, version: int, verdict: dict[str, Any]) -> None:
    """Compare the verdict with the one in MLflow that the person has read."""
    candidate = workspace.upgrade_folder(version) / CANDIDATE
    if not candidate.exists():
        raise NotPermitted(f"the candidate {version} is not published for review", todo="run `fct reconcile --once`")
    with unreadable_is_altered(f"the verdict of version {version} in MLflow"):
        published = read_object(workspace.releases.candidate_file(str(read_object(candidate, "run_id")["run_id"]), Path(VERDICT).name))
    if published.get("digest") != verdict["digest"] or digest_of(published) != verdict["digest"]:
        raise Altered(f"the verdict of version {version} in MLflow is not the one that was reached", todo="restore it or measure again")
    check_files(workspace, version, verdict)


def check_files(workspace: Workspace, version: int, verdict: dict[str, Any]) -> None:
    """Compare every file that this promotion reads, and the report in MLflow, with the bytes that were approved.

    The ledger's entry *approve* names the digest of candidate.json, that one the files'. What a purge rewrote since stands in its own
    entry. An approval, and a candidate, from before there were such digests count as they did.
    """
    entries, folder = workspace.ledger.entries(), workspace.upgrade_folder(version)
    approved = decided(entries).get(version)
    covered = None if approved is None else approved.detail.get("candidate")
    if approved is None or approved.action != "approve" or (covered is None and approved.format < formats.COVERING):
        return
    path = folder / CANDIDATE
    if digests.of_file(path) != covered:
        raise Altered(
            "the candidate was published again, or altered, since it was approved",
            where=path,
            todo=f"read its report, and approve it anew: `fct approve {version} --by NAME --why TEXT`",
        )
    candidate = read_object(path, "run_id")
    if "files" not in candidate:
        return
    purges = [entry.detail.get("rewritten", {}).get(str(version), {}) for entry in entries if entry.number > approved.number]
    report = workspace.releases.candidate_file(candidate["run_id"], REPORT)
    for name, digest in candidate["files"].items():
        # a purge's entry comes before its rewriting, which may be cut short: until it is run again, what was approved stands there
        wanted = {digest, *(purge[name] for purge in purges if name in purge)}
        for file in (folder / name, *((report,) if name == report.name else ())):
            if not file.is_file() or digests.of_file(file) not in wanted:
                raise Altered(
                    f"{name} of version {version} is not the file that was approved", where=file, todo="restore it, or measure again"
                )


def check_covered(covers: dict[str, Any], evaluated: Revision, upgrade: Upgrade) -> None:
    """The candidate is exactly what the verdict covers: release, h's (loaded and checked), space, rows, index."""
    found = {
        "release": evaluated.release_digest,
        "fingerprint": evaluated.fingerprint,
        "forward": {str(m): h.digest for m, h in upgrade.forwards(evaluated.forward).items()},
        "space": evaluated.space,
        "rows": evaluated.state.content,
        "index": evaluated.index.identity,
    }
    if "canaries" in covers:  # verdicts of earlier code do not cover them
        found["canaries"] = digests.of_json(asdict(canaries.read_promise(upgrade.folder / PROMISE)))
    for name, value in found.items():
        if covers.get(name) != value:
            raise Altered(
                f"the candidate is not the one its verdict covers: its {name} differs",
                todo=f"measure again with `fct upgrade {upgrade.version}`",
            )
