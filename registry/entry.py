"""Entries of the ledger: what one says, what may follow it, and what several of them say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fct.arrays import digests
from fct.errors import BadInput
from registry import formats
from registry.mark import Mark

ACTIONS = ("promote", "ingest", "delete", "backfill", "repair", "rollback", "gc", "approve", "reject", "withdraw", "accept")
DECISIONS = ("approve", "reject", "withdraw")  # a person's word: recorded, changes nothing that serves
REVISIONS = ("ingest", "delete", "backfill", "repair", "accept")  # a new revision of the release that serves already
REPORTS = "reports in MLflow"  # what a purge may owe
Json = dict[str, Any]  # an object of plain JSON
_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int,),
    "previous": (str, type(None)),
    "serving": (dict, type(None)),
    "detail": (dict,),
    "format": (int,),
}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Args:
        number: 1 for the first entry, without gaps.
        previous: digest of the entry before, None for the first.
        action: one of :data:`ACTIONS`, done ``at`` (ISO 8601, UTC, microseconds) by ``by``; ``why`` in their words.
        model: name of the registered model.
        serving: the revision that serves from this entry on, or None when nothing serves yet. Plain JSON, opaque here
            but for its integers ``release`` and ``revision``.
        detail: plain JSON about the operation.
        token: random; tells apart two writers that would write the same words at the same instant.
        format: 1 where the file does not say (:mod:`registry.formats`).
    """

    number: int
    previous: str | None
    action: str
    at: str
    by: str
    why: str
    model: str
    serving: Json | None
    detail: Json = field(default_factory=dict)
    token: str = ""
    format: int = 1

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the entry."""
        return digests.of_json(self.to_json())

    @property
    def release(self) -> int | None:
        """Number of the release that serves from this entry on, or None."""
        return None if self.serving is None else int(self.serving["release"])

    @property
    def revision(self) -> int | None:
        """Number of its revision, or None where nothing serves."""
        return None if self.serving is None else int(self.serving["revision"])

    def to_json(self) -> Json:
        """As it stands in its file: an entry without a number has none here either, or its digest would be another."""
        value = asdict(self)
        if self.format == 1:
            del value["format"]
        return value

    @classmethod
    def from_json(cls, value: Any) -> Entry:
        """Build an entry from parsed JSON; missing, unknown or ill-typed keys are :class:`~fct.errors.BadInput`."""
        keys = sorted(value) if isinstance(value, dict) else type(value).__name__
        if isinstance(value, dict):
            formats.readable("ledger entry", value, formats.ENTRY)
        wanted = [item.name for item in fields(cls) if item.name != "format" or (isinstance(value, dict) and "format" in value)]
        if keys != sorted(wanted) or value.get("format") == 1:  # of format 1 no entry says so
            raise BadInput("this is not a ledger entry", wanted=f"the keys {wanted}", got=keys)
        for name in keys:
            if type(value[name]) not in _TYPES.get(name, (str,)):
                raise BadInput("a ledger entry has a key of the wrong type", got=repr(value[name]), where=name)
        if value["action"] not in ACTIONS:
            raise BadInput("this action is unknown", wanted=" or ".join(ACTIONS), got=value["action"])
        if not value["by"].strip() or not value["model"]:
            raise BadInput("a ledger entry needs a name in 'by' and in 'model'", got=[value["by"], value["model"]])
        serving = value["serving"]
        if serving is not None and not all(type(serving.get(name)) is int for name in ("release", "revision")):
            raise BadInput("a revision lacks its numbers", wanted="integers named release and revision", got=sorted(serving))
        try:
            digests.of_json(value)
        except ValueError as error:  # NaN or half a surrogate pair: Python reads them, other readers would not
            raise BadInput("a ledger entry is not plain JSON", got=error) from error
        return cls(**value)


def follows(entry: Entry, before: Entry | None) -> str | None:
    """Say in one sentence why ``entry`` cannot stand right after ``before``, or None when it can."""
    if entry.number != (before.number if before else 0) + 1:
        return f"its number is {entry.number}, after {before.number if before else 'nothing'}"
    if entry.previous != (before.digest if before else None):
        return "the digest of its predecessor is not the one it names"
    if before is not None and entry.model != before.model:
        return f"it is about the model {entry.model!r}, in the ledger of {before.model!r}"
    if before is not None and entry.format < before.format:
        return f"it is of format {entry.format}, after one of format {before.format}"
    old, new = before.serving if before else None, entry.serving
    if entry.action in (*DECISIONS, "gc") and new != old:
        return f"{entry.action} must leave unchanged what serves"
    if entry.action in REVISIONS and entry.release != (before.release if before else None):
        return f"{entry.action} must leave unchanged which release serves"
    if old and new and old["release"] == new["release"] and old.get("release_digest") != new.get("release_digest"):
        return f"release {new['release']} is another one than before"
    if entry.action in ("promote", "rollback") and new is None:
        return f"{entry.action} must name the revision that serves"
    if old and new and old != new and (old["release"], old["revision"]) == (new["release"], new["revision"]):
        return f"revision {new['release']}.{new['revision']} is taken by another content"
    return None


def decided(entries: Iterable[Entry]) -> dict[int, Entry]:
    """Version → the latest decision about it."""
    return {int(entry.detail["version"]): entry for entry in entries if entry.action in DECISIONS}


def approved_verdict(decision: Entry | None) -> str | None:
    """Digest of the verdict that a decision approves; None where it approves nothing."""
    return None if decision is None or decision.action != "approve" else str(decision.detail.get("verdict"))


def owed(entries: Iterable[Entry]) -> int | None:
    """Number of the entry since which MLflow's reports may name items that were purged (:mod:`registry.items.debts`); None where nothing is owed."""
    since = None
    for entry in entries:
        if entry.detail.get("owes") == REPORTS and since is None:
            since = entry.number
        if "paid" in entry.detail:
            since = None
    return since


def stands(mark: Mark, entries: Sequence[Entry]) -> bool:
    """Whether an entry is in the ledger of these ``entries``, or a person has accepted that it is not."""
    here = entries[mark.number - 1] if mark.number <= len(entries) else None
    accepted = (entry.detail["lost"] for entry in entries if entry.action == "accept")
    return (here is not None and here.digest == mark.digest) or any(asdict(mark) in lost for lost in accepted)
