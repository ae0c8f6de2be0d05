"""What every store is given: the rows of one revision, from files that were compared, and nobody who was deleted. The file store with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fct.arrays.vectors import normalise
from fct.errors import BadInput, Damaged, NotPermitted, OperationFailed
from registry.exports import base, parquet
from registry.exports.base import COLUMNS, checked_there, deleted_since, rows_of, searched, still_there, store_of
from registry.items.deletion import delete
from registry.revisions import history, kept
from registry.revisions.building import pin
from registry.workspace import Workspace
from tests import by_hand
from tests.no_mlflow import at_door
from tests.waiting import IDS, copied


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = by_hand.two_releases(tmp_path_factory.mktemp("made"))
    at_door(workspace)
    return workspace


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """Version 2 serves 40 items and eight canaries, version 1 served before."""
    return copied(made, tmp_path)


def again(workspace: Workspace, one: str) -> None:
    """Another item under an id, in what serves, too."""
    serving = history.serving(workspace.ledger)
    assert serving is not None
    text, phi = ["label"], by_hand.rows(1, 99)
    workspace.gallery.ingest(1, workspace.gallery.feature_info(1).fingerprint, [one], phi, np.ones((1, 4), np.int8), text, text, text)
    workspace.gallery.append_space(serving.space, [one], phi, "forward 1→2", np.zeros(1))
    by_hand.append(workspace, "ingest", pin(workspace, 2, serving.space, kept.opened(workspace, 2), serving.forward))


def spoil(workspace: Workspace, table: str) -> None:
    file = next((workspace.gallery.table_path(table) / "data").iterdir())
    data = bytearray(file.read_bytes())
    data[8] ^= 1
    file.write_bytes(data)


def test_rows_are_the_items_of_what_serves_and_no_canaries(made: Workspace) -> None:
    now, serving = rows_of(made), history.serving(made.ledger)
    assert serving is not None and (now.release, now.revision, now.entry, now.pinned) == (2, 1, 2, serving)
    assert now.ids.tolist() == IDS and (now.metric, now.fingerprint) == ("cosine", serving.fingerprint)
    assert np.array_equal(now.vectors, by_hand.rows(len(IDS), 1)[:, ::-1]) and now.uncertainty.tolist() == [0.0] * len(IDS)
    assert set(now.columns) == set(COLUMNS) and set(now.columns["origin"]) == {"forward 1→2"}
    assert set(now.columns["label"]) == {"label 1"} and set(now.columns["native_version"].tolist()) == {1}
    assert np.array_equal(searched(now), normalise(now.vectors))
    assert searched(replace(now, metric="l2")) is now.vectors


def test_an_earlier_release_is_given_as_it_served_last(made: Workspace) -> None:
    now = rows_of(made, 1)
    assert (now.release, now.revision, now.entry) == (1, 1, 1) and np.array_equal(now.vectors, by_hand.rows(len(IDS), 1))
    assert rows_of(made, 2).entry == 2
    with pytest.raises(BadInput, match=r"never served; wanted one of \[1, 2\]; got 3"):
        rows_of(made, 3)


def test_where_nothing_has_served_there_is_nothing_to_export(tmp_path: Path) -> None:
    workspace = by_hand.project(tmp_path)
    with pytest.raises(BadInput, match="nothing serves"):
        rows_of(workspace)
    with pytest.raises(BadInput, match="never served; wanted one that was promoted"):
        rows_of(workspace, 1)


def test_deleted_items_are_in_no_release(workspace: Workspace) -> None:
    delete(workspace, ["i03", "i04"], by="ana")
    for release in (None, 1, 2):
        assert rows_of(workspace, release).ids.tolist() == [one for one in IDS if one not in ("i03", "i04")]
    assert rows_of(workspace).entry == 3


@pytest.mark.parametrize("table", ["items", "spaces/v1-native"])
def test_rows_of_damaged_files_are_nobodys(workspace: Workspace, table: str) -> None:
    spoil(workspace, table)
    with pytest.raises(Damaged, match="was altered"):
        rows_of(workspace, 1)
    if table != "items":
        assert rows_of(workspace, 2).ids.tolist() == IDS


def test_tables_that_went_while_they_were_read_are_tried_again_and_are_no_damage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(workspace: Workspace, *more: Any) -> Any:
        delete(workspace, ["i03"], by="ben")
        raise NotPermitted("a file of the table is missing")

    monkeypatch.setattr(base, "rows_at", gone)
    with pytest.raises(OperationFailed, match="changed during the export; run the same command again"):
        rows_of(workspace)


def test_who_was_deleted_meanwhile_stops_an_export_also_where_the_id_came_again(workspace: Workspace) -> None:
    now = rows_of(workspace)
    still_there(workspace, now)
    assert deleted_since(workspace, now).tolist() == []
    delete(workspace, ["i03"], by="ana")
    assert deleted_since(workspace, now).tolist() == ["i03"]
    with pytest.raises(OperationFailed, match="1 items were deleted during the export"):
        still_there(workspace, now)
    again(workspace, "i03")
    assert deleted_since(workspace, now).tolist() == ["i03"]
    with pytest.raises(OperationFailed, match="deleted and came again"):
        still_there(workspace, now)
    assert deleted_since(workspace, rows_of(workspace)).tolist() == []


def test_where_the_tables_that_were_read_are_gone_everybody_may_have_been_deleted(workspace: Workspace) -> None:
    now = rows_of(workspace, 1)
    workspace.gallery.drop_space(now.pinned.space)
    assert deleted_since(workspace, now).tolist() == IDS


def test_what_an_engine_got_is_one_line() -> None:
    about = {"written": 3, "deleted": 1, "checked": 32, "rows": 40, "release": 2, "revision": 5}
    done = checked_there("schema.items", about)
    assert done.line == "schema.items: 40 items of release 2.5; 3 rows written, 1 deleted, 32 queries answered there as here"
    assert done.about is about


# ---- the file store, by its address --------------------------------------------------------------------------------


def exported(workspace: Workspace, out: Path, **parts: Any) -> tuple[dict[str, Any], str]:
    """As the command does it."""
    done = store_of(str(out)).export(workspace, str(out), lambda text: None, **{"release": None, "since": None, "dry_run": False} | parts)
    return done.about, done.line


def test_a_file_holds_every_row_with_what_it_is_of(made: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "deeper" / "release.parquet"
    about, line = exported(made, out)
    table, now = pq.read_table(out), rows_of(made)
    assert table.column_names == ["id", "deleted", "vector", "uncertainty", *COLUMNS]
    assert table["id"].to_pylist() == IDS and not any(table["deleted"].to_pylist())
    assert np.array_equal(np.array(table["vector"].to_pylist(), dtype=np.float32), now.vectors)
    for name in COLUMNS:
        assert table[name].to_pylist() == now.columns[name].tolist()
    said = json.loads(table.schema.metadata[b"fct"])
    assert about == said | {"rows": 40, "deleted": 0} and (about["release"], about["entry"], about["delta"]) == (2, 2, False)
    assert line == f"{out}: 40 items, tiny 2.1, ledger entry 2"


def test_a_delta_holds_what_is_new_and_who_is_gone(workspace: Workspace, tmp_path: Path) -> None:
    delete(workspace, ["i03", "i04"], by="ana")
    again(workspace, "i03")
    out = tmp_path / "delta.parquet"
    about, line = exported(workspace, out, since=2)
    assert (about["rows"], about["deleted"], about["since"]) == (1, 1, 2)
    assert "1 rows changed and 1 deleted since entry 2" in line
    rows = pq.read_table(out).to_pylist()
    assert [(row["id"], row["deleted"]) for row in rows] == [("i03", False), ("i04", True)]
    assert rows[0]["label"] == "label" and rows[1]["vector"] is rows[1]["label"] is rows[1]["native_version"] is None
    about, _ = exported(workspace, out, since=about["entry"])
    assert (about["rows"], about["deleted"]) == (0, 0) and pq.read_table(out).num_rows == 0


def test_a_dry_run_counts_and_writes_nothing(made: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "release.parquet"
    about, line = exported(made, out, release=1, dry_run=True)
    assert (about["rows"], about["release"]) == (40, 1) and "would hold 40 items" in line and not out.exists()


def test_a_delta_from_another_space_or_from_no_entry_is_refused(made: Workspace, tmp_path: Path) -> None:
    for since, sentence in ((1, "entry 1 serves release 1, whose vectors are of another space"), (9, "wanted 1 to 2; got 9")):
        with pytest.raises(BadInput, match=sentence):
            exported(made, tmp_path / "delta.parquet", since=since)
    assert not (tmp_path / "delta.parquet").exists()


def test_a_file_is_there_only_after_it_was_asked_who_is_still_there(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "release.parquet", parquet._write
    out.write_bytes(b"the export before")

    def slept(*arguments: Any) -> None:
        delete(workspace, ["i03"], by="ben")
        write(*arguments)

    monkeypatch.setattr(parquet, "_write", slept)
    with pytest.raises(OperationFailed, match="deleted during the export"):
        exported(workspace, out)
    assert out.read_bytes() == b"the export before" and [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
