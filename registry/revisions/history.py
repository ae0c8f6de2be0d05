"""What the ledger's entries say of revisions: the newest of each release, the one before, the next number. No file is opened for it."""

from __future__ import annotations

from typing import Any

from registry.entry import Entry

Revision = dict[str, Any]


def latest(entries: list[Entry]) -> dict[int, Revision]:
    """Release → the newest revision that the ledger knows of it, for every release that has served."""
    found: dict[int, Revision] = {}
    for entry in entries:
        for revision in (entry.serving, *entry.detail.get("earlier", [])):
            if revision is not None:
                found[int(revision["release"])] = revision
    return found


def left_behind(entries: list[Entry]) -> set[int]:
    """Releases that a deletion or a repair found damaged and gave no new revision: nobody can return to them while they are."""
    left = set[int]()
    for entry in entries:
        for one in (entry.serving, *entry.detail.get("earlier", [])):
            left -= {int(one["release"])} if one is not None else set()
        left |= {int(one) for one in entry.detail.get("damaged", [])}
    return left


def next_number(entries: list[Entry], release: int) -> int:
    """The number of the next revision of a release; numbers are never used twice."""
    known = [one for entry in entries for one in (entry.serving, *entry.detail.get("earlier", [])) if one is not None]
    return max((int(one["revision"]) for one in known if int(one["release"]) == release), default=0) + 1


def before(entries: list[Entry], current: int) -> Revision | None:
    """The last revision of the release that served before ``current`` was promoted: what a rollback returns to."""
    promoted = max((e.number for e in entries if e.action == "promote" and e.serving and e.serving["release"] == current), default=None)
    if promoted is None:
        return None
    earlier = [e.serving for e in entries if e.number < promoted and e.serving and e.serving["release"] != current]
    return latest(entries)[int(earlier[-1]["release"])] if earlier and earlier[-1] else None
