"""Promotion and rollback: model and gallery together, by one ledger entry.

Everything before the entry can be done again, everything after it only follows (the alias, the tags). A crash at any instant
leaves the old entry or the new one, each whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fct import digests, vectors
from fct.errors import BadInput, NotPermitted
from fct.files import read_json
from fct.gallery import forward_origin
from fct.tables import TableState
from registry import approval, checks, lock
from registry.ledger import Entry
from registry.releases import CHAMPION, STATUS_TAG
from registry.upgrade import Upgrade, mark, open_revision_index, pin, verify
from registry.verdict import digest_of
from registry.workspace import Workspace


@contextmanager
def unreadable_is_altered(what: str) -> Iterator[None]:
    """What could be read when it was approved and cannot be read now was altered: NotPermitted, not bad input of the user's."""
    try:
        yield
    except BadInput as error:
        raise NotPermitted(f"{what} was altered or deleted since it was measured: {error}") from error


def read_verdict(workspace: Workspace, version: int) -> dict[str, Any] | None:
    """The verdict of a version, None while there is none. NotPermitted when it was altered."""
    path = workspace.upgrade_folder(version) / "verdict" / "verdict.json"
    if not path.exists():
        return None
    with unreadable_is_altered(f"the verdict of version {version}"):
        verdict: dict[str, Any] = read_json(path)
    if digest_of(verdict) != verdict.get("digest"):
        raise NotPermitted(
            f"the verdict of version {version} was altered after it was reached",
            where=path,
            todo=f"delete the folder {path.parent} and run `fct reconcile --once` to measure again",
        )
    return verdict


def _published(workspace: Workspace, version: int, verdict: dict[str, Any]) -> None:
    """Compare the verdict with the one in MLflow that the person has read."""
    candidate = workspace.upgrade_folder(version) / "candidate.json"
    if not candidate.exists():
        raise NotPermitted(f"the candidate {version} is not published for review", todo="run `fct reconcile --once`")
    path = workspace.releases.candidate_file(read_json(candidate)["run_id"], "verdict.json")
    with unreadable_is_altered(f"the verdict of version {version} in MLflow"):
        published = read_json(path)
    if not isinstance(published, dict) or published.get("digest") != verdict["digest"] or digest_of(published) != verdict["digest"]:
        raise NotPermitted(
            f"the verdict of version {version} in MLflow is not the one that was reached", where=path, todo="restore it or measure again"
        )


def approve(workspace: Workspace, version: int, *, by: str, why: str) -> dict[str, Any]:
    """Approve exactly the verdict that was reached: sets the tag ``fct.approve`` and records it in the ledger.

    Raises:
        NotPermitted: there is no verdict, or it is not passed.
    """
    workspace.releases.version(version)
    verdict = read_verdict(workspace, version)
    if verdict is None:
        raise NotPermitted(f"version {version} has no verdict yet", todo="run `fct reconcile --once`")
    if verdict["outcome"] != "passed":
        raise NotPermitted(
            f"the verdict of version {version} is {verdict['outcome']}: " + "; ".join(verdict["problems"]), todo="it cannot be approved"
        )
    value = approval.expected_value(by, verdict["digest"])
    workspace.releases.tag(version, approval.APPROVE, value)
    workspace.releases.untag(version, approval.REJECT)
    head = workspace.ledger.head()
    workspace.ledger.append(
        head,
        action="approve",
        by=by,
        why=why,
        model=workspace.settings.model,
        serving=head.serving if head else None,
        detail={"version": version, "verdict": verdict["digest"]},
    )
    mark(workspace, version, "approved")
    return verdict


def reject(workspace: Workspace, version: int, *, by: str, why: str) -> None:
    """Reject a version: sets the tag ``fct.reject``, withdraws an approval, records it in the ledger."""
    workspace.releases.version(version)
    serving = workspace.ledger.serving()
    if serving is not None and serving["release"] == version:
        raise NotPermitted(f"version {version} serves", todo="roll it back first with `fct rollback`")
    workspace.releases.untag(version, approval.APPROVE)
    workspace.releases.tag(version, approval.REJECT, approval.rejection_value(by, why))
    head = workspace.ledger.head()
    workspace.ledger.append(
        head,
        action="reject",
        by=by,
        why=why,
        model=workspace.settings.model,
        serving=head.serving if head else None,
        detail={"version": version},
    )
    mark(workspace, version, "rejected")


def _approval(workspace: Workspace, version: int, verdict: dict[str, Any]) -> approval.Approval:
    tags = workspace.releases.version(version).tags
    if approval.read_rejection(tags) is not None:
        raise NotPermitted(f"version {version} was rejected: {tags[approval.REJECT]}", todo="remove the tag fct.reject or approve it anew")
    found = approval.read(tags, verdict["digest"])
    if isinstance(found, approval.Approval):
        return found
    if found is None:
        raise NotPermitted(
            f"version {version} is not approved",
            todo=f"`fct approve {version} --by NAME --why TEXT`, or set the tag fct.approve to `{approval.expected_value('NAME', verdict['digest'])}` in the MLflow UI",
        )
    raise NotPermitted(found.sentence)


def _next_revision(workspace: Workspace, release: int) -> int:
    used = [int(e.serving["revision"]) for e in workspace.ledger.entries() if e.serving and e.serving["release"] == release]
    return max(used, default=0) + 1


def catch_up(upgrade: Upgrade) -> int:
    """Carry over what was ingested since the evaluation, through the same h. Returns rows added and removed."""
    gallery = upgrade.workspace.gallery
    there = set(gallery.space_ids(upgrade.space).tolist())
    wanted = set(gallery.item_ids().tolist())
    forwards = upgrade.forwards()
    added = 0
    for m in gallery.native_versions():
        todo = np.array(sorted(set(gallery.item_ids(native_version=m).tolist()) - there), dtype=str)
        for batch in gallery.features(m, ids=todo, batch_rows=upgrade.workspace.settings.transform.batch_rows):
            if m == upgrade.version:
                added += gallery.append_space(
                    upgrade.space, batch.ids, batch.phi.astype(np.float32), "native", np.zeros(len(batch.ids), dtype=np.float32)
                )
                continue
            if m not in forwards:
                raise NotPermitted(
                    f"items native to version {m} arrived, and no h from it was measured", todo="run the upgrade again for a new verdict"
                )
            h = forwards[m]
            rows, sigma = h.transform(batch.phi, batch.psi if h.side_dim else None, device=upgrade.workspace.settings.device)
            added += gallery.append_space(upgrade.space, batch.ids, rows, forward_origin(m, upgrade.version), np.nan_to_num(sigma, nan=0.0))
    return added + len(there - wanted)


def _same_rows(upgrade: Upgrade, evaluated: dict[str, Any], delta: int) -> None:
    """The rows that were evaluated are in the space unchanged (their content at that table version, and its files)."""
    gallery = upgrade.workspace.gallery
    state = TableState.from_json(evaluated["tables"][upgrade.space])
    gallery.verify(state)
    gallery.verify_content(state)
    if delta:
        before = gallery.read_space(upgrade.space, at=state.version)
        now = gallery.read_space(upgrade.space)
        kept = np.isin(now.ids, before.ids)
        same = np.isin(before.ids, now.ids)
        if digests.of_rows(now.ids[kept], v=now.vectors[kept]) != digests.of_rows(before.ids[same], v=before.vectors[same]):
            raise NotPermitted(
                "rows that were evaluated have changed since", where=upgrade.space, todo="run the upgrade again for a new verdict"
            )


def ask_canaries(workspace: Workspace, version: int, revision: dict[str, Any]) -> str:
    """Ask the canaries in the table and through the index as served. NotPermitted when they fail; returns what they said."""
    folder = workspace.upgrade_folder(version)
    said = read_json(folder / "verdict" / "canaries.json")["promised"]
    promise = checks.CanaryPromise(**said)
    source = next(path for path in sorted(folder.glob("pairs-v*")) if path.is_dir())
    native = np.array(vectors.load(source / "canaries" / "new.npy"))
    ids = np.array(vectors.load(source / "canaries" / "ids.npy"))
    metric = workspace.releases.release(version, check=False).metric
    rows = workspace.gallery.read_space(revision["space"], at=revision["tables"][revision["space"]]["version"])
    margin = workspace.settings.validate.canary_margin
    result = checks.ask(promise, native, ids, rows.ids, rows.vectors, metric, margin)
    if not result.passed:
        raise NotPermitted(
            f"the canaries say that the space is wrong: {result.why}",
            where=revision["space"],
            todo="nothing was promoted; run the upgrade again",
        )
    searcher = open_revision_index(workspace, revision, metric)
    found, _ = searcher.search(native, promise.k)
    others = set(rows.ids.tolist()) - set(ids.tolist())
    rate = float(np.mean([one in list(hits) for one, hits in zip(ids, found, strict=True)]))
    if len(others) <= promise.others and rate < promise.rate - margin:
        raise NotPermitted(
            f"the index does not find the canaries: {rate:.2f} of them, promised {promise.rate:.2f}",
            todo="nothing was promoted; build the index anew",
        )
    return result.why


def promote(workspace: Workspace, version: int, *, by: str | None = None, why: str = "") -> Entry:
    """Promote model and gallery of a version together.

    Needs a passed verdict and an approval of exactly that verdict. Verifies every file first, takes the lock, catches up with what was
    ingested since, asks the canaries, and appends one ledger entry: the commit.

    Raises:
        NotPermitted: verdict, approval, a digest or a canary forbids it. LockHeld: another upgrade works on the model.
        BadInput: unknown version, or it serves already.
    """
    ledger, settings = workspace.ledger, workspace.settings
    workspace.releases.version(version)
    serving = ledger.serving()
    if serving is not None and serving["release"] == version:
        raise BadInput(f"version {version} serves already", todo="there is nothing to do")
    verdict = read_verdict(workspace, version)
    if verdict is None:
        raise NotPermitted(f"version {version} has no verdict yet", todo="run `fct reconcile --once` first")
    if verdict["outcome"] != "passed":
        raise NotPermitted(f"the verdict of version {version} is {verdict['outcome']}: " + "; ".join(verdict["problems"]))
    approved = _approval(workspace, version, verdict)
    _published(workspace, version, verdict)
    upgrade = Upgrade(workspace, version)
    with unreadable_is_altered(f"the candidate {version}"):
        evaluated = read_json(upgrade.folder / "revision.json")
        _ = upgrade.space  # loads every h and checks its digest
    covers = verdict["covers"]
    champion = None if serving is None else serving["release"]
    if verdict["from"] != champion:
        raise NotPermitted(
            f"the verdict compares with version {verdict['from']}, but version {champion} serves", todo="the upgrade must be measured again"
        )
    for said, found in (
        (covers["rows"], evaluated["tables"][upgrade.space]["content"]),
        (covers["forward"], evaluated["forward"]),
        (covers["release"], evaluated["release_digest"]),
    ):
        if said != found:
            raise NotPermitted("the candidate is not the one its verdict covers", todo="run the upgrade again for a new verdict")
    with lock.hold(
        workspace.locks, settings.model, f"{by or approved.by}: promote {version}", lease_s=settings.promote.lock_lease_s
    ) as held:
        head = ledger.head()
        with unreadable_is_altered(f"the candidate {version}"):
            verify(workspace, evaluated)
        delta = catch_up(upgrade)
        total = evaluated["tables"][upgrade.space]["rows"]
        if delta > settings.promote.max_delta * total:
            raise NotPermitted(
                f"{delta} of {total} rows changed since the verdict",
                wanted=f"at most the share promote.max_delta = {settings.promote.max_delta}",
                todo="run the upgrade again for a new verdict",
            )
        _same_rows(upgrade, evaluated, delta)
        revision = evaluated
        if delta:
            pin(workspace, version, upgrade.space, upgrade.new, evaluated["forward"], upgrade.folder / "revision-promoted.json")
            revision = read_json(upgrade.folder / "revision-promoted.json")
        said = ask_canaries(workspace, version, revision)
        held.check()
        entry = ledger.append(
            head,
            action="promote",
            by=by or approved.by,
            why=why,
            model=settings.model,
            serving=revision | {"revision": _next_revision(workspace, version), "verdict": verdict["digest"]},
            detail={"from": champion, "verdict": verdict["digest"], "approved_by": approved.by, "delta_rows": delta, "canaries": said},
        )
    follow(workspace)
    return entry


def rollback(workspace: Workspace, *, by: str, why: str) -> Entry:
    """Return to the release that served before, at its last revision. Its tables and index were never touched, so the answers are the same.

    Raises:
        BadInput: nothing served before. NotPermitted: a file of it was altered since, or items arrived that it has never seen.
    """
    ledger, settings = workspace.ledger, workspace.settings
    with lock.hold(workspace.locks, settings.model, f"{by}: rollback", lease_s=settings.promote.lock_lease_s) as held:
        head = ledger.head()
        if head is None or head.serving is None:
            raise BadInput("nothing serves, so there is nothing to roll back to")
        current = head.serving["release"]
        target = _before(ledger.entries(), current)
        if target is None:
            raise BadInput(f"version {current} is the first release that served", todo="there is nothing to roll back to")
        verify(workspace, target)
        served = set(
            workspace.gallery.space_ids(head.serving["space"], at=head.serving["tables"][head.serving["space"]]["version"]).tolist()
        )
        known = set(workspace.gallery.space_ids(target["space"], at=target["tables"][target["space"]]["version"]).tolist())
        missing = sorted(served - known)
        if missing:
            raise NotPermitted(
                f"release {target['release']} has never seen {len(missing)} items that serve now ({', '.join(missing[:3])} …)",
                todo="delete them or embed them with the previous release first",
            )
        held.check()
        entry = ledger.append(
            head, action="rollback", by=by, why=why, model=settings.model, serving=target, detail={"from": current, "to": target["release"]}
        )
    follow(workspace)
    return entry


def _before(entries: list[Entry], current: int) -> dict[str, Any] | None:
    """The last revision of the release that served before ``current`` was promoted."""
    promoted = max((e.number for e in entries if e.action == "promote" and e.serving and e.serving["release"] == current), default=None)
    if promoted is None:
        return None
    earlier = [e.serving for e in entries if e.number < promoted and e.serving and e.serving["release"] != current]
    return earlier[-1] if earlier else None


def follow(workspace: Workspace) -> list[str]:
    """Let MLflow show what the ledger says: alias and status tags. Returns what it corrected, for people."""
    from registry.facts import statuses

    said = []
    serving = workspace.ledger.serving()
    champion = workspace.releases.champion()
    if serving is not None and champion != serving["release"]:
        workspace.releases.follow(int(serving["release"]))
        said.append(f"the alias {CHAMPION} pointed at {champion}, the ledger serves {serving['release']}")
    for version, status in statuses(workspace).items():
        tags = workspace.releases.version(version).tags
        if tags.get(STATUS_TAG) != status.value:
            mark(workspace, version, status.value)
            said.append(f"version {version} is now {status.value}")
    return said
