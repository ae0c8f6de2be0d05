"""RESULTS.md and the pages of the data sets are what the recorded rows give; their tables say what the rows say."""

import copy

import pytest

from benchmarks.quality import results, rows
from benchmarks.quality.pages import dataset, figures, front
from benchmarks.quality.pages.tables import DATA, number
from fct.errors import BadInput

ROWS = rows.load(rows.ROWS)


def test_the_pages_are_what_the_rows_give():
    assert results.old(results.pages(ROWS)) == [], "run: make results"


def test_no_page_of_results_is_left_over():
    assert {path.stem for path in results.FIGURES.glob("*.md")} == set(DATA)


def test_the_first_page_can_be_read_in_one_go():
    assert len(front.page(ROWS).encode()) <= 25_000


def test_a_changed_number_changes_the_pages():
    changed = copy.deepcopy(ROWS)
    row = rows.by_name(changed, "methods", "icons-strong-closed")
    row["numbers"]["test"]["unseen"]["rows"]["ridge + ψ + pool"]["mAP"] = [0.98765, 0.97, 0.99]
    assert "0.988 [0.970, 0.990]" in dataset.page(changed, "icons") and "0.988 [0.970, 0.990]" not in dataset.page(ROWS, "icons")
    assert "| 0.988 |" in front.page(changed) and front.page(changed) != front.page(ROWS)


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
    assert number(triple, digits, interval) == text


def test_every_row_names_what_computes_it():
    assert ROWS
    for row in ROWS:
        assert row["command"].startswith("python -m benchmarks.quality --suite ") and row["name"] in row["command"]
        assert row["seconds"] >= 0 and len(row["spec_digest"]) >= 12 and row["inputs"]["data"]


def test_every_table_of_a_row_stands_on_the_page_of_its_data():
    """Each row but those of single seeds, which the grid's summaries hold, and the tiny one, which a test computes again."""
    pages = {data: dataset.page(ROWS, data) for data in DATA}
    shown = [row for row in ROWS if row["suite"] in ("methods", "protocols", "backfill") or "summary" in row["name"]]
    assert len(shown) > 100
    for row in shown:
        text, table = pages[row["spec"]["data"]], row["numbers"]["test"]
        measured = table.get("known", {})
        for name, values in measured.get("rows", {}).items():
            said = number(values.get("ρ mAP"), 2) if "-pairs-" in row["name"] else number(values["mAP"], interval=False)
            assert said in text, f"{row['name']}: {name}"
        for one in measured.get("orders", {}).values():
            assert number(one["gain"]["mAP"], 4) in text, row["name"]


def test_pages_of_rows_that_lack_suites_are_still_pages():
    few = [row for row in ROWS if row["suite"] == "backfill"]
    assert "## Backfill" in front.page(few) and "FCT against BCT" not in front.page(few)
    assert "## Backfill" in dataset.page(few, "icons") and "## Methods" not in dataset.page(few, "icons")


@pytest.mark.parametrize("suite", ["methods", "grid", "backfill", "protocols"])
def test_every_cell_of_the_suites_has_its_row(suite):
    from benchmarks.quality.suites import cells

    wanted = {(cell.suite, cell.name) for data in DATA for cell in cells(data) if cell.suite == suite}
    assert wanted <= {(row["suite"], row["name"]) for row in ROWS}


def test_figures_are_the_same_bytes_twice(tmp_path):
    figures.draw(ROWS, tmp_path / "a")
    figures.draw(ROWS, tmp_path / "b")
    for name in ("bytes.svg", "backfill.svg"):
        one = (tmp_path / "a" / name).read_bytes()
        assert one == (tmp_path / "b" / name).read_bytes() and one.startswith(b"<?xml")


def test_rows_come_back_from_their_file_as_they_were(tmp_path):
    """Read and written again, each file has the same bytes; put one by one in any order, too."""
    for path in rows.ROWS.glob("*.jsonl"):
        found = rows.read(path)
        rows.write(tmp_path / "all" / path.name, reversed(found))
        assert (tmp_path / "all" / path.name).read_bytes() == path.read_bytes()
        assert rows.read(tmp_path / "all" / path.name) == found
    tiny, other = (
        rows.read(rows.suite_file(rows.ROWS, "tiny"))[0],
        {"suite": "tiny", "name": "a", "numbers": [0.1 + 0.2, -0.0, None, "ψ\u2028"]},
    )
    for one in ({**tiny, "seconds": -1.0}, other, tiny):
        rows.put(tmp_path / "put", one)
    assert rows.load(tmp_path / "put") == [other, tiny]
    assert rows.find(tmp_path / "put", "tiny", "a") == other and rows.find(tmp_path / "put", "tiny", "b") is None
    assert rows.find(tmp_path / "put", "none", "a") is None


def test_a_row_that_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        rows.put(tmp_path, {"suite": "tiny", "name": "a", "numbers": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "tiny.jsonl").write_text('{"suite": "tiny", "name": "a"}\n{"suite": \n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 2"):
        rows.load(tmp_path)
