"""An item is deleted right before an ingest, or an adoption, that has found it there writes its batch again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct.gallery import tables
from registry.items import deletion
from tests.end_to_end.conftest import Copies, Project
from tests.hostile.test_came_again import did, pictured


def deleting(project: Project, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write of the next command waits for a deletion: no lock of an ingest keeps it away."""
    write = tables.insert_new

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(tables, "insert_new", write)
        assert deletion.delete(project.workspace(), [name], by="ana")["deleted"] == 1
        return write(*arguments)

    monkeypatch.setattr(tables, "insert_new", late)


def test_an_ingest_does_not_bring_back_what_was_deleted_since_it_looked(
    copy_serving: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, name = copy_serving(), "gone.png"
    place = str(pictured(tmp_path / "more", name, 1))
    did(project, "ingest", place)
    deleting(project, name, monkeypatch)
    ran = project.fct("ingest", place)
    assert ran.code == 1 and "deleted while" in ran.err, ran.err
    assert name not in project.workspace().gallery.item_ids().tolist()
    assert name not in project.workspace().gallery.feature_ids(1).tolist()
    did(project, "ingest", place)  # who runs it again wants it back


def test_an_adoption_does_not_bring_back_what_was_deleted_since_it_looked(
    copy_of: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, rng = copy_of(), np.random.default_rng(0)
    ids = [f"item-{number:03}" for number in range(40)]
    rows = {"id": ids, "vector": list(rng.normal(size=(40, 16)).astype(np.float32)), "label": ids}
    pq.write_table(pa.table(rows), tmp_path / "all.parquet")
    command = ("adopt", str(tmp_path / "all.parquet"), "--as", "v1")
    did(project, *command)
    deleting(project, "item-005", monkeypatch)
    ran = project.fct(*command)
    assert ran.code == 1 and "deleted while" in ran.err, ran.err
    assert "item-005" not in project.workspace().gallery.item_ids().tolist()
