"""An exporter that slept brings nothing back that was deleted, into an engine that people ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct.errors import FctError
from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import again, did, pictured


def test_a_push_to_qdrant_that_sleeps_brings_no_deleted_item_back(
    copy_serving: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qdrant_client")
    from qdrant_client import QdrantClient

    from registry.exports import qdrant

    project = copy_serving()
    workspace, url = project.workspace(), f"qdrant+file:{tmp_path / 'engine'}"
    said = qdrant.push(workspace, url)
    name = str(workspace.gallery.item_ids(role="item")[5])
    read, done = qdrant.rows_of, []

    def slow(ws):  # type: ignore[no-untyped-def]
        found = read(ws)
        if not done:
            done.append(name)
            did(project, "delete", name, "--by", "ana", "--why", "request 4711")
            did(project, "export", url)
        return found

    monkeypatch.setattr(qdrant, "rows_of", slow)
    with pytest.raises(FctError) as refused:
        qdrant.push(workspace, url)
    print(refused.value)
    client = QdrantClient(path=str(tmp_path / "engine"))
    points, _ = client.scroll(said["alias"], limit=10_000, with_payload=["id"])
    client.close()
    assert done and name not in [point.payload["id"] for point in points if point.payload], (
        "the deleted item is in the collection that answers"
    )


def test_what_a_push_writes_while_its_items_are_deleted_or_come_again_does_not_stay(
    copy_serving: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had looked, and slept before its first write: nobody keeps a deletion from happening there."""
    pytest.importorskip("qdrant_client")
    from qdrant_client import QdrantClient

    from registry.exports import qdrant

    project, name = copy_serving(), "again.png"
    workspace, url = project.workspace(), f"qdrant+file:{tmp_path / 'engine'}"
    said = qdrant.push(workspace, url)
    gone = str(workspace.gallery.item_ids(role="item")[5])
    did(project, "ingest", str(pictured(tmp_path / "more", name, 1)))
    look, done = qdrant.still_there, []

    def slow(*given):  # type: ignore[no-untyped-def]
        look(*given)
        if not done:
            done.append(name)
            did(project, "delete", gone, "--by", "ana", "--why", "request 4711")
            again(project, tmp_path / "more", name)

    monkeypatch.setattr(qdrant, "still_there", slow)
    with pytest.raises(FctError) as refused:
        qdrant.push(workspace, url)
    print(refused.value)
    client = QdrantClient(path=str(tmp_path / "engine"))
    points, _ = client.scroll(said["alias"], limit=10_000, with_payload=["id"])
    client.close()
    assert done and not {name, gone} & {point.payload["id"] for point in points if point.payload}
