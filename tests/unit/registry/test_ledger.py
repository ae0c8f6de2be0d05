from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.arrays import digests
from fct.errors import BadInput, NotPermitted, OperationFailed
from registry import formats
from registry.entry import DECISIONS, REVISIONS, Entry, follows
from registry.ledger import Ledger, Overtaken
from registry.mark import Mark, of_tag, to_tag

ROOT = Path(__file__).parents[3]


def revision(release: int, number: int, **more: Any) -> dict[str, Any]:
    return {"release": release, "revision": number, "fingerprint": f"f{release}", **more}


def add(ledger: Ledger, action: str, serving: dict[str, Any] | None, **more: Any) -> Entry:
    words = {"by": "ana", "why": "because", "model": "embedder", **more}
    return ledger.append(ledger.head(), action=action, serving=serving, **words)


def a_history(ledger: Ledger) -> list[Entry]:
    return [
        add(ledger, "approve", None),
        add(ledger, "promote", revision(1, 1)),
        add(ledger, "ingest", revision(1, 2), detail={"items": 3}),
        add(ledger, "reject", revision(1, 2)),
        add(ledger, "promote", revision(2, 1)),
        add(ledger, "rollback", revision(1, 2)),
    ]


def before_the_entry(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let ``act`` happen once, right before the next entry's own write."""
    put = obstore.put

    def after_it(store: Any, name: str, *arguments: Any, **options: Any) -> Any:
        if name.endswith(".json"):
            monkeypatch.setattr(obstore, "put", put)
            act()
        return put(store, name, *arguments, **options)

    monkeypatch.setattr(obstore, "put", after_it)


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A fresh interpreter that says "ready" and goes on when it is given a line."""
    lines = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"
    command = [sys.executable, "-c", lines, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_an_empty_ledger_serves_nothing_and_reading_it_creates_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.head() is None and ledger.entries() == [] and ledger.serving() is None
    assert not (tmp_path / "ledger").exists()


def test_entries_are_numbered_files_that_name_their_predecessors_digest(tmp_path: Path) -> None:
    written = a_history(Ledger(tmp_path))
    names = [name for entry in written for name in (f"{entry.number:07d}.{entry.digest}.sha256", f"{entry.number:07d}.json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    previous = None
    for entry in written:
        value = json.loads((tmp_path / f"{entry.number:07d}.json").read_text())
        assert value["previous"] == previous
        previous = digests.of_json(value)
    again = Ledger(tmp_path)
    assert again.entries() == written and again.head() == written[-1] and again.serving() == revision(1, 2)


def test_a_bucket_url_and_a_file_url_hold_a_ledger_too(tmp_path: Path) -> None:
    ledger = Ledger("memory:///gallery")
    assert ledger.head() is None
    assert ledger.entries() == [] and a_history(ledger) == ledger.entries()
    add(Ledger((tmp_path / "my ledger").as_uri()), "promote", revision(1, 1))
    assert Ledger(tmp_path / "my ledger").serving() == revision(1, 1)


def test_an_entry_after_an_old_head_is_overtaken_and_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = add(ledger, "promote", revision(1, 1))
    for old in (None, first):
        head = add(ledger, "ingest", revision(1, (ledger.serving() or {})["revision"] + 1))
        with pytest.raises(Overtaken, match=re.escape(f"ingest by ana at {head.at}")) as caught:
            ledger.append(old, action="promote", by="eve", why="late", model="embedder", serving=revision(3, 1))
        assert caught.value.exit_code == 1 and ledger.head() == head


def test_a_writer_that_loses_between_its_look_and_its_write_is_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    before_the_entry(monkeypatch, lambda: add(Ledger(tmp_path), "promote", revision(1, 1), by="eve"))
    with pytest.raises(Overtaken, match="promote by eve"):
        add(ledger, "promote", revision(1, 1))
    assert [entry.by for entry in ledger.entries()] == ["eve"]
    assert len(list(tmp_path.glob("*.sha256"))) == 1, "the loser's checksum is gone"


def test_an_entry_after_a_head_of_another_history_is_overtaken(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a")
    head = add(ledger, "promote", revision(1, 1))
    stranger = add(Ledger(tmp_path / "b"), "promote", revision(1, 1))
    assert stranger.number == head.number
    with pytest.raises(Overtaken):
        ledger.append(stranger, action="ingest", by="ana", why="w", model="embedder", serving=revision(1, 2))
    assert ledger.entries() == [head]


def test_of_two_writers_with_the_same_words_at_the_same_instant_one_is_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Stopped:
            return cls(2030, 1, 1, tzinfo=tz)

    monkeypatch.setattr("registry.ledger.datetime", Stopped)
    before_the_entry(monkeypatch, lambda: add(Ledger(tmp_path), "promote", revision(1, 1)))
    with pytest.raises(Overtaken):
        add(Ledger(tmp_path), "promote", revision(1, 1))
    assert len(Ledger(tmp_path).entries()) == 1


@pytest.mark.parametrize("written", [True, False])
def test_when_the_stores_answer_is_lost_the_store_itself_says_who_wrote(written: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger("memory:///gallery")
    first = add(ledger, "promote", revision(1, 1))
    put = obstore.put

    def interrupted(store: Any, name: str, *arguments: Any, **options: Any) -> Any:
        if written or not name.endswith(".json"):
            put(store, name, *arguments, **options)
        if name.endswith(".json"):
            raise OSError("connection reset\nDebug source: long")

    monkeypatch.setattr(obstore, "put", interrupted)
    if written:
        assert add(ledger, "ingest", revision(1, 2)) == ledger.head()
    else:
        with pytest.raises(OperationFailed, match="connection reset; in memory"):
            add(ledger, "ingest", revision(1, 2))
        assert ledger.entries() == [first]


def test_an_entry_without_a_number_is_of_format_1_and_keeps_its_digest(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    value = add(ledger, "promote", revision(1, 1)).to_json()
    del value["format"]
    (tmp_path / "0000001.json").write_text(json.dumps(value, indent=2), encoding="utf-8")
    next(tmp_path.glob("*.sha256")).unlink()  # earlier code wrote none
    ledger = Ledger(tmp_path)
    old = ledger.head()
    assert old is not None and old.format == 1 and old.digest == digests.of_json(value)
    new = add(ledger, "ingest", revision(1, 2))
    assert new.previous == old.digest and new.format == formats.ENTRY and "format" in new.to_json()
    assert [entry.number for entry in ledger.entries()] == [1, 2]


@pytest.mark.parametrize("found", [1, 0, -1, 99, "2", None, True])
def test_an_entry_of_a_format_that_is_not_known_is_refused(tmp_path: Path, found: object) -> None:
    value = add(Ledger(tmp_path), "promote", revision(1, 1)).to_json() | {"format": found}
    with pytest.raises(BadInput):
        Entry.from_json(value)


@pytest.mark.parametrize("key", [item for item in Entry.__dataclass_fields__ if item not in ("token", "format")])
@pytest.mark.parametrize("number", [1, 3])
def test_a_changed_entry_breaks_the_chain_and_is_named(tmp_path: Path, number: int, key: str) -> None:
    ledger = Ledger(tmp_path)
    a_history(ledger)
    path = tmp_path / f"{number:07d}.json"
    value = json.loads(path.read_text())
    others = {"number": 9, "serving": revision(1, 7), "detail": {"items": 4}, "action": "delete", "at": "2020-01-01T00:00:00.000000+00:00"}
    path.write_text(json.dumps({**value, key: others.get(key, "other")}))
    with pytest.raises(NotPermitted, match=f"entry ({number}|{number + 1})\\b"):
        ledger.entries()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"x"', "\xff", '{"number": NaN}'])
def test_a_damaged_head_is_refused_and_never_skipped(tmp_path: Path, content: str) -> None:
    ledger = Ledger(tmp_path)
    a_history(ledger)
    (tmp_path / "0000006.json").write_bytes(content.encode("latin-1"))
    for read in (ledger.head, ledger.serving, ledger.entries):
        with pytest.raises(NotPermitted, match="ledger entry 6 is missing or damaged") as caught:
            read()
        assert ("remove the empty file" in str(caught.value)) == (content == "")


def test_values_that_other_json_readers_refuse_are_refused_in_a_file(tmp_path: Path) -> None:
    add(Ledger(tmp_path), "promote", revision(1, 1, note="x"))
    text = (tmp_path / "0000001.json").read_text()
    for odd in ("NaN", '"\\ud800"'):
        (tmp_path / "0000001.json").write_text(text.replace('"x"', odd))
        with pytest.raises(NotPermitted, match="entry 1 "):
            Ledger(tmp_path).head()


@pytest.mark.parametrize("gone", [1, 2, 5])
def test_a_missing_entry_is_a_gap_and_is_named(tmp_path: Path, gone: int) -> None:
    ledger = Ledger(tmp_path)
    a_history(ledger)
    (tmp_path / f"{gone:07d}.json").unlink()
    with pytest.raises(NotPermitted, match=f"broken at entry {gone + 1}"):
        ledger.entries()
    if gone == 5:
        with pytest.raises(NotPermitted, match="broken at entry 6"):
            ledger.head()


def test_leftovers_beside_the_entries_confuse_nobody(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    written = a_history(ledger)
    for name in ("0000007.json#1", "0000007.json.tmp", ".0000008.json.12.part", "7.json", "notes.txt", "x0000009.json"):
        (tmp_path / name).write_text("half a wri")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "0000010.json").write_text("{}")
    assert ledger.entries() == written
    assert add(ledger, "ingest", revision(1, 3)) == ledger.head() and len(ledger.entries()) == 7


@pytest.mark.parametrize("action", [*DECISIONS, "gc"])
def test_a_decision_is_recorded_and_leaves_unchanged_what_serves(tmp_path: Path, action: str) -> None:
    ledger = Ledger(tmp_path)
    add(ledger, "promote", revision(1, 1))
    for other in (None, revision(1, 2), revision(2, 1)):
        with pytest.raises(BadInput, match="must leave unchanged what serves"):
            add(ledger, action, other)
    assert add(ledger, action, ledger.serving(), detail={"release": 2}).serving == ledger.serving() == revision(1, 1)


@pytest.mark.parametrize("action", REVISIONS)
def test_a_revision_without_approval_cannot_change_the_release(tmp_path: Path, action: str) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(BadInput, match="which release serves"):
        add(ledger, action, revision(1, 1))
    add(ledger, "promote", revision(1, 1))
    for other in (None, revision(2, 1)):
        with pytest.raises(BadInput, match="which release serves"):
            add(ledger, action, other)
    assert add(ledger, action, revision(1, 2)) == ledger.head()


def test_a_number_of_a_revision_is_not_given_to_another_content(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    add(ledger, "promote", revision(1, 1))
    with pytest.raises(BadInput, match="revision 1.1 is taken"):
        add(ledger, "ingest", revision(1, 1, index={"digest": "other"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "deploy"}, "action is unknown"),
        ({"model": "another"}, "about the model 'another'"),
        ({"by": " "}, "needs a name"),
        ({"serving": {"release": 1}}, "lacks its numbers"),
        ({"serving": {"release": True, "revision": 1}}, "lacks its numbers"),
        ({"serving": None}, "must name the revision"),
        ({"detail": {"x": float("nan")}}, "plain JSON"),
        ({"detail": {"x": {1, 2}}}, "plain JSON"),
        ({"why": "\ud800"}, "plain JSON"),
        ({"why": 3}, "wrong type"),
    ],
)
def test_an_ill_formed_entry_is_bad_input_and_is_not_written(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    ledger = Ledger(tmp_path)
    head = add(ledger, "promote", revision(1, 1))
    good: dict[str, Any] = {"action": "promote", "by": "ana", "why": "w", "model": "embedder", "serving": revision(2, 1)}
    with pytest.raises(BadInput, match=words):
        ledger.append(head, **{**good, **change})
    assert ledger.entries() == [head]


def test_an_unknown_kind_of_url_fails_in_one_sentence() -> None:
    with pytest.raises(OperationFailed, match="ftp://host/x") as caught:
        Ledger("ftp://host/x")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    detail=st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4),
    why=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_plain_json_comes_back_with_the_digest_it_was_written_with(detail: dict[Any, Any], why: str) -> None:
    ledger = Ledger("memory:///gallery")
    written = add(ledger, "promote", revision(1, 1), detail=detail, why=why)
    read = ledger.head()
    assert read == written and read.digest == written.digest and Entry.from_json(written.to_json()) == written
    after = add(ledger, "ingest", revision(1, 2))
    assert after.previous == written.digest and follows(after, read) is None


RACE = """
from registry.ledger import Ledger, Overtaken
ledger = Ledger(sys.argv[1])
head = ledger.head()
print("ready", flush=True)
sys.stdin.readline()
try:
    ledger.append(head, action="ingest", by=sys.argv[2], why="race", model="embedder", serving=None)
    print("won", flush=True)
except Overtaken:
    print("overtaken", flush=True)
"""


def test_of_four_processes_racing_for_one_number_exactly_one_wins(tmp_path: Path) -> None:
    first = add(Ledger(tmp_path), "ingest", None)
    racers = [script(RACE, tmp_path, name) for name in "abcd"]
    for racer in racers:
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=600)[0].strip() for racer in racers]
    assert sorted(results) == ["overtaken"] * 3 + ["won"]
    entries = Ledger(tmp_path).entries()
    assert entries[0] == first and [entry.by for entry in entries[1:]] == ["abcd"[results.index("won")]]


WRITE = """
from registry.ledger import Ledger
ledger = Ledger(sys.argv[1])
head = ledger.head()
print("ready", flush=True)
while True:
    body = {"release": 1, "revision": head.serving["revision"] + 1, "weight": "x" * 2_000_000}
    head = ledger.append(head, action="ingest", by="w", why="w", model="embedder", serving=body)
    print(head.number, flush=True)
"""


def test_a_killed_writer_leaves_the_old_head_or_the_new_one_each_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    add(ledger, "promote", revision(1, 1))
    for seed in range(5):
        writer = script(WRITE, tmp_path)
        assert writer.stdout and writer.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0.01, 0.15))
        writer.send_signal(signal.SIGKILL)
        said = [int(line) for line in writer.communicate(timeout=600)[0].splitlines() if line.strip()]
        entries = ledger.entries()
        assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= (said[-1] if said else 0), "an entry that was reported is gone"
        assert all(len((entry.serving or {}).get("weight", "x" * 2_000_000)) == 2_000_000 for entry in entries)
    head = add(ledger, "ingest", revision(1, 10_000))
    assert ledger.head() == head, "the ledger goes on after every kill"


# ---- the newest entry: its checksum, and its loss --------------------------------------------------------------------------


def accept(ledger: Ledger) -> Entry:
    entries, lost = ledger.all_there(), ledger.lost()
    head = entries[-1] if entries else None
    detail, serving = {"lost": [{"number": one.number, "digest": one.digest} for one in lost]}, head.serving if head else None
    with ledger.pardoning(lost):
        return ledger.append(head, action="accept", by="ana", why="the backup", model="embedder", serving=serving, detail=detail)


@pytest.mark.parametrize("key", Entry.__dataclass_fields__)
def test_a_changed_newest_entry_is_refused(tmp_path: Path, key: str) -> None:
    entry = a_history(Ledger(tmp_path))[-1]
    path = tmp_path / f"{entry.number:07d}.json"
    value = json.loads(path.read_text())
    others = {"number": 9, "serving": revision(1, 7), "detail": {"items": 4}, "action": "promote", "format": 2}
    path.write_text(json.dumps({**value, key: others.get(key, "other")}))
    with pytest.raises(NotPermitted, match=r"entry 6\b"):
        Ledger(tmp_path).head()
    with pytest.raises(NotPermitted, match=r"entry 6\b"):
        Ledger(tmp_path).entries()


def test_an_entry_needs_its_checksum_and_the_file_is_one_that_sha256sum_reads(tmp_path: Path) -> None:
    written = a_history(Ledger(tmp_path))
    for entry in written:
        (digest, name) = (tmp_path / f"{entry.number:07d}.{entry.digest}.sha256").read_text().split()
        assert digests.of_file(tmp_path / name) == digest
    for number in (1, 6):
        (path,) = tmp_path.glob(f"{number:07d}.*.sha256")
        text = path.read_text()
        path.unlink()
        with pytest.raises(NotPermitted, match=f"entry {number} is missing its checksum"):
            Ledger(tmp_path).entries()
        path.write_text(text)
    assert Ledger(tmp_path).entries() == written


def test_a_writer_that_dies_between_checksum_and_entry_leaves_nothing_that_stops_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    first = add(ledger, "promote", revision(1, 1))

    def dies() -> None:
        assert len(list(tmp_path.glob("0000002.*.sha256"))) == 1, "the checksum is there first"
        raise KeyboardInterrupt

    before_the_entry(monkeypatch, dies)
    with pytest.raises(KeyboardInterrupt):
        add(ledger, "ingest", revision(1, 2))
    assert len(list(tmp_path.glob("0000002.*"))) == 1
    for one in (ledger, Ledger(tmp_path)):
        assert one.head() == first and one.entries() == [first] and not one.lost()
    second = add(Ledger(tmp_path), "ingest", revision(1, 2))
    assert sorted(path.name for path in tmp_path.glob("0000002.*")) == [f"0000002.{second.digest}.sha256", "0000002.json"]


@pytest.mark.parametrize("gone", [1, 2, 6])
@pytest.mark.parametrize("witness", ["this object", "a note", "a checksum"])
def test_lost_newest_entries_are_noticed_and_nothing_is_written_until_a_person_accepts_it(tmp_path: Path, witness: str, gone: int) -> None:
    place, note = tmp_path / "ledger", tmp_path / "gallery" / "head.json"
    ledger = Ledger(place, note)
    written = a_history(ledger)
    for entry in written[-gone:]:
        (place / f"{entry.number:07d}.json").unlink()
        if witness != "a checksum":
            (place / f"{entry.number:07d}.{entry.digest}.sha256").unlink()
    if witness != "this object":
        ledger = Ledger(place, note if witness == "a note" else None)
    if witness != "a note":
        note.unlink()
    for act in (ledger.head, ledger.entries, ledger.serving):
        with pytest.raises(NotPermitted, match=r"lost entry 6, .*--accept-head"):
            act()
    rest = written[:-gone]
    expected = rest[-1] if rest else None
    with pytest.raises(NotPermitted, match="lost entry 6"):
        ledger.append(expected, action="ingest", by="b", why="", model="embedder", serving=expected.serving if expected else None)
    assert ledger.all_there() == rest
    accepted = accept(ledger)
    assert accepted.number == len(rest) + 1 and accepted.serving == (expected.serving if expected else None)
    for one in (ledger, Ledger(place, note), Ledger(place)):
        assert one.head() == accepted and one.entries() == [*rest, accepted] and not one.lost()
    ledger.heed(Mark(6, written[-1].digest))
    assert ledger.head() == accepted, "what was accepted is not missed again"
    assert len(list(place.glob(f"{accepted.number:07d}.*"))) == 2, "one checksum, that of the entry"
    add(Ledger(place, note), "ingest", accepted.serving)
    ledger.head()
    for path in place.glob(f"{accepted.number + 1:07d}.*"):
        path.unlink()
    with pytest.raises(NotPermitted, match=f"lost entry {accepted.number + 1}"):  # another one of this number was accepted, not this one
        ledger.head()


def test_a_ledger_of_another_history_is_noticed_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a")
    add(ledger, "promote", revision(1, 1))
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    for number in range(1, 4):
        add(Ledger(tmp_path / "a"), "promote", revision(number, 1))
    with pytest.raises(NotPermitted, match="lost entry 1"):
        ledger.head()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"number": "x", "digest": ""}', b"\xff", b'{"number": 1, "digest": "other"}'])
def test_a_note_that_is_damaged_or_older_stops_nobody(tmp_path: Path, content: bytes) -> None:
    note = tmp_path / "head.json"
    ledger = Ledger(tmp_path / "ledger", note)
    first = add(ledger, "promote", revision(1, 1))
    add(ledger, "ingest", revision(1, 2))
    note.write_bytes(content.replace(b"other", first.digest.encode()))
    again = Ledger(tmp_path / "ledger", note).head()
    assert again == ledger.head() and json.loads(note.read_text())["number"] == 2, "and it is written anew"


def test_reading_an_empty_ledger_writes_no_note(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "ledger", tmp_path / "gallery" / "head.json").head() is None
    assert not list(tmp_path.iterdir())


def test_a_tag_counts_only_where_somebody_with_the_ledger_wrote_it() -> None:
    first, other = digests.of_json("first"), digests.of_json("other")
    mark = Mark(17, digests.of_json("an entry"))
    value = to_tag(mark, first)
    assert of_tag(value, first) == mark and of_tag(value, other) is None
    for forged in ("", "17", value.replace("17", "18"), value[:-1] + ("0" if value[-1] != "0" else "1"), f"{value} ", to_tag(mark, other)):
        assert of_tag(forged, first) is None


WATCHED = """
from pathlib import Path
from registry.ledger import Ledger
ledger = Ledger(sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
head = ledger.head()
for number in range(60):
    body = {"release": 1, "revision": head.serving["revision"] + 1}
    head = ledger.append(head, action="ingest", by="w", why="w", model="embedder", serving=body)
"""


def test_who_reads_beside_a_writer_never_misses_an_entry(tmp_path: Path) -> None:
    place, note = tmp_path / "ledger", tmp_path / "head.json"
    add(Ledger(place, note), "promote", revision(1, 1))
    writer = script(WATCHED, place, note)
    assert writer.stdout and writer.stdout.readline() == "ready\n"
    following, numbers = Ledger(place, note), [0]
    while writer.poll() is None:
        for one in (following, Ledger(place, note)):
            head = one.head()
            assert head is not None
            numbers.append(head.number)
    assert writer.returncode == 0 and numbers == sorted(numbers) and len(set(numbers)) > 10
