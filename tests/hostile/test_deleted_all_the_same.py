"""Answers and exports that show a deleted item after the entry that deletes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import again, did, pictured


def test_a_server_that_cannot_open_the_revision_after_a_deletion_does_not_show_the_item(copy_serving: Copies, tmp_path: Path) -> None:
    """A bit flips on the disk, or the memory for a second gallery is not there: what served goes on, but not with what was deleted."""
    from registry.live import Live

    project, came = copy_serving(), "again.png"
    did(project, "ingest", str(pictured(tmp_path / "more", came, 1)))
    workspace = project.workspace()
    live = Live(workspace)
    assert live.look() and live.now is not None
    name = str(workspace.gallery.item_ids(role="item")[5])
    query = live.now.serving.vector_of(name)
    did(project, "delete", name, "--by", "ana", "--why", "not this one")
    again(project, tmp_path / "more", came)
    serving = workspace.ledger.serving()
    state = serving["tables"][serving["space"]]
    (file,) = [one for one in state["files"] if "/data/" in one][:1]
    path = workspace.gallery.root / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        live.look()
    print(live.problem)
    shown = [hit.id for hit in live.now.serving.search_vectors(query, 5)[0]]
    assert name not in shown, f"shown after the entry that deletes it: {shown}; {live.problem}"
    assert live.problem and came not in live.now.serving.columns["id"][live.now.serving.shown], (
        "the deleted picture's row, under an id that came again"
    )


def test_an_export_that_sleeps_while_an_id_comes_again_shows_no_deleted_picture(
    copy_serving: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fct.gallery.gallery import Gallery
    from registry.exports import parquet as export

    project, name = copy_serving(), "again.png"
    did(project, "ingest", str(pictured(tmp_path / "more", name, 1)))
    workspace = project.workspace()
    write, done = export._write, []

    def slow(*arguments):  # type: ignore[no-untyped-def]
        if not done:
            done.append(1)
            again(project, tmp_path / "more", name)
        return write(*arguments)

    monkeypatch.setattr(export, "_write", slow)
    import pyarrow.parquet as pq

    from fct.errors import FctError

    out = tmp_path / "out.parquet"
    try:
        export.export(workspace, out)
    except FctError as error:
        print(error)
        return
    assert done
    rows = pq.read_table(out).to_pydict()
    vector = np.array(rows["vector"][rows["id"].index(name)], dtype=np.float32)
    serving = workspace.ledger.serving()
    now = Gallery(workspace.gallery.root).space_rows(serving["space"], np.array([name])).vectors[0]
    assert np.allclose(vector, now), "exported under the id: the vector of the picture that was deleted"
