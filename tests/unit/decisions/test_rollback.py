"""A rollback that is run again finds that it is done."""

from __future__ import annotations

import pytest

from fct.errors import BadInput
from registry.decisions.rollback import done
from registry.entry import Entry


def told(*switches: int) -> list[Entry]:
    """Entries of a ledger: a positive number promotes that release, a negative one rolls back to it."""
    found: list[Entry] = []
    for number in switches:
        before = found[-1].serving["release"] if found and found[-1].serving else None
        action, at = "promote" if number > 0 else "rollback", "2026-01-01T00:00:00.000000+00:00"
        serving = {"release": abs(number), "revision": 1}
        found.append(Entry(len(found) + 1, None, action, at, "ana", "", "m", serving, {"from": before}))
    return found


@pytest.mark.parametrize(
    ("switches", "leave", "entry"),
    [
        ((1, 2), None, None),
        ((1, 2, -1), None, 3),  # done: once more changes nothing
        ((1, 2, 3, -2), None, 4),  # and goes no release further back
        ((1, 2, 3, -2), 2, None),  # but where it is told to
        ((1, 2, 3, -2, -1), 2, 5),
        ((1, 2, 3, -2, -1), None, 4),
        ((1, 2, 3, -2, -1), 3, 4),
        ((1, 2, -1, 2), None, None),  # promoted again: it may be left again
        ((1, 2, -1, 2, -1), 2, 5),
        ((1,), None, None),  # a first release has nothing before it, which the next check says
    ],
)
def test_a_rollback_is_done_when_the_release_to_leave_was_left(switches: tuple[int, ...], leave: int | None, entry: int | None) -> None:
    found = done(told(*switches), leave)
    assert (None if found is None else found.number) == entry


@pytest.mark.parametrize(("switches", "leave"), [((), None), ((1, 2, 3), 2), ((1, 2), 7), ((1, 2, -1, 2), 1), ((1, 2, -1, 3), 2)])
def test_a_release_that_neither_serves_nor_was_left_cannot_be_left(switches: tuple[int, ...], leave: int | None) -> None:
    with pytest.raises(BadInput):
        done(told(*switches), leave)
