"""The search for what a purge has left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from registry import forgetting


@pytest.mark.parametrize("place", ["a.bin", "deep/er/b.npy", "c.json"])
def test_bytes_are_found_wherever_they_lie_also_across_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(forgetting, "CHUNK", 64)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = [b"holiday/beach.jpg", bytes(range(200, 232))]
    for needle in wanted:
        for at in range(0, 140, 7):
            path.write_bytes(b"." * at + needle + b"." * 50)
            assert forgetting.search(tmp_path, wanted) == ([place], 2), at
    path.write_bytes(b"." * 100 + wanted[0][:-1] + b"." * 100)
    assert forgetting.search(tmp_path, wanted) == ([], 2)
    assert forgetting.search(tmp_path, []) == ([], 0)


@pytest.mark.parametrize("one", ["holiday/beach.jpg", "a&b <c>.png", 'quo"te\\n.png', "ünï/çöde.png", "日本語の写真.png"])
def test_a_report_loses_the_id_and_nothing_else(tmp_path: Path, one: str) -> None:
    import html

    page = tmp_path / "report.html"
    row = '<tr><td class="mono">{}</td><td class="n">0.5</td></tr>\n'
    others = "".join(row.format(html.escape(other)) for other in ("other.png", one + "x", "x" + one))
    page.write_text(others + row.format(html.escape(one)), encoding="utf-8")
    assert forgetting._scrub_report(page, np.array([one]))
    assert page.read_text(encoding="utf-8") == others + row.format("(deleted)")
    assert not forgetting._scrub_report(page, np.array([one]))
