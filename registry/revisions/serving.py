"""Search in what the ledger says serves: one revision, whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fct.datasets.images import read_file
from fct.datasets.walk import Walk
from fct.errors import BadInput, NotPermitted
from fct.gallery.index import Searcher
from fct.release.folder import Release
from registry.images import NOWHERE, admitted
from registry.revisions import history, kept
from registry.revisions.building import open_index
from registry.revisions.revision import Revision
from registry.workspace import Workspace

if TYPE_CHECKING:
    from fct.program import programs

FILTERS = ("label", "source", "origin", "native_version")
Where = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Hit:
    """One answer: an item of the gallery, its score (cosine, or minus squared distance), where its vector comes from."""

    id: str
    label: str
    score: float
    origin: str
    image_uri: str


@dataclass(frozen=True)
class Serving:
    """A revision opened for searching.

    Attributes:
        program: None where it is loaded with the first image, or cannot be: a release that was adopted without its embedder is asked with vectors.
        columns: of the N rows of the index, in its order: id, label, source, image_uri, origin (N,) str, native_version (N,) int.
        shown: (N,) bool, the rows that may be answers: no canary, and not deleted since the index was built.
        walked: which image files may be read (:func:`registry.images.admitted`).
    """

    revision: Revision
    release: Release
    program: programs.Embed | None
    searcher: Searcher
    columns: dict[str, np.ndarray]
    shown: np.ndarray
    walked: Walk = NOWHERE

    def search(self, images: np.ndarray, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k nearest items of each of (Q, C, S, S) uint8 images; canaries are never among them.

        Args:
            where: column of :data:`FILTERS` → the value, or one of the values, that answers have there.

        Raises:
            BadInput: k is below 1, or a column that cannot be filtered by.
        """
        if k < 1:
            raise BadInput("k is too small", wanted="at least 1", got=k)
        from fct import device as devices
        from fct.program import programs

        program = self.release.program() if self.program is None else self.program  # which says why there is none
        query, _ = programs.embed(program, images, device=devices.pick("cpu"))
        return self.search_vectors(query, k, where=where)

    def search_vectors(self, query: np.ndarray, k: int, fingerprint: str | None = None, where: Where | None = None) -> list[list[Hit]]:
        """The same for (Q, E) vectors; ``fingerprint`` of the embedder that made them must be the release's.

        Raises:
            BadInput: vectors of another dimension or embedder; as :meth:`search`.
        """
        if fingerprint is not None and fingerprint != self.release.fingerprint:
            raise BadInput(
                "the query vectors come from another embedder",
                wanted=self.release.fingerprint[:12],
                got=fingerprint[:12],
                todo="embed the query with the release that serves",
            )
        found, scores = self.searcher.rows(query, k, keep=self.kept(where))
        return [[self._hit(row, score) for row, score in zip(*both, strict=True) if row >= 0] for both in zip(found, scores, strict=True)]

    def kept(self, where: Where | None) -> np.ndarray:
        """(N,) bool: the rows that may be answers under a filter.

        Raises:
            BadInput: a column that cannot be filtered by.
        """
        keep = self.shown
        for name, wanted in (where or {}).items():
            if name not in FILTERS:
                raise BadInput("answers cannot be filtered by this", wanted=" ".join(FILTERS), got=name)
            values = [wanted] if isinstance(wanted, str) else [str(one) for one in wanted]
            keep = keep & np.isin(self.columns[name].astype(str), values)
        return keep

    def row_of(self, one: str) -> int:
        """Row of an item in the index.

        Raises:
            BadInput: no such item, or it was deleted.
        """
        found = np.flatnonzero((self.columns["id"] == one) & self.shown)
        if not len(found):
            raise BadInput("the gallery that serves has no such item", got=one[:200])
        return int(found[0])

    def image_of(self, one: str, size: int, mode: str) -> np.ndarray:
        """(C, size, size) uint8: an item's image, where it can be read still.

        Raises:
            BadInput: no such item, or its image cannot be read, or may not.
        """
        uri = str(self.columns["image_uri"][self.row_of(one)])
        with self.walked.open(uri) as file:
            return read_file(file, uri, size, mode)

    def vector_of(self, one: str) -> np.ndarray:
        """(1, E) an item's own vector, as the index holds it: to search for what is like it, without its image."""
        return self.searcher.vector(self.row_of(one))[None]

    def _hit(self, row: int, score: float) -> Hit:
        of = self.columns
        return Hit(str(of["id"][row]), str(of["label"][row]), float(score), str(of["origin"][row]), str(of["image_uri"][row]))


def open_serving(workspace: Workspace, release: int | None = None) -> Serving:
    """Open the revision that serves, for few queries: its program is loaded when an image is asked.

    Args:
        release: insist on this release; another one than the ledger's is refused, so that model and gallery never mix.

    Raises:
        BadInput: nothing serves. NotPermitted: another release was asked for, or fingerprints do not match.
    """
    now = history.serving(workspace.ledger)
    if now is None:
        raise BadInput("nothing serves yet", todo="promote a release: see `fct status`")
    return open_revision(workspace, now, release, trace=False)


def open_revision(
    workspace: Workspace,
    revision: Revision,
    release: int | None = None,
    beside: Serving | None = None,
    *,
    check: bool = True,
    trace: bool = True,
) -> Serving:
    """Open a revision for searching, after its release, space and index were compared.

    Args:
        beside: what is open already; its program is used again where the embedder is the same.
        check: compare the release's files, and those of the tables that are read, with their digests; leave out only right after
            :func:`registry.revisions.building.verify`. The index always is.
        trace: load the program now, and make it quick at many queries.
    """
    number = revision.release
    if release is not None and release != number:
        raise NotPermitted(
            f"release {release} does not serve, release {number} does", todo="queries and gallery must be of the same release"
        )
    same = beside is not None and beside.revision.release == number and beside.release.fingerprint == revision.fingerprint
    opened = beside.release if same and beside is not None else kept.release(workspace, revision, check=check)
    gallery, space = workspace.gallery, revision.space
    for name in ("items", space) if check else ():
        gallery.verify(revision.tables[name])
    found = gallery.space_info(space).fingerprint
    if not opened.fingerprint == revision.fingerprint == found:
        raise NotPermitted(
            "query embedder and gallery are not of one release",
            wanted=revision.fingerprint[:12],
            got=f"program {opened.fingerprint[:12]}, space {found[:12]}",
        )
    shared = beside is not None and beside.revision.index == revision.index and beside.release.metric == opened.metric
    searcher = beside.searcher if shared and beside is not None else open_index(workspace, revision, opened.metric)
    items = gallery.items(at=revision.tables["items"].version)
    ids, origins = gallery.space_origins(space, at=revision.state.version)
    in_items, in_space = _places(items["id"], searcher.ids), _places(ids, searcher.ids)
    there = (in_items >= 0) & (in_space >= 0)  # the others were deleted since the index was built
    columns = {name: items[name][in_items] for name in ("label", "source", "image_uri", "native_version")}
    columns |= {"id": searcher.ids, "origin": origins[in_space]}
    shown = there & (items["role"][in_items] != "canary")
    program = beside.program if same and beside is not None else None
    if program is None and trace and not opened.adopted:
        from fct.program import programs

        program = programs.traced(opened.program(), opened.canaries()[1])
    return Serving(revision, opened, program, searcher, columns, shown, admitted(workspace))


def _places(there: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of ``wanted`` stands in the sorted, not empty ``there``; -1 for those that are not there."""
    place = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
    return np.where(there[place] == wanted, place, -1)
