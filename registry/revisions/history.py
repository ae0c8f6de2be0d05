"""What the ledger's entries say of revisions: what serves, the newest of each release, the one before, the next number. No file is opened.

The ledger keeps revisions as plain JSON. They are read here (:class:`registry.revisions.revision.Revision`); what only asks for numbers
reads no more than these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fct.gallery.state import TableState
from registry.entry import Entry, Json
from registry.ledger import Ledger
from registry.revisions.revision import Revision


def serving(said: Ledger | Entry | None) -> Revision | None:
    """What serves from an entry on, or now by a ledger; None where nothing does.

    Raises:
        BadInput: later code wrote it, or it is no revision.
    """
    value = said.serving() if isinstance(said, Ledger) else None if said is None else said.serving
    return None if value is None else Revision.from_json(value)


def earlier(detail: Json) -> list[Revision]:
    """New revisions of releases that do not serve, as the detail of an entry lists them."""
    return [Revision.from_json(one) for one in detail.get("earlier", [])]


def recorded(detail: Json) -> dict[str, TableState]:
    """Table → state of what waits for a first release, as the detail of an entry records it."""
    return {name: TableState.from_json(state) for name, state in detail.get("recorded", {}).items()}


def states(entry: Entry) -> Iterator[TableState]:
    """Every table at a version that an entry records: of what serves, of earlier releases, and of what waits for a first release."""
    for one in _named(entry):
        yield from Revision.from_json(one).tables.values()
    yield from recorded(entry.detail).values()


def latest(entries: list[Entry]) -> dict[int, Revision]:
    """Release → the newest revision that the ledger knows of it, for every release that has served."""
    found = {int(one["release"]): one for entry in entries for one in _named(entry)}
    return {release: Revision.from_json(one) for release, one in found.items()}


def newest_entry(entries: list[Entry], revision: Revision) -> int:
    """Number of the newest entry that names a revision."""
    wanted = revision.to_json()
    return next(entry.number for entry in reversed(entries) if wanted in _named(entry))


def left_behind(entries: list[Entry]) -> set[int]:
    """Releases that a deletion or a repair found damaged and gave no new revision: nobody can return to them while they are."""
    left = set[int]()
    for entry in entries:
        left -= {int(one["release"]) for one in _named(entry)}
        left |= {int(one) for one in entry.detail.get("damaged", [])}
    return left


def numbered(revision: Revision, entries: list[Entry], verdict: str | None) -> Revision:
    """A revision that is new under the next number of its release; numbers are never used twice."""
    known = [one for entry in entries for one in _named(entry)]
    last = max((int(one["revision"]) for one in known if int(one["release"]) == revision.release), default=0)
    return replace(revision, number=last + 1, verdict=verdict)


def before(entries: list[Entry], current: int) -> Revision | None:
    """The last revision of the release that served before ``current`` was promoted: what a rollback returns to."""
    promoted = max((entry.number for entry in entries if entry.action == "promote" and entry.release == current), default=None)
    if promoted is None:
        return None
    served = [one for entry in entries if entry.number < promoted and (one := entry.release) is not None and one != current]
    return latest(entries)[served[-1]] if served else None


def _named(entry: Entry) -> Iterator[Json]:
    """JSON of what serves, then of new revisions of earlier releases."""
    yield from (one for one in (entry.serving, *entry.detail.get("earlier", [])) if one is not None)
