"""The ledger: a chain of JSON entries whose highest one says what serves.

One file per entry, ``0000001.json``, ``0000002.json``, …, each naming the digest of its predecessor and written with put-if-absent.
That single write is the commit point of every operation: it compares (the number must be free), it swaps (the highest entry serves),
it fences (a process that slept through somebody else's entry finds its number taken) and it is the audit trail.
A ledger belongs to one registered model; keep one folder or bucket prefix for each.

The newest entry has no successor that names its digest. So a file ``0000003.DIGEST.sha256`` is written before each entry, empty, and is given
the checksum of the entry's file after it: empty and without an entry it is of a writer that was cut short or overtaken, with content and
without its entry it says that the entry was removed. What was seen of the ledger (:mod:`registry.mark`) says that too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from fct.arrays import digests
from fct.arrays.files import disk_errors, flush
from fct.errors import Altered, BadInput, FctError, OperationFailed
from registry import formats
from registry.entry import Entry, Json, follows, stands
from registry.mark import Mark, read_mark, write_mark

CHECKED = 3  # format from which on an entry has a checksum

T = TypeVar("T")

_FILE = re.compile(r"(\d{7,})\.json", re.ASCII)
_SUM = re.compile(r"(\d{7,})\.([0-9a-f]{64})\.sha256", re.ASCII)


class Overtaken(OperationFailed):
    """Somebody else appended an entry first. Nothing was changed; running the command again starts from the new head."""

    code = "overtaken"


@dataclass(frozen=True)
class _Listing:
    """What stands in a ledger's folder: numbers of entries, ascending; number → digest of a checksum file → whether its entry was written."""

    numbers: list[int]
    sums: dict[int, dict[str, bool]]

    def dangling(self) -> list[Mark]:
        """Entries after the highest that were written and are not there, as far as checksum files say so."""
        highest = self.numbers[-1] if self.numbers else 0
        after = {number: sums for number, sums in self.sums.items() if number > highest}
        return [Mark(number, digest) for number, sums in after.items() for digest, written in sums.items() if written]


class Ledger:
    """The entries below one folder or object-store URL (``s3://…``, ``gs://…``, ``az://…``). Reading creates nothing there.

    Args:
        seen: file in which the highest entry that was seen is kept, so that its loss is noticed; without one this object alone remembers it.

    Examples:
        >>> from registry.ledger import Ledger
        >>> ledger = Ledger("ledger")
        >>> word = ledger.append(None, action="approve", by="ana", why="looks right", model="icons", serving=None)
        >>> revision = {"release": 1, "revision": 1}
        >>> first = ledger.append(word, action="promote", by="ana", why="looks right", model="icons", serving=revision)
        >>> [(entry.number, entry.action, entry.by) for entry in ledger.entries()], ledger.release()
        ([(1, 'approve', 'ana'), (2, 'promote', 'ana')], 1)
        >>> ledger.append(word, action="promote", by="bob", why="I read it, too", model="icons", serving=revision)
        Traceback (most recent call last):
        registry.ledger.Overtaken: the ledger moved on meanwhile; wanted entry 1 at the head; got entry 2 (promote by ana ...
    """

    def __init__(self, place: str | Path, seen: Path | None = None):
        self.place, self.seen = str(place), seen
        remote = "://" in self.place and not self.place.startswith("file://")
        self._folder = None if remote else Path(unquote(urlparse(self.place).path) if self.place.startswith("file://") else place)
        self._remote = self._talk(lambda: from_url(self.place)) if remote else None
        self._known: Mark | None = None
        self._pardoned: set[Mark] = set()

    def head(self) -> Entry | None:
        """The highest entry, its link to the one before checked; None in an empty ledger.

        Raises:
            NotPermitted: an entry is damaged, or one that was there is gone (:meth:`lost`).
        """
        head, lost = self._looked()
        self._none(lost, head)
        return head

    def entries(self) -> list[Entry]:
        """Every entry, oldest first. A gap, a changed, damaged or lost entry is :class:`~fct.errors.Altered` naming it."""
        head, lost = self._looked()
        self._none(lost, head)
        return self.all_there()

    def all_there(self) -> list[Entry]:
        """Every entry that is there, whether or not later ones were lost; otherwise as :meth:`entries`."""

        def read() -> list[Entry]:
            listing = self._listing()
            with ThreadPoolExecutor(8) as readers:  # an object store answers many small reads at once
                return self._chained(list(readers.map(partial(self._read, listing=listing), listing.numbers)), None)

        return self._twice(read)

    def lost(self) -> list[Mark]:
        """Entries that are known to have been there, ascending, where they are there no more and nobody has accepted that."""
        return self._looked()[1]

    @contextmanager
    def pardoning(self, lost: Iterable[Mark]) -> Iterator[None]:
        """Read and append by this object as if these entries were not missed: for the entry *accept*, which names them in its detail."""
        self._pardoned = set(lost)
        try:
            yield
        finally:
            self._pardoned = set()

    def heed(self, mark: Mark) -> None:
        """Take somebody's word that this entry stood in the ledger; from now on it is missed where it does not."""
        if self._known is None or self._known < mark:
            self._known = mark
            if self.seen is not None:
                write_mark(self.seen, mark)

    def serving(self) -> Json | None:
        """The revision that serves, or None; :func:`registry.revisions.history.serving` reads it."""
        head = self.head()
        return head.serving if head else None

    def release(self) -> int | None:
        """Number of the release that serves, or None."""
        head = self.head()
        return head.release if head else None

    def has_served(self, digest: str) -> bool:
        """Whether a release with this digest ever served."""

        def served(entry: Entry) -> bool:
            return entry.serving is not None and entry.serving.get("release_digest") == digest

        head = self.head()
        return head is not None and (served(head) or any(map(served, self.entries())))

    def append(
        self, expected: Entry | None, *, action: str, by: str, why: str, model: str, serving: Json | None, detail: Json | None = None
    ) -> Entry:
        """Append one entry after ``expected``, or change nothing.

        ``expected`` is the head the caller's work is based on (None: the ledger was empty). ``serving`` and ``detail`` are
        JSON values; their keys become strings and tuples become lists, as in the entry that is returned.

        Raises:
            Overtaken: the head is no longer ``expected``.
            BadInput: the entry breaks a rule of :func:`follows` or is not JSON. OperationFailed: the store cannot be written.
        """
        number, previous = (expected.number + 1, expected.digest) if expected else (1, None)
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        draft: Json = {"number": number, "previous": previous, "action": action, "at": at, "by": by, "why": why, "model": model}
        draft |= {"serving": serving, "detail": detail or {}, "token": secrets.token_hex(8), "format": formats.ENTRY}
        try:
            data = json.dumps(draft, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise BadInput("a ledger entry must be plain JSON", got=error, where=action) from error
        entry = Entry.from_json(json.loads(data))  # what readers will see: the digest must be theirs
        problem = follows(entry, expected)
        if problem:
            raise BadInput(f"ledger entry {entry.number} cannot be appended: {problem}", where=self.place)
        head, lost = self._looked()
        self._none(lost, head)
        if (head and head.digest) == entry.previous and self._put(entry, data):
            self.heed(Mark(entry.number, entry.digest))
            return entry
        head = self._looked()[0]
        wanted = f"entry {expected.number} at the head" if expected else "an empty ledger"
        got = f"entry {head.number} ({head.action} by {head.by} at {head.at})" if head else "an empty ledger"
        raise Overtaken("the ledger moved on meanwhile", wanted=wanted, got=got, where=self.place, todo="run the command again")

    def _put(self, entry: Entry, data: bytes) -> bool:
        """Write the entry if its number is free; say whether it is ours that stands there now."""
        store, name, sum_name = self._store(create=True), f"{entry.number:07d}.json", f"{entry.number:07d}.{entry.digest}.sha256"
        self._talk(lambda: obstore.put(store, sum_name, b""))
        self._flush(sum_name)  # or a power cut could leave the entry alone, which would look damaged
        try:
            self._talk(lambda: obstore.put(store, name, data, mode="create"))
        except AlreadyExistsError:
            # A retried request finds its own entry when only the first answer was lost.
            if self._read(entry.number) != entry:
                self._remove(sum_name)
                return False
        except FctError:
            if entry.number not in self._listing().numbers or self._read(entry.number) != entry:
                raise  # else the write was done and only its answer lost
        self._flush(name)
        with suppress(FctError):  # the entry stands: what says so may lack
            self._talk(lambda: obstore.put(store, sum_name, f"{digests.of_bytes(data)}  {name}\n".encode()))
            for other in self._listing().sums.get(entry.number, {}).keys() - {entry.digest}:  # of writers that were cut short
                self._remove(f"{entry.number:07d}.{other}.sha256")
        return True

    def _flush(self, name: str) -> None:
        if self._folder is not None:
            flush(self._folder / name)
            flush(self._folder)

    def _remove(self, name: str) -> None:
        with suppress(FctError, FileNotFoundError):
            self._talk(lambda: obstore.delete(self._store(), name))

    def _looked(self) -> tuple[Entry | None, list[Mark]]:
        """The highest entry, and what was lost after it or instead of it."""
        found = self._twice(self._look)
        return self._twice(self._look) if found[1] else found  # an entry may be written while its folder is listed

    def _look(self) -> tuple[Entry | None, list[Mark]]:
        noted = None if self.seen is None else read_mark(self.seen)  # first: an entry that is written meanwhile is not lost
        known = max((mark for mark in (self._known, noted) if mark is not None), default=None)
        listing = self._listing()
        pair = [self._read(number, listing) for number in listing.numbers[-2:]]
        head = self._chained(pair, pair[0] if len(pair) == 2 else None)[-1] if pair else None
        missed = {*listing.dangling(), *((known,) if known is not None else ())}
        lost = sorted(mark for mark in missed if not self._stands(mark, pair))
        now = lost[-1] if lost else None if head is None else Mark(head.number, head.digest)
        if self._pardoned:
            return head, lost  # until the entry that accepts it stands, others are to miss what was lost
        self._known = now
        if now is not None and self.seen is not None and now != noted:
            write_mark(self.seen, now)  # also what was lost, so that every command knows what one server remembers
        return head, lost

    def _stands(self, mark: Mark, pair: list[Entry]) -> bool:
        here = any((entry.number, entry.digest) == (mark.number, mark.digest) for entry in pair)
        return here or mark in self._pardoned or stands(mark, self.all_there())

    def _none(self, lost: list[Mark], head: Entry | None) -> None:
        if not lost:
            return
        there = "it is empty" if head is None else f"its highest entry is {head.number}, {head.digest[:12]}"
        raise Altered(
            f"the ledger has lost entry {lost[-1].number}, {lost[-1].digest[:12]}: {there}",
            where=self.place,
            todo="restore its newest files; or, if they are lost for good and work shall continue from this state, type"
            " `fct reconcile --accept-head --by NAME --why TEXT` (docs/operations.md)",
        )

    def _listing(self) -> _Listing:
        if self._folder is not None and not self._folder.is_dir():
            return _Listing([], {})
        listed = self._talk(lambda: obstore.list_with_delimiter(self._store()))
        names = {Path(item["path"]).name: int(item["size"]) for item in listed["objects"]}  # obstore's unfinished writes have other names
        sums: dict[int, dict[str, bool]] = {}
        for match in filter(None, map(_SUM.fullmatch, names)):
            sums.setdefault(int(match[1]), {})[match[2]] = names[match[0]] > 0
        return _Listing(sorted(int(match[1]) for match in map(_FILE.fullmatch, names) if match), sums)

    def _twice(self, read: Callable[[], T]) -> T:
        """A folder that others write to may be listed with one of their files and without an earlier one."""
        try:
            return read()
        except Altered:
            return read()

    def _read(self, number: int, listing: _Listing | None = None) -> Entry:
        """An entry, with ``listing`` compared with its checksum."""
        name = f"{number:07d}.json"
        try:
            data = bytes(self._talk(lambda: obstore.get(self._store(), name).bytes()))
            entry = Entry.from_json(json.loads(data))
        except (FileNotFoundError, ValueError, BadInput) as error:
            todo = "restore it from a backup"
            if isinstance(error, ValueError) and not data:  # a power cut between the file's name and its content
                todo = "if it is the highest entry its write never ended: remove the empty file and run the command again"
            message = f"ledger entry {number} is missing or damaged"
            raise Altered(message, got=error, where=f"{self.place}/{name}", todo=todo) from error
        if entry.number != number:
            raise Altered(f"ledger entry {number} says it is entry {entry.number}", where=f"{self.place}/{name}")
        sums = {} if listing is None else listing.sums.get(number, {})
        if listing is not None and (entry.format >= CHECKED or any(sums.values())) and entry.digest not in sums:
            message, todo = f"ledger entry {number} is missing its checksum, or was altered", "restore it and its .sha256 from a backup"
            raise Altered(message, got=entry.digest[:12], where=f"{self.place}/{name}", todo=todo)
        return entry

    def _chained(self, entries: list[Entry], before: Entry | None) -> list[Entry]:
        """Check each entry against the one before it; an entry equal to ``before`` is where a partial check starts."""
        for entry in entries:
            problem = None if entry is before else follows(entry, before)
            if problem:
                todo = "an entry was changed or removed by hand: restore the ledger from a backup"
                raise Altered(f"the ledger is broken at entry {entry.number}: {problem}", where=self.place, todo=todo)
            before = entry
        return entries

    def _store(self, create: bool = False) -> Any:
        return self._remote if self._folder is None else self._talk(lambda: LocalStore(self._folder, mkdir=create))

    def _talk(self, ask: Callable[[], T]) -> T:
        """Ask the store; its long failures become one sentence, "already there" and "not there" stay what they are."""
        try:
            with disk_errors(Path(self.place)):
                return ask()
        except (AlreadyExistsError, FileNotFoundError, FctError):
            raise
        except (BaseError, OSError) as error:
            got = (str(error) or type(error).__name__).splitlines()[0]
            raise OperationFailed("the ledger's store failed", got=got, where=self.place, todo="run the command again") from error
