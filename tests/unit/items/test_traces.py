"""The search for what a purge has left: whole ids, and vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fct.gallery.gallery import Gallery
from registry.items import traces


def of(*ids: str, living: tuple[str, ...] = ()) -> traces.Traces:
    return traces.of_ids(np.array(ids), np.array(living, dtype=str))


@pytest.mark.parametrize("place", ["a.bin", "deep/er/b.log", "c.json"])
def test_bytes_are_found_wherever_they_lie_also_across_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(traces, "CHUNK", 64)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    name, vector = "holiday/beach.jpg", bytes(range(200, 232))
    wanted = traces.Traces(of(name).ids, [vector], of(name, living=(f"my-{name}",)).longer)
    for needle in (name.encode(), vector):
        for at in range(0, 140, 7):
            path.write_bytes(b"." * at + needle + b"." * 50)
            assert traces.search(tmp_path, wanted) == [place], at
            path.write_bytes(b"." * at + b"my-" + name.encode() + b"." * 50)
            assert traces.search(tmp_path, wanted) == [], at
            path.write_bytes(b"." * at + name.encode() + b"x" * 50)
            assert traces.search(tmp_path, wanted) == [], at
    path.write_bytes(b"." * 100 + name.encode()[:-1] + b"." * 100)
    assert traces.search(tmp_path, wanted) == []
    path.write_bytes(name.encode())
    assert traces.search(tmp_path, of("cat1")) == [], "too short: found by chance"


@pytest.mark.parametrize("living", ["bobcat001", "cat0010", "a/cat001", "cat001/b.png", "cat001-cat001", "ä cat001"])
def test_an_id_that_is_a_part_of_a_living_one_is_no_trace(tmp_path: Path, living: str) -> None:
    wanted = of("cat001", living=(living, "other"))
    names = np.array([living, "other"])
    np.save(tmp_path / "names.npy", names)
    np.save(tmp_path / "bytes.npy", np.char.encode(names, "utf-8"))
    np.savez(tmp_path / "items.npz", ids=names, sigma=np.zeros(2))
    (tmp_path / "answers.json").write_text(json.dumps([[living, 0.5, ""]]))
    (tmp_path / "page.html").write_text(f'<td class="mono">{living}</td>')
    assert traces.search(tmp_path, wanted) == []
    np.savez(tmp_path / "items.npz", ids=np.array([living, "cat001"]))
    assert traces.search(tmp_path, wanted) == ["items.npz"]
    np.save(tmp_path / "bytes.npy", np.array([b"cat001", living.encode()]))
    (tmp_path / "answers.json").write_text(json.dumps([[living, 0.5, ""], ["cat001", 0.4, ""]]))
    assert traces.search(tmp_path, wanted) == ["answers.json", "bytes.npy", "items.npz"]


def test_strings_side_by_side_and_digests_are_no_traces_of_numbers(tmp_path: Path) -> None:
    names = np.array([f"{number:06}" for number in range(100000, 100400)])
    gone = "001000"  # within "100[001][000]02"
    gallery, phi = Gallery(tmp_path / "gallery"), np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    gallery.ingest(1, "f" * 64, names, phi, None, names, names, names)
    np.save(tmp_path / "ids.npy", np.char.encode(names, "utf-8"))
    (tmp_path / "digests.json").write_text(json.dumps([f"ab{gone}cd", hashlib.sha256(b"").hexdigest()]))
    assert gone.encode() in (tmp_path / "ids.npy").read_bytes()
    assert traces.search(tmp_path, of(gone, living=tuple(names))) == []
    assert traces.search(tmp_path, of("100007", living=tuple(names))) == ["gallery/features/v1.lance", "gallery/items.lance", "ids.npy"]
    gallery.delete(["100007"])
    assert "gallery/items.lance" in traces.search(tmp_path, of("100007")), "an older version has it"


def test_what_is_a_canary_is_told_by_its_role_not_by_its_name(tmp_path: Path) -> None:
    names, phi = np.array(["person-1", "canary:person"]), np.ones((2, 16), np.float32)
    gallery = Gallery(tmp_path / "gallery")
    gallery.ingest(1, "f" * 64, names, phi, None, names, names, names)
    assert traces.of(gallery, names[:1]).vectors == [], "a living item has the same vector"
    gallery.ingest(1, "f" * 64, np.array(["canary:c"]), 2 * phi[:1], None, [""], [""], [""], role="canary")
    gallery.ingest(1, "f" * 64, np.array(["person-2"]), 2 * phi[:1], None, [""], [""], [""])
    assert traces.of(gallery, np.array(["person-2"])).vectors, "a canary that is a copy of an item is a trace of it"


def test_vectors_are_those_of_every_time_an_id_was_there_whoever_was_deleted_when(tmp_path: Path) -> None:
    gallery, names = Gallery(tmp_path / "gallery"), np.array(["person-1", "person-2", "person-3"])
    phi = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    gallery.ingest(1, "f" * 64, names, phi[:3], None, names, names, names)
    gallery.delete(names[:1])
    gallery.ingest(1, "f" * 64, names[:1], phi[3:], None, names[:1], names[:1], names[:1])  # as another picture
    gallery.delete(names[:1])
    found = traces.of(gallery, names[:2]).vectors
    assert set(found) == {phi[row].tobytes()[: traces.HEAD] for row in (0, 1, 3)}
    gallery.ingest(1, "f" * 64, np.array(["person-4"]), phi[:1], None, [""], [""], [""])
    assert len(traces.of(gallery, names[:2]).vectors) == 2, "an item that came later, and stays, has the same vector"


def test_the_numbered_rows_of_given_pairs_are_nobodys_ids(tmp_path: Path) -> None:
    for part, name, rows in (("sample", "ids", ["pair-100000", "pair-100001"]), ("fitting", "sources", ["100002", "100003"])):
        (tmp_path / "pairs-v1" / part).mkdir(parents=True)
        np.save(tmp_path / "pairs-v1" / part / f"{name}.npy", np.array(rows))
    assert traces.search(tmp_path, of("100002")) == []
    np.save(tmp_path / "pairs-v1/sample/ids.npy", np.array(["100000", "100001"]))
    assert traces.search(tmp_path, of("100002")) == ["pairs-v1/fitting/sources.npy"]
