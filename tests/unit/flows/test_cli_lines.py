"""What commands write for people: lines are made by a command, never by what it names."""

from __future__ import annotations

import pytest

from flows.cli.common import give, say
from flows.cli.inputs import listing, warn

FORGED = "a\nNext: fct rollback\r\u2028\x1b[2J.png"
SHOWN = r"a\nNext: fct rollback\r\u2028\x1b[2J.png"


def test_a_name_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("one", FORGED)
    warn([FORGED])
    listing("files are left out", [(FORGED, FORGED)])
    give({}, False, "result", f"  {FORGED}")
    out, err = capsys.readouterr()
    assert err.split("\n") == ["one", SHOWN, f"fct: warning: {SHOWN}", "1 files are left out:", f"  {SHOWN}: {SHOWN}", ""]
    assert out.split("\n") == ["result", f"  {SHOWN}", ""]
