"""A revision is read from what a ledger entry or an upgrade's file says, and says the same again."""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fct.arrays.digests import of_json
from fct.errors import BadInput
from fct.gallery.state import TableState
from registry.revisions.revision import IndexState, Revision, read, readable
from tests.archive import ARCHIVES

STATE = {"table": "spaces/v2-ab", "version": 1, "rows": 3, "content": "c", "files": {"a.lance": "f"}}
INDEX = {"folder": "indexes/x", "identity": "i", "content": "c", "rows": 4, "build": {"kind": "flat"}, "files": {"ids.npy": "f"}}
WAITING = {
    "format": 2,
    "release": 2,
    "fingerprint": "f",
    "release_digest": "r",
    "forward": {"1": "h"},
    "space": "spaces/v2-ab",
    "tables": {"spaces/v2-ab": STATE},
    "index": INDEX,
}
SERVES = WAITING | {"revision": 7, "verdict": "v", "masked": 1}
FIRST = {key: value for key, value in SERVES.items() if key != "format"}  # of format 1
TEXT = st.text(max_size=5)
NUMBER = st.integers(0, 2**40)


def archived(archive: Path) -> Iterator[tuple[str, Any]]:
    """Every JSON of a revision in a workspace that earlier code has left: where it stands, and what it says."""
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            place = Path(member.name)
            if "/ledger/" in member.name and place.suffix == ".json":
                said = json.load(packed.extractfile(member))  # type: ignore[arg-type]
                for one in (said["serving"], *said["detail"].get("earlier", [])):
                    if one is not None:
                        yield member.name, one
            elif place.name in ("revision.json", "rehearsal.json"):
                said = json.load(packed.extractfile(member))  # type: ignore[arg-type]
                yield member.name, said["revision"] if place.name == "rehearsal.json" else said


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.split(".")[0])
def test_what_earlier_code_wrote_is_read_and_says_the_same_again(archive: Path) -> None:
    found = list(archived(archive))
    assert {Path(place).parent.name for place, _ in found} >= {"tiny", "shop", "tiny-v1", "tiny-v3", "rehearsal"}
    assert any("masked" in one for _, one in found) and any(one["forward"] for _, one in found)
    for place, one in found:
        again = Revision.from_json(copy.deepcopy(one)).to_json()
        assert again == one and of_json(again) == of_json(one), place


@st.composite
def revisions(draw: st.DrawFn) -> Revision:
    states = st.builds(TableState, TEXT, NUMBER, NUMBER, TEXT, st.dictionaries(TEXT, TEXT, max_size=3))
    tables = draw(st.dictionaries(TEXT, states, min_size=1, max_size=3))
    about = {"identity": draw(TEXT), "content": draw(TEXT), "rows": draw(NUMBER), "build": draw(st.dictionaries(TEXT, NUMBER, max_size=2))}
    about |= {"files": draw(st.dictionaries(TEXT, TEXT, max_size=2))} | draw(st.dictionaries(st.sampled_from(["kind", "dim"]), NUMBER))
    return Revision(
        release=draw(NUMBER),
        fingerprint=draw(TEXT),
        release_digest=draw(TEXT),
        forward=draw(st.dictionaries(st.integers(1, 999_999_999), TEXT, max_size=3)),
        spaces=(draw(st.sampled_from(sorted(tables))),),
        tables=tables,
        indexes=(IndexState(draw(TEXT), about),),
        number=draw(st.none() | NUMBER),
        verdict=draw(st.none() | TEXT),
        masked=draw(st.none() | NUMBER),
        format=draw(st.sampled_from([1, 2])),
    )


@given(one=revisions())
@settings(deadline=None)
def test_what_is_written_is_read_as_it_was(one: Revision) -> None:
    assert Revision.from_json(json.loads(json.dumps(one.to_json()))) == one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "spaces/v2-ab", "v1"]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(["1", "items", "rows", "folder", "x"]), some, max_size=3),
    max_leaves=8,
)
PLACES = [(), ("another",), ("forward", "1"), *((key,) for key in SERVES), *(("index", key) for key in INDEX)]
PLACES += [("tables", "spaces/v2-ab"), *(("tables", "spaces/v2-ab", key) for key in STATE)]


@given(told=st.sampled_from([WAITING, SERVES, FIRST]), value=JSON, place=st.sampled_from(PLACES))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_form_is_bad_input_and_what_is_taken_says_the_same_again(tmp_path: Path, told: Any, value: Any, place: Any) -> None:
    where = told = copy.deepcopy(told)
    for key in place[:-1]:
        where = where[key]
    if place:
        where[place[-1]] = value
    else:
        told = value
    path = tmp_path / "revision.json"
    path.write_text(json.dumps(told))
    try:
        found = read(path)
    except BadInput as error:
        newer = error.code == "newer-format"
        found = None
    if found is None:
        assert (not place or "format" in place) if newer else readable(path) is None
        return
    assert found.to_json() == told and found == readable(path)
    assert found.state.table == told["tables"][found.space]["table"] and found.index.rows == told["index"]["rows"]


@pytest.mark.parametrize("gone", [*WAITING, *(f"index {key}" for key in INDEX)])
def test_nothing_may_lack_but_the_number_of_its_format(gone: str) -> None:
    """Of format 1 no more than that is lacking (docs/formats.md)."""
    told = copy.deepcopy(WAITING)
    del (told["index"] if gone.startswith("index ") else told)[gone.removeprefix("index ")]  # type: ignore[attr-defined]
    if gone == "format":
        assert Revision.from_json(told).format == 1
        return
    with pytest.raises(BadInput, match="not a revision"):
        Revision.from_json(told)


@pytest.mark.parametrize("key", ["0", "01", "-1", "1.0", "١", "v1", "", "9" * 5000])
def test_a_native_version_is_written_in_one_way(key: str) -> None:
    with pytest.raises(BadInput, match="not a revision"):
        Revision.from_json(WAITING | {"forward": {key: "h"}})


def test_what_later_code_wrote_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "revision.json").write_text(json.dumps(WAITING | {"format": 3, "spaces": []}))
    for ask in (read, readable):
        with pytest.raises(BadInput, match="later version") as caught:
            ask(tmp_path / "revision.json")
        assert caught.value.code == "newer-format"
    assert readable(tmp_path / "none.json") is None


def test_it_is_named_as_people_say_it() -> None:
    one = Revision.from_json(SERVES)
    assert (str(one), one.space, one.index.folder, one.carried) == ("2.7", "spaces/v2-ab", "indexes/x", {"1": "h"})
    assert (one.state.rows, one.index.rows, one.masked, one.index.identity, one.index.content) == (3, 4, 1, "i", "c")
    assert one.index.files == {"ids.npy": "f"}
