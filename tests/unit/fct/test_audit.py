"""The counter of files that are opened counts: what it says of images read rests on it."""

from __future__ import annotations

import threading
from pathlib import Path

from fct import audit


def read(*paths: Path) -> None:
    for path in paths:
        path.read_bytes()


def test_every_opening_is_counted_whoever_else_watches_the_same_folder(tmp_path: Path) -> None:
    inside, deeper, beside = tmp_path / "a" / "1.png", tmp_path / "a" / "b" / "2.png", tmp_path / "ab" / "3.png"
    for path in (inside, deeper, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with audit.opened_below([tmp_path / "a", tmp_path / "a" / "b"]) as outer:
        read(inside, deeper, beside)
        assert outer == [str(inside), str(deeper)], "once, also where two of the folders hold it"
        with audit.opened_below([tmp_path / "a", tmp_path / "a" / "b"]) as inner:
            reader = threading.Thread(target=read, args=(inside,))
            reader.start()
            reader.join()
            (tmp_path / "a" / ".." / "a" / "1.png").read_bytes()
        read(inside)
    read(inside)
    assert inner == [str(inside)] * 2
    assert outer == [str(inside), str(deeper), *[str(inside)] * 3], "another block that ended has not ended this one"
