"""Rehearse a rollback: does what serves still give the same answers after the candidate was written beside it?

The revision that serves when an upgrade starts is asked some queries before anything of the candidate exists, and again when its
space and index are there. It is opened as a rollback would open it. The ledger is only read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import digests, vectors
from fct.arrays.files import read_json, whole_folder, write_json
from fct.errors import FctError
from registry.revisions.revision import Revision
from registry.revisions.serving import Serving, open_revision
from registry.verdicts.gates.rollback import Rehearsal
from registry.workspace import Workspace

QUERIES = 200
DEPTH = 10
BLOCK = 16  # faiss multiplies 20 and more queries at once with BLAS, whose last bits depend on the number of threads


Open = Callable[[Revision], Serving]


def answers(serving: Serving, queries: np.ndarray) -> list[list[list[Any]]]:
    """For each of (Q, D) queries the nearest items, best first: [id, score, label]."""
    found = []
    for start in range(0, len(queries), BLOCK):
        found += serving.search_vectors(queries[start : start + BLOCK], DEPTH)
    return [[[hit.id, hit.score, hit.label] for hit in hits] for hits in found]


def record(opened: Open, revision: Revision, queries: np.ndarray, folder: Path) -> None:
    """Write down how a revision answers now: ``queries.npy`` and ``rehearsal.json``, whole or not at all.

    A revision that cannot be opened is written down with the reason: that is the gate's business, not an end of the upgrade.

    Args:
        opened: opens a revision for searching. queries: (Q, D); at most :data:`QUERIES` of them are asked.
    """
    asked = np.array(queries[np.random.default_rng(0).permutation(len(queries))[:QUERIES]])
    said: dict[str, Any] = {"revision": revision.to_json()}
    try:
        said["answers"] = answers(opened(revision), asked)
    except FctError as error:
        said["problem"] = str(error)
    with whole_folder(folder) as part:
        vectors.save(part / "queries.npy", asked)
        write_json(part / "rehearsal.json", said)


def repeat(opened: Open, folder: Path) -> Rehearsal:
    """Ask the recorded revision again and compare. One that cannot be opened gives no same answer, not an error."""
    said, queries = read_json(folder / "rehearsal.json"), np.array(vectors.load(folder / "queries.npy"))
    revision = Revision.from_json(said["revision"], folder / "rehearsal.json")
    name = f"release {revision.release}"
    if "problem" in said:
        return Rehearsal(len(queries), 0.0, f"{name} could not be asked before the candidate was written: {said['problem']}")
    try:
        now = answers(opened(revision), queries)
    except FctError as error:
        return Rehearsal(len(queries), 0.0, f"{name} cannot be returned to: {error}")
    same = sum(first == second for first, second in zip(said["answers"], now, strict=True)) / len(queries)
    digest = [digests.of_json(one)[:12] for one in (said["answers"], now)]
    return Rehearsal(len(queries), same, f"{name} asked before and after the candidate was written: answers {digest[0]} and {digest[1]}")


def before(workspace: Workspace, serving: Revision, folder: Path, queries: Callable[[], np.ndarray]) -> None:
    """Write down how the revision that serves answers, once, before anything of the candidate exists.

    Args:
        folder: where it is written. queries: gives (Q, D) of its space; asked only where nothing that stands was written before.
    """
    if not _stands(workspace, serving, folder / "rehearsal.json"):
        record(partial(open_revision, workspace), serving, queries(), folder)


def _stands(workspace: Workspace, serving: Revision, path: Path) -> bool:
    """Whether the champion was asked, at a revision whose tables and index are still there (a purge or a gc may have removed them)."""
    if not path.exists():
        return False
    revision = Revision.from_json(read_json(path)["revision"], path)
    if revision.release != serving.release or not (workspace.folder / revision.index.folder).is_dir():
        return False
    return all(workspace.gallery.has_version(name, state.version) for name, state in revision.tables.items())


def after(workspace: Workspace, folder: Path) -> Rehearsal | None:
    """How it answers now that the candidate's space and index are written; None where nothing was written down before."""
    return repeat(partial(open_revision, workspace), folder) if folder.exists() else None
