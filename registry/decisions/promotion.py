"""Promotion: model and gallery together, by one ledger entry. The way back is :mod:`registry.decisions.rollback`.

Everything before the entry can be done again, everything after it only follows (the alias, the tags). A crash at any instant
leaves the old entry or the new one, each whole.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from fct.arrays import digests
from fct.errors import Altered, BadInput, FctError, NotPermitted, OperationFailed
from fct.gallery.gallery import Gallery
from registry import lock
from registry.decisions.approved import check_covered, check_published
from registry.decisions.decisions import read_verdict, record
from registry.entry import Entry, approved_verdict, decided
from registry.formats import unreadable_is_altered
from registry.revisions import alarm, heads, history, kept, names
from registry.revisions.building import champion_rows, pin, verify
from registry.revisions.entering import enter
from registry.revisions.revision import Revision, read
from registry.upgrade_files import REVISION
from registry.upgrades.before_serving import ask_canaries, read_back
from registry.upgrades.carrying import carry, lacking
from registry.upgrades.upgrade import Upgrade
from registry.versions import approval
from registry.versions.facts import dropped, statuses, unjudged
from registry.versions.follow import follow_later
from registry.versions.status import Status
from registry.workspace import Workspace


def carry_out(workspace: Workspace) -> dict[int, Entry | FctError]:
    """Promote what is approved and waits, oldest first, where ``promote.auto`` says so.

    Returns:
        version → the ledger entry, or why it could not be carried out (LockHeld while an upgrade is at work: the next reconcile tries again).
    """
    done: dict[int, Entry | FctError] = {}
    if workspace.settings.promote.auto:
        for version in [version for version, status in statuses(workspace).items() if status == Status.APPROVED]:
            try:
                done[version] = promote(workspace, version)
            except FctError as error:
                done[version] = error
            except Exception as error:  # of a library underneath: one version must not keep the others from being looked at
                done[version] = OperationFailed(
                    f"version {version} could not be promoted", got=f"{type(error).__name__}: {str(error)[:300]}"
                )
    return done


def _approval(workspace: Workspace, version: int, verdict: dict[str, Any], *, entered: bool) -> approval.Approval:
    """The approval of exactly this verdict, by tag and by the ledger (``entered``), which holds the digest as it was approved."""
    recorded = approved_verdict(decided(workspace.ledger.entries()).get(version))
    tags = workspace.releases.version(version).tags
    if isinstance(approval.read_rejection(tags), approval.Rejection):
        todo = "remove the tag fct.reject or approve it anew"
        raise NotPermitted(f"version {version} was rejected: {tags[approval.REJECT]}", todo=todo, code="not-approved")
    found = approval.read(tags, verdict["digest"], workspace.settings.promote.approvers, recorded)
    if isinstance(found, approval.Approval):
        if entered and recorded != verdict["digest"]:
            raise NotPermitted(
                f"the approval of version {version} is not in the ledger",
                todo="run `fct reconcile --once`, which records it",
                code="not-approved",
            )
        return found
    if found is None:
        raise NotPermitted(
            f"version {version} is not approved",
            todo=f"`fct approve {version} --by NAME --why TEXT`, or set the tag fct.approve to `{approval.expected_value('NAME', verdict['digest'])}` in the MLflow UI",
            code="not-approved",
        )
    raise NotPermitted(found.sentence, code="not-approved")


def delta_of(gallery: Gallery, base: Revision) -> tuple[np.ndarray, np.ndarray]:
    """Items by which the gallery differs from ``base``, sorted: all of them, and those whose row is there and has to be made anew.

    Ingested or deleted since, or deleted and come again: their row is not there, or has another vector. Derived from the tables, so a
    second try sees the same.
    """
    then, now = gallery.read_space(base.space, at=base.state.version), gallery.read_space(base.space)
    items = gallery.item_ids()
    both, first, second = np.intersect1d(then.ids, now.ids, assume_unique=True, return_indices=True)
    other = both[(then.vectors[first] != now.vectors[second]).any(axis=1)]
    gone_or_new = np.setxor1d(then.ids, items)
    again = np.setdiff1d(np.intersect1d(then.ids, items), now.ids)
    return np.union1d(np.union1d(gone_or_new, again), other), other


def _same_rows(gallery: Gallery, base: Revision, delta: np.ndarray) -> None:
    """The rows of ``base`` that are not in the delta stand in the space unchanged."""
    then, now = gallery.read_space(base.space, at=base.state.version), gallery.read_space(base.space)
    kept, same = ~np.isin(now.ids, delta), ~np.isin(then.ids, delta)
    if digests.of_rows(now.ids[kept], v=now.vectors[kept]) != digests.of_rows(then.ids[same], v=then.vectors[same]):
        raise Altered("rows that were evaluated have changed since", where=base.space, todo="run the upgrade again for a new verdict")


def _all_have_an_h(upgrade: Upgrade, base: Revision) -> None:
    """NotPermitted where items arrived that are native to a version from which no h was judged."""
    there = upgrade.workspace.gallery.space_ids(base.space)
    for m, ids in lacking(upgrade.workspace, upgrade.version, there).items():
        if m != upgrade.version and m not in base.forward:
            raise NotPermitted(
                f"{len(ids)} items native to version {m} arrived since the verdict, and no h from that version was measured",
                todo=f"measure again with `fct upgrade {upgrade.version}`",
            )


def _allowed(workspace: Workspace, version: int, *, entered: bool) -> tuple[dict[str, Any], approval.Approval, int | None]:
    """Verdict, approval and champion of a promotion that verdict and approval allow; ``entered`` as for :func:`_approval`."""
    alarm.refuse(workspace)
    workspace.releases.version(version)
    champion = workspace.ledger.release()
    if champion == version:
        raise BadInput(f"version {version} serves already", todo="there is nothing to do")
    verdict = read_verdict(workspace, version)
    if verdict is None or dropped(workspace, version) is not None:
        raise unjudged(workspace, version)
    if verdict["outcome"] != "passed":
        said = f"the verdict of version {version} is {verdict['outcome']}: " + "; ".join(verdict["problems"])
        raise NotPermitted(said, code="not-passed")
    approved = _approval(workspace, version, verdict, entered=entered)
    if verdict["from"] != champion:
        raise NotPermitted(
            f"the verdict compares with version {verdict['from']}, but version {champion} serves",
            todo=f"measure again with `fct upgrade {version}`",
        )
    return verdict, approved, champion


def _prepared(
    workspace: Workspace, version: int, verdict: dict[str, Any], head: Entry | None
) -> tuple[Upgrade, Revision, Revision, np.ndarray, np.ndarray]:
    """The upgrade, the revision that was evaluated, the one to go on from, and its delta (:func:`delta_of`); every file verified."""
    settings = workspace.settings
    if (None if head is None else head.release) != verdict["from"]:
        raise NotPermitted("another release was promoted a moment ago", todo="look at `fct status`")
    check_published(workspace, version, verdict)
    upgrade = Upgrade(workspace, version)
    evaluated = read(upgrade.folder / REVISION)
    check_covered(verdict["covers"], evaluated, upgrade)
    base = history.latest(workspace.ledger.entries()).get(version)  # it served before, under this verdict: then as it served last
    if base is None or base.verdict != verdict["digest"]:
        base = evaluated
    verify(workspace, base)
    workspace.gallery.verify_content(base.state)
    _all_have_an_h(upgrade, evaluated)
    delta, other = delta_of(workspace.gallery, base)
    # rows that earlier promotions under this verdict carried are no part of what it measured, either
    carried = sum(int(one.detail["delta_rows"]) for one in workspace.ledger.entries() if _under(one, verdict["digest"]))
    if len(delta) + carried > settings.promote.max_delta * base.state.rows:
        raise NotPermitted(
            f"{len(delta) + carried} of {base.state.rows} rows changed since the verdict",
            wanted=f"at most the share promote.max_delta = {settings.promote.max_delta}",
            todo=f"measure again with `fct upgrade {version}`",
        )
    _same_champion(workspace, version, verdict, head)
    return upgrade, evaluated, base, delta, other


def _under(entry: Entry, verdict: str) -> bool:
    return entry.action == "promote" and entry.detail.get("verdict") == verdict and "delta_rows" in entry.detail


def _same_champion(workspace: Workspace, version: int, verdict: dict[str, Any], head: Entry | None) -> None:
    """NotPermitted where so much of the champion was backfilled since the verdict that the candidate was compared with another gallery."""
    then = verdict["covers"].get("champion")  # verdicts of earlier code do not say
    if then and head is not None:
        now = champion_rows(workspace, history.serving(head))
        changed, most = abs(now["backfilled"] - then["backfilled"]), workspace.settings.promote.max_delta
        if changed > most * then["rows"]:
            raise NotPermitted(
                f"{changed} of {then['rows']} rows that serve were backfilled since the verdict, and the verdict compares with the rows before",
                wanted=f"at most the share promote.max_delta = {most}",
                todo=f"measure again with `fct upgrade {version}`",
            )


def foresee(workspace: Workspace, version: int) -> dict[str, Any]:
    """What :func:`promote` would do, by the same checks up to the first thing that it writes: from, approved_by, rows, delta_rows."""
    verdict, approved, champion = _allowed(workspace, version, entered=False)
    with unreadable_is_altered(f"the candidate {version}"):
        _, _, base, delta, _ = _prepared(workspace, version, verdict, workspace.ledger.head())
    return {"version": version, "from": champion, "approved_by": approved.by, "rows": base.state.rows, "delta_rows": len(delta)}


@alarm.stops
def promote(workspace: Workspace, version: int, *, by: str | None = None, why: str = "") -> Entry:
    """Promote model and gallery of a version together.

    Needs a passed verdict and an approval of exactly that verdict. Verifies every file first, takes the lock, catches up with what was
    ingested since, asks the canaries, and appends one ledger entry: the commit.

    Raises:
        NotPermitted: verdict, approval, a digest or a canary forbids it. LockHeld: another upgrade works on the model.
        BadInput: unknown version, or it serves already.
    """
    from registry.items.deletion import finish  # which imports this module

    heads.heed(workspace, workspace.releases.head_tag())
    record(workspace)  # an approval by tag that nobody has looked at yet
    verdict, approved, champion = _allowed(workspace, version, entered=True)
    ledger, settings = workspace.ledger, workspace.settings
    workspace.releases.folder_of(version)  # before the lock: a store may be slow
    holder, lease = f"{by or approved.by}: promote {version}", settings.promote.lock_lease_s
    with (
        lock.hold(workspace.locks, settings.model, holder, lease_s=lease),
        lock.hold(workspace.locks, workspace.ledger_lock, holder, lease_s=lease) as held,
    ):
        workspace = workspace.fenced(held.check)
        finish(workspace, by=by or approved.by, check=held.check)
        head = ledger.head()
        with unreadable_is_altered(f"the candidate {version}"):
            upgrade, evaluated, base, delta, other = _prepared(workspace, version, verdict, head)
        gallery, space = workspace.gallery, base.space
        gallery.drop_rows(space, other)  # made anew from features, by the h's of the verdict
        forwards = upgrade.forwards(evaluated.forward)
        carry(workspace, space, version, forwards)
        revision = base
        if base.masked or any(gallery.snapshot(name).content != base.tables[name].content for name in ("items", space)):
            revision = pin(workspace, version, space, upgrade.new, evaluated.forward)
            if revision.index.about["build"] != evaluated.index.about["build"]:
                raise NotPermitted("the index settings changed since the verdict", todo=f"measure again with `fct upgrade {version}`")
        _same_rows(gallery, base, delta)
        read_back(workspace, version, revision, forwards, delta)
        said = ask_canaries(workspace, version, revision)
        names.still_there(revision, ledger.entries())
        kept.keep(workspace, kept.release(workspace, revision, check=False))  # whatever becomes of MLflow, this can be served
        if (served := history.serving(head)) is not None:
            with suppress(FctError):  # promoted by earlier code, which kept none; whether it is whole is asked when somebody returns to it
                kept.release(workspace, served)
        held.check()
        approved = _approval(workspace, version, verdict, entered=True)  # once more: it may have been withdrawn while all this was checked
        entry = enter(
            workspace,
            head,
            action="promote",
            by=by or approved.by,
            why=why,
            serving=history.numbered(revision, ledger.entries(), verdict["digest"]),
            detail={"from": champion, "verdict": verdict["digest"], "approved_by": approved.by, "delta_rows": len(delta), "canaries": said},
        )
    follow_later(workspace)
    return entry
