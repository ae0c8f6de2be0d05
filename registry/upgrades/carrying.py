"""Carrying rows into a space: what the upgrade does with a whole gallery, and what promotion and ingest do with late-comers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from fct import forward
from fct.arrays import digests
from fct.errors import NotPermitted
from fct.gallery.names import features_name
from registry.revisions import alarm, kept
from registry.revisions.revision import Revision
from registry.upgrades import rereading
from registry.upgrades.maker import Maker
from registry.verdicts import expectations
from registry.workspace import Workspace


@dataclass
class Carried:
    """Rows written, seconds spent in h (previews included), the suites that the batches passed."""

    changed: int = 0
    seconds: float = 0.0
    suites: list[dict[str, Any]] = field(default_factory=list)


def carry(workspace: Workspace, space: str, version: int, forwards: dict[int, forward.Forward]) -> Carried:
    """Write every item that the space lacks: what version itself computed as it is, others through the h of their own native version.

    Each batch is a commit, of which some rows are read back and computed again; running it again continues. Items native to a later
    version cannot be carried back and are left out. Rows whose item was deleted meanwhile leave the space. No deletion and no ingest waits
    for h: after each commit the batch's features are looked at again, and rows that were made of others are taken back and made anew. Whoever
    takes an item out takes its features before its rows, so who does it after that look finds the row. What a run that was killed had no
    time to look at takes :func:`look_again`.

    Args:
        space: name of an existing space of φ_version. forwards: native version → h(m→version).

    Raises:
        BadInput: a batch that Great Expectations refuses. NotPermitted: items of an earlier native version without an h, or rows that
            are not what their features give (:mod:`registry.upgrades.rereading`). Damaged: a file of items, or of the features that are read, is not
            what was recorded.
    """
    gallery, settings, known = workspace.gallery, workspace.settings, alarm.recorded(workspace)
    alarm.compare(workspace, known, "items")  # they say which rows there have to be
    done = gallery.space_ids(space)
    result, maker = Carried(), Maker(workspace, version, forwards)
    with tqdm(total=len(gallery.item_ids()), initial=len(done), desc="transform", unit="row", mininterval=1) as bar:
        work = list(lacking(workspace, version, done).items())
        for m, todo in work:  # which grows where an id comes again
            if m != version and m not in forwards:
                raise NotPermitted(
                    f"{len(todo)} items native to version {m} arrived, and there is no h from it",
                    todo="run the upgrade again for a new verdict",
                )
            alarm.compare(workspace, known, features_name(m), todo)
            info = gallery.feature_info(m)
            old = kept.opened(workspace, m, check=False)
            for batch in gallery.features(m, ids=todo, batch_rows=settings.transform.batch_rows, skip_absent=True):
                suite = expectations.check_batch(
                    f"features v{m}",
                    batch.ids,
                    batch.phi,
                    dim=info.phi_dim,
                    fingerprint=old.fingerprint,
                    found_fingerprint=info.fingerprint,
                )
                result.suites.append(suite)
                started = time.perf_counter()
                rows, sigma, origin = maker.make(m, batch)
                result.seconds += time.perf_counter() - started
                result.changed += gallery.append_space(space, batch.ids, rows, origin, sigma)
                other = gallery.unlike(m, batch)
                if len(other):
                    result.changed -= gallery.drop_rows(space, other)
                    work += lacking(workspace, version, np.setdiff1d(gallery.item_ids(), other)).items()
                some = rereading.chosen(batch.ids, digests.of_rows(batch.ids, v=rows))
                rereading.check(maker, space, np.setdiff1d(some, other))
                bar.update(len(batch.ids))
    gallery.drop_rows(space)
    return result


def look_again(workspace: Workspace, space: str, version: int, forwards: dict[int, forward.Forward]) -> None:
    """Take back rows of the last commit to a space that are not what their items' features give: a run may have been killed before it looked.

    Earlier commits were looked at before the last one began.
    """
    gallery = workspace.gallery
    gallery.drop_rows(space, rereading.others(Maker(workspace, version, forwards), space, gallery.last_ids(space)))


def forwards_of(workspace: Workspace, revision: Revision) -> dict[int, forward.Forward]:
    """Native version → h of a release that has served.

    Raises:
        NotPermitted: an h is not the one of the revision.
    """
    folder = workspace.upgrade_folder(revision.release)
    forwards = {m: forward.load(folder / f"h-v{m}") for m in revision.forward}
    if {m: h.digest for m, h in forwards.items()} != revision.forward:
        raise NotPermitted("an h is not the one that serves", where=folder, todo="restore it")
    return forwards


def lacking(workspace: Workspace, version: int, there: np.ndarray) -> dict[int, np.ndarray]:
    """Items that a space of φ_version lacks and can be given: version their vectors come from → sorted ids.

    What the version itself computed comes first, whatever the item is native to; items native to a later version have nothing else.

    Args:
        there: ids that the space holds.
    """
    gallery, found = workspace.gallery, {}
    own = gallery.feature_ids(version)
    for m in sorted({*gallery.native_versions(), version}):
        ids = np.setdiff1d(gallery.item_ids(native_version=m) if m != version else np.intersect1d(own, gallery.item_ids()), there)
        ids = ids if m == version else np.setdiff1d(ids, own)
        if len(ids) and m <= version:
            found[m] = ids
    return found
