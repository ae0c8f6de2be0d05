"""What is asked of a space before it serves, and again after each change of its rows: canaries, and rows read back and made again."""

from __future__ import annotations

import numpy as np

from fct.errors import NotPermitted
from fct.forward import Forward
from fct.gallery import index as indexes
from fct.sample.folder import PairsFolder
from registry.formats import unreadable_is_altered
from registry.revisions import kept, names
from registry.revisions.building import align, open_index
from registry.revisions.revision import Revision
from registry.upgrade_files import PROMISE
from registry.upgrades import rereading
from registry.upgrades.maker import Maker
from registry.verdicts import canaries
from registry.workspace import Workspace


def read_back(workspace: Workspace, version: int, revision: Revision, forwards: dict[int, Forward], delta: np.ndarray) -> None:
    """Rows of the delta and of the whole are what their features give, and what the index holds. NotPermitted where one is not."""
    space, maker = revision.space, Maker(workspace, version, forwards)
    searcher = open_index(workspace, revision, kept.opened(workspace, version, check=False).metric)
    ids = np.intersect1d(searcher.ids, workspace.gallery.space_ids(space))
    for some, least in ((np.intersect1d(delta, ids), rereading.EACH), (ids, rereading.LEAST)):
        rereading.check(maker, space, rereading.chosen(some, revision.state.content, least), searcher)


def ask_canaries(workspace: Workspace, version: int, revision: Revision) -> str:
    """Ask the canaries in the table and through the index as served. NotPermitted when they fail; returns what they said."""
    folder = workspace.upgrade_folder(version)
    pairs = PairsFolder(names.step(workspace, version, f"pairs-v{min(revision.forward, default=version)}"))
    with unreadable_is_altered(f"the candidate {version}"):
        promise = canaries.read_promise(folder / PROMISE)
        native = np.array(pairs.load("canaries", "new"))
        ids = np.array(pairs.load("canaries", "ids"))
    metric = kept.opened(workspace, version, check=False).metric
    rows = workspace.gallery.read_space(revision.space, at=revision.state.version)
    margin = workspace.settings.validate.canary_margin
    result = canaries.ask(promise, native, ids, rows.ids, rows.vectors, metric, margin)
    if not result.passed:
        raise NotPermitted(
            f"the canaries say that the space is wrong: {result.why}",
            where=revision.space,
            todo="nothing was promoted; run the upgrade again",
        )
    searcher = open_index(workspace, revision, metric)
    found = float(indexes.recall(searcher, align(searcher, rows), native, 10).mean())
    if found < workspace.settings.validate.index_recall:
        raise NotPermitted(
            f"the index finds {found:.3f} of what exact search finds for the canaries",
            wanted=f"at least {workspace.settings.validate.index_recall}",
            todo="nothing was promoted; build the index anew",
        )
    return result.why
