"""A revision n.r: the immutable set that a ledger entry names. Release, h's, every table at one version with its digests, the index.

In the ledger it also has its number and the digest of the verdict it was promoted by. Where rows were deleted since the index was built,
``masked`` says how many of its rows are answers no more. Its JSON is what stands in ledger entries, and in ``revision.json`` of an upgrade.
Files are opened and compared in :mod:`registry.revisions.building`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fct.arrays.files import read_json, read_object
from fct.errors import BadInput
from fct.gallery.state import TableState
from registry import formats

_KINDS: dict[str, type] = {
    "release": int,
    "fingerprint": str,
    "release_digest": str,
    "forward": dict,
    "space": str,
    "tables": dict,
    "index": dict,
}
_OPTIONAL = {"format": int, "revision": int, "verdict": str, "masked": int}
_INDEX = {"folder": str, "identity": str, "content": str, "rows": int, "build": dict, "files": dict}
_VERSION = re.compile(r"[1-9][0-9]{0,8}")  # as a key of "forward"


@dataclass(frozen=True)
class IndexState:
    """The index of a space.

    Attributes:
        folder: relative to the workspace. about: what its index.json says: identity, content of the space, rows, build, digests of files.
    """

    folder: str
    about: Mapping[str, Any]

    @property
    def content(self) -> str:
        """Content digest of the space that it was built from."""
        return str(self.about["content"])

    @property
    def rows(self) -> int:
        return int(self.about["rows"])

    @property
    def identity(self) -> str:
        """Digest of what it was built from and how."""
        return str(self.about["identity"])

    @property
    def files(self) -> Mapping[str, str]:
        """File name in the folder → SHA-256."""
        return self.about["files"]  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        return dict(self.about) | {"folder": self.folder}


@dataclass(frozen=True)
class Revision:
    """What serves together.

    Attributes:
        release: number of the version. fingerprint: of its embedder. release_digest: of its files.
        forward: native version → digest of the h that carried its items over.
        spaces: tables of vectors that are searched. tables: name → state of each table, spaces among them. indexes: one a space, in their order.
        number: r of n.r, None before it stands in the ledger. verdict: digest of the one it was promoted by.
        masked: rows of the index that are no answers any more; None where none was deleted since it was built.
        format: 1 where the JSON does not say (:mod:`registry.formats`).
    """

    release: int
    fingerprint: str
    release_digest: str
    forward: Mapping[int, str]
    spaces: tuple[str, ...]
    tables: Mapping[str, TableState]
    indexes: tuple[IndexState, ...]
    number: int | None = None
    verdict: str | None = None
    masked: int | None = None
    format: int = formats.REVISION

    @property
    def space(self) -> str:
        """The one space of today's formats."""
        return self.spaces[0]

    @property
    def index(self) -> IndexState:
        return self.indexes[0]

    @property
    def state(self) -> TableState:
        """The space's table."""
        return self.tables[self.space]

    @property
    def carried(self) -> dict[str, str]:
        """``forward`` as JSON has it: its keys are texts."""
        return {str(m): digest for m, digest in self.forward.items()}

    def __str__(self) -> str:
        """As people say it: ``2.1``."""
        return f"{self.release}.{self.number}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in a ledger entry; what it was read from, key by key."""
        known = {"revision": self.number, "verdict": self.verdict, "masked": self.masked}
        return (
            ({"format": self.format} if self.format > 1 else {})
            | {"release": self.release, "fingerprint": self.fingerprint, "release_digest": self.release_digest}
            | {"forward": self.carried, "space": self.space}
            | {"tables": {name: state.to_json() for name, state in self.tables.items()}, "index": self.index.to_json()}
            | {key: value for key, value in known.items() if value is not None}
        )

    @classmethod
    def from_json(cls, value: Any, where: str | Path | None = None) -> Revision:
        """Raises BadInput where the JSON is no revision, or one that later code wrote."""
        if not isinstance(value, dict):
            raise BadInput("this is not a revision", wanted="a JSON object", got=type(value).__name__, where=where)
        found = formats.readable("revision", value, formats.REVISION, where)
        if not _whole(value):
            raise BadInput("this is not a revision", wanted=", ".join(_KINDS), got=", ".join(sorted(map(str, value)))[:200], where=where)
        about = {key: one for key, one in value["index"].items() if key != "folder"}
        return cls(
            release=value["release"],
            fingerprint=value["fingerprint"],
            release_digest=value["release_digest"],
            forward={int(m): digest for m, digest in value["forward"].items()},
            spaces=(value["space"],),
            tables={name: TableState.from_json(state) for name, state in value["tables"].items()},
            indexes=(IndexState(value["index"]["folder"], about),),
            number=value.get("revision"),
            verdict=value.get("verdict"),
            masked=value.get("masked"),
            format=found,
        )


def _whole(value: dict[str, Any]) -> bool:
    """Whether a JSON object has what a revision has, and nothing else. Of format 1 none says so."""
    return (
        value.keys() >= _KINDS.keys()
        and value.keys() <= _KINDS.keys() | _OPTIONAL.keys()
        and all(type(value[name]) is kind for name, kind in (_KINDS | _OPTIONAL).items() if name in value)
        and value.get("format") != 1
        and value["space"] in value["tables"]
        and all(type(value["index"].get(name)) is kind for name, kind in _INDEX.items())
        and all(_VERSION.fullmatch(m) and type(digest) is str for m, digest in value["forward"].items())
    )


def read(path: Path) -> Revision:
    """The revision that an upgrade wrote down. BadInput where the file holds no revision, or one that later code wrote."""
    return Revision.from_json(read_json(path), path)


def readable(path: Path, key: str | None = None) -> Revision | None:
    """The same, None where the file is missing or damaged: its upgrade writes it anew. BadInput where later code wrote it.

    Args:
        key: of the revision, in a file that says more.
    """
    try:
        return read(path) if key is None else Revision.from_json(read_object(path, key)[key], path)
    except BadInput as error:
        if error.code == "newer-format":
            raise
        return None
