"""Which revisions the ledger knows, and which one a rollback returns to."""

from __future__ import annotations

from typing import Any

import pytest

from registry.items.retention import _kept_releases
from registry.ledger import Entry
from registry.revisions.history import before, latest, next_number


def made(release: int, revision: int) -> dict[str, Any]:
    return {"release": release, "revision": revision, "verdict": f"v{release}"}


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
            None if serving is None else made(*serving),
            {"earlier": [made(*one) for one in earlier]} if earlier else {},
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
    assert [next_number(LIFE, release) for release in (1, 2, 3)] == [4, 4, 1]
    back = [*LIFE, *entries(("rollback", (1, 3), []))]
    assert next_number(back, 1) == 4 and next_number(back, 2) == 4


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
