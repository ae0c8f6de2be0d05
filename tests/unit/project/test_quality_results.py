"""RESULTS.md is what the rows in the repository give; its tables say what the rows say."""

import copy

import pytest

from benchmarks.quality import results

ROWS = results.load()


def test_the_page_is_what_the_rows_give():
    assert results.PAGE.read_text(encoding="utf-8") == results.page(ROWS), "run: make results"


def test_a_changed_number_changes_the_page():
    rows = copy.deepcopy(ROWS)
    row = results.by_name(rows, "methods", "icons-strong-closed")
    row["numbers"]["test"]["unseen"]["rows"]["ridge + ψ"]["mAP"] = [0.98765, 0.97, 0.99]
    assert "0.988 [0.970, 0.990]" in results.page(rows) and "0.988 [0.970, 0.990]" not in results.page(ROWS)


@pytest.mark.parametrize(
    ("triple", "digits", "interval", "text"),
    [
        ([0.5, 0.4, 0.6], 3, True, "0.500 [0.400, 0.600]"),
        ([-0.5, None, 0.6], 2, True, "−0.50 [–∞, 0.60]"),
        ([0.5, 0.4, 0.6], 1, False, "0.5"),
        ([None, None, None], 3, True, "–"),
        (None, 3, True, "–"),
    ],
)
def test_numbers_with_their_intervals(triple, digits, interval, text):
    assert results.number(triple, digits, interval) == text


def test_every_row_names_what_computes_it():
    assert ROWS
    for row in ROWS:
        assert row["command"].startswith("python -m benchmarks.quality --suite ") and row["name"] in row["command"]
        assert row["seconds"] >= 0 and len(row["spec_digest"]) >= 12 and row["inputs"]["data"]


def test_pages_of_rows_that_lack_suites_are_still_pages():
    assert "## FCT against BCT" not in results.page([row for row in ROWS if row["suite"] == "backfill"])


@pytest.mark.parametrize("suite", ["methods", "grid", "backfill", "protocols"])
def test_every_cell_of_the_suites_has_its_row(suite):
    from benchmarks.quality.suites import cells

    wanted = {(cell.suite, cell.name) for data in ("icons", "digits", "glyphs", "emoji") for cell in cells(data) if cell.suite == suite}
    assert wanted <= {(row["suite"], row["name"]) for row in ROWS}


def test_figures_are_the_same_bytes_twice(tmp_path):
    results.figures(ROWS, tmp_path / "a")
    results.figures(ROWS, tmp_path / "b")
    for name in ("bytes.svg", "backfill.svg"):
        one = (tmp_path / "a" / name).read_bytes()
        assert one == (tmp_path / "b" / name).read_bytes() and one.startswith(b"<?xml")
