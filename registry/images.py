"""Images of items: from where they may be read, at an ingest and at any later time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fct.arrays.texts import storable
from fct.datasets.images import MOST_BYTES, read_bytes
from fct.datasets.walk import Walk, dvc_cache
from fct.errors import BadInput

if TYPE_CHECKING:
    from registry.workspace import Workspace

LONGEST_ID = 1024  # bytes
LONGEST = {"label": 1024, "source": 1024, "uri": 4096}  # characters: a part of 1,024 rows takes the room of its longest text in each
NOWHERE = Walk(())


@dataclass(frozen=True)
class Arrival:
    """One image that wants to become an item.

    ``data``: bytes of the image file where they came with the table, else None. ``walked``: which files may be read, now as at any later time.
    """

    id: str
    label: str
    source: str
    uri: str
    data: bytes | None = None
    walked: Walk = NOWHERE

    def read(self, size: int, mode: str) -> tuple[np.ndarray, str]:
        """The image as uint8 (C, size, size), and the SHA-256 of its file's bytes.

        Raises:
            BadInput: it cannot be read, or its id cannot be stored.
        """
        try:
            length = len(self.id.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise BadInput("an id is not UTF-8", got=ascii(self.id)[:200], todo="rename the file") from error
        if not self.id or "\0" in self.id or length > LONGEST_ID:
            raise BadInput(
                "an id cannot be stored", wanted=f"1 to {LONGEST_ID} bytes without NUL", got=f"{len(self.id)} characters", where=self.uri
            )
        for name, most in LONGEST.items():
            text = getattr(self, name)
            if len(text) > most or not storable(text):
                wanted = f"at most {most} characters of UTF-8 without NUL"
                raise BadInput(f"the {name} cannot be stored", wanted=wanted, got=f"{len(text)} characters: {ascii(text)[:200]}")
        data = self.data
        if data is None:
            with self.walked.open(self.uri) as file:
                try:
                    data = file.read(MOST_BYTES)
                except OSError as error:
                    raise BadInput("an image file cannot be read", got=error.strerror, where=self.uri) from error
        return read_bytes(data, size, mode), hashlib.sha256(data).hexdigest()


def admitted(workspace: Workspace, roots: Sequence[str | Path] = ()) -> Walk:
    """Where images of the gallery may lie when they are read again: what ingests named, as the ledger says, DVC's cache, ``data.roots``
    and further ``roots``.

    A folder that an ingest named and that is a link by now counts no longer. Where the ledger has ingests of earlier code, which did not say
    what they named, a file of the folder that its item names counts, too.
    """
    entries = [entry for entry in workspace.ledger.entries() if entry.action == "ingest"]
    named = (root for entry in entries for root in entry.detail.get("roots", ()))
    places = [dvc_cache(workspace.root), *map(Path, (*workspace.settings.data.roots, *roots))]
    return Walk(places, named, beside=any("roots" not in entry.detail for entry in entries))
