"""Search in what the ledger says serves: one revision, whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fct import device as devices
from fct import program as programs
from fct.errors import BadInput, NotPermitted
from fct.index import Searcher
from fct.release import Release
from registry.upgrade import open_revision_index
from registry.workspace import Workspace


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
    """A revision opened for searching."""

    revision: dict[str, Any]
    release: Release
    program: programs.Embed
    searcher: Searcher
    items: dict[str, int]
    columns: dict[str, np.ndarray]
    origins: dict[str, str]
    hidden: frozenset[str]

    def search(self, images: np.ndarray, k: int) -> list[list[Hit]]:
        """The k nearest items of each of (Q, C, S, S) uint8 images; canaries are never among them.

        Raises:
            BadInput: k is below 1.
        """
        if k < 1:
            raise BadInput("k is too small", wanted="at least 1", got=k)
        device = devices.pick("cpu")
        query, _ = programs.embed(self.program, images, device=device)
        return self.search_vectors(query, k)

    def search_vectors(self, query: np.ndarray, k: int, fingerprint: str | None = None) -> list[list[Hit]]:
        """The same for (Q, E) vectors; ``fingerprint`` of the embedder that made them must be the release's.

        Raises:
            BadInput: vectors of another dimension or embedder.
        """
        if fingerprint is not None and fingerprint != self.release.fingerprint:
            raise BadInput(
                "the query vectors come from another embedder",
                wanted=self.release.fingerprint[:12],
                got=fingerprint[:12],
                todo="embed the query with the release that serves",
            )
        found, scores = self.searcher.search(query, k, exclude=self.hidden)
        return [
            [
                Hit(
                    str(one),
                    str(self.columns["label"][self.items[str(one)]]),
                    float(score),
                    self.origins[str(one)],
                    str(self.columns["image_uri"][self.items[str(one)]]),
                )
                for one, score in zip(ids, row, strict=True)
                if one
            ]
            for ids, row in zip(found, scores, strict=True)
        ]


def open_serving(workspace: Workspace, release: int | None = None) -> Serving:
    """Open the revision that serves.

    Args:
        release: insist on this release; another one than the ledger's is refused, so that model and gallery never mix.

    Raises:
        BadInput: nothing serves. NotPermitted: another release was asked for, or fingerprints do not match.
    """
    serving = workspace.ledger.serving()
    if serving is None:
        raise BadInput("nothing serves yet", todo="promote a release: see `fct status`")
    return open_revision(workspace, serving, release)


def open_revision(workspace: Workspace, revision: dict[str, Any], release: int | None = None) -> Serving:
    """Open a revision (a dict of the ledger) for searching, after its release, space and index were compared."""
    number = int(revision["release"])
    if release is not None and release != number:
        raise NotPermitted(
            f"release {release} does not serve, release {number} does", todo="queries and gallery must be of the same release"
        )
    opened = workspace.releases.release(number)
    gallery = workspace.gallery
    space = revision["space"]
    found = gallery.space_info(space).fingerprint
    if not opened.fingerprint == revision["fingerprint"] == found:
        raise NotPermitted(
            "query embedder and gallery are not of one release",
            wanted=revision["fingerprint"][:12],
            got=f"program {opened.fingerprint[:12]}, space {found[:12]}",
        )
    searcher = open_revision_index(workspace, revision, opened.metric)
    columns = gallery.items(at=revision["tables"]["items"]["version"])
    rows = gallery.read_space(space, at=revision["tables"][space]["version"])
    hidden = frozenset(columns["id"][columns["role"] == "canary"].tolist()) | (
        frozenset(rows.ids.tolist()) - frozenset(columns["id"].tolist())
    )
    items = {one: row for row, one in enumerate(columns["id"].tolist())}
    return Serving(
        revision,
        opened,
        opened.program(),
        searcher,
        items,
        columns,
        dict(zip(rows.ids.tolist(), rows.origin.tolist(), strict=True)),
        hidden,
    )
