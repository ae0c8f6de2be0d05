"""What a purge rewrites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fct.arrays.files import read_json, write_json
from registry.items import forgetting


@pytest.mark.parametrize("one", ["holiday/beach.jpg", "a&b <c>.png", 'quo"te\\n.png', "ünï/çöde.png", "日本語の写真.png"])
def test_a_report_loses_the_id_and_nothing_else(tmp_path: Path, one: str) -> None:
    import html

    page = tmp_path / "report.html"
    row = '<tr><td class="mono">{}</td><td class="n">0.5</td></tr>\n'
    others = "".join(row.format(html.escape(other)) for other in ("other.png", one + "x", "x" + one))
    page.write_text(others + row.format(html.escape(one)), encoding="utf-8")
    assert forgetting._scrub_report(page, np.array([one]), lambda: None)
    assert page.read_text(encoding="utf-8") == others + row.format("(deleted)")
    assert not forgetting._scrub_report(page, np.array([one]), lambda: None)


def test_pairs_lose_the_rows_of_an_id_in_every_part(tmp_path: Path) -> None:
    """Also of one that was never an item: a fitting image alone."""
    pairs = tmp_path / "pairs-v1"
    views = {"fitting": ("sources", 3), "pool": ("sources", 2), "sample": ("ids", 1), "gallery": ("ids", 1), "canaries": ("ids", 1)}
    before = {}
    for part, (names, count) in views.items():
        own = np.tile([f"{part}-{row}" for row in range(5)], count)
        before[part] = {names: own, "old": np.arange(10.0 * count).reshape(-1, 2), "labels": np.arange(5 * count)}
        for name, rows in before[part].items():
            (pairs / part).mkdir(parents=True, exist_ok=True)
            np.save(pairs / part / f"{name}.npy", rows)
    write_json(pairs / "pairs.json", {"counts": {part: len(rows["old"]) for part, rows in before.items()}})
    forgetting._scrub_pairs(pairs, np.array(["fitting-1", "pool-4", "sample-0", "elsewhere"]), lambda: None)
    gone = {"fitting": "fitting-1", "pool": "pool-4", "sample": "sample-0"}
    for part, arrays in before.items():
        keep = arrays[views[part][0]] != gone.get(part)
        assert read_json(pairs / "pairs.json")["counts"][part] == keep.sum() == 5 * views[part][1] - (part in gone) * views[part][1]
        for name, rows in arrays.items():
            assert np.array_equal(np.load(pairs / part / f"{name}.npy"), rows[keep]), (part, name)
