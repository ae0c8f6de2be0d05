"""Which revisions the ledger knows, and which one a rollback returns to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.errors import BadInput
from fct.gallery.state import TableState
from registry.entry import Entry
from registry.items.retention import _kept_releases
from registry.ledger import Ledger
from registry.revisions.history import before, earlier, latest, newest_entry, numbered, recorded, serving, states
from tests.by_hand import revision_of as made


def entries(*told: tuple[str, tuple[int, int] | None, list[tuple[int, int]]]) -> list[Entry]:
    return [
        Entry(
            number,
            None,
            action,
            "2026-01-01T00:00:00.000000+00:00",
            "ana",
            "",
            "m",
            None if serving is None else made(*serving).to_json(),
            {"earlier": [made(*one).to_json() for one in earlier]} if earlier else {},
        )
        for number, (action, serving, earlier) in enumerate(told, 1)
    ]


LIFE = entries(
    ("ingest", None, []),
    ("promote", (1, 1), []),
    ("ingest", (1, 2), []),
    ("promote", (2, 1), []),
    ("delete", (2, 2), [(1, 3)]),
    ("backfill", (2, 3), []),
    ("approve", (2, 3), []),
)


def test_the_newest_revision_of_each_release_is_known_also_of_those_that_do_not_serve() -> None:
    assert latest(LIFE) == {1: made(1, 3), 2: made(2, 3)}
    assert latest([]) == {} == latest(LIFE[:1])
    assert latest(LIFE[:4]) == {1: made(1, 2), 2: made(2, 1)}


def test_numbers_of_revisions_are_never_used_twice() -> None:
    back = [*LIFE, *entries(("rollback", (1, 3), []))]
    for told in (LIFE, back):
        assert [numbered(made(release), told, "v").number for release in (1, 2, 3)] == [4, 4, 1]
    assert numbered(made(3, 9), LIFE, "another") == made(3, 1, verdict="another"), "and a revision is new under its number alone"


@pytest.mark.parametrize(
    ("told", "current", "expected"),
    [
        (LIFE, 2, (1, 3)),
        (LIFE[:4], 2, (1, 2)),
        (LIFE, 1, None),
        (LIFE, 3, None),
        ([*LIFE, *entries(("rollback", (1, 3), []))], 1, None),
    ],
)
def test_a_rollback_returns_to_the_newest_revision_of_what_served_before_the_promotion(
    told: list[Entry], current: int, expected: tuple[int, int] | None
) -> None:
    assert before(told, current) == (None if expected is None else made(*expected))


def test_of_three_releases_each_returns_to_the_one_before_it() -> None:
    told = entries(("promote", (1, 1), []), ("promote", (2, 1), []), ("promote", (3, 1), []), ("delete", (3, 2), [(1, 2), (2, 2)]))
    assert before(told, 3) == made(2, 2)
    back = [*told, *entries(("rollback", (2, 2), []))]
    assert before(back, 2) == made(1, 2)


@pytest.mark.parametrize(
    ("order", "count", "kept"),
    [
        ([1, 2, 3], 2, [3, 2]),
        ([1, 2, 3], 3, [3, 2, 1]),
        ([1, 2, 3], 9, [3, 2, 1]),
        ([1, 2, -1], 2, [1]),
        ([1, 2, 3, -2], 2, [2, 1]),
        ([1, 2, 3, -2, 3], 2, [3, 2]),
        ([1], 1, [1]),
        ([], 2, []),
    ],
)
def test_gc_keeps_what_serves_and_what_rollbacks_return_to_from_there(order: list[int], count: int, kept: list[int]) -> None:
    """A negative number is a rollback to that release."""
    told = entries(*(("promote" if release > 0 else "rollback", (abs(release), 1), []) for release in order))
    assert _kept_releases(told, count) == kept


def test_the_ledger_says_what_serves_and_an_entry_what_served_from_it_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert serving(None) is serving(ledger) is None and serving(LIFE[0]) is None
    assert serving(LIFE[4]) == made(2, 2) and earlier(LIFE[4].detail) == [made(1, 3)] and earlier({}) == []
    ledger.append(None, action="promote", by="ana", why="", model="m", serving=made(1, 1).to_json())
    assert serving(ledger) == made(1, 1) and ledger.release() == 1


def test_the_newest_entry_that_names_a_revision_is_found_also_where_it_does_not_serve() -> None:
    named = [newest_entry(LIFE, made(*one)) for one in ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (2, 3))]
    assert named == [2, 3, 4, 5, 5, 7]


def test_every_table_that_an_entry_records_is_told() -> None:
    assert [state.table for state in states(LIFE[4])] == ["spaces/v2-native", "spaces/v1-native"]
    waits = TableState("items", 1, 3, "c", {})
    first = Entry(1, None, "ingest", "2026-01-01T00:00:00.000000+00:00", "ana", "", "m", None, {"recorded": {"items": waits.to_json()}})
    assert list(states(first)) == [waits] and recorded(first.detail) == {"items": waits}


def test_what_later_code_wrote_is_refused_and_its_numbers_are_told() -> None:
    later = made(3).to_json() | {"format": 3}
    entry = Entry(1, None, "promote", "2026-01-01T00:00:00.000000+00:00", "ana", "", "m", later)
    assert (entry.release, entry.revision) == (3, 1)
    for ask in (serving, lambda one: latest([one])):
        with pytest.raises(BadInput, match="later version"):
            ask(entry)
