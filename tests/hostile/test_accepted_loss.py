"""A deletion's entry is lost, the loss accepted: the item stays deleted, whatever is asked afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.test_came_again import did


def test_what_a_lost_entry_deleted_stays_deleted_in_every_release(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    project = copies(promoted_folder)
    workspace = project.workspace()
    name = str(workspace.gallery.item_ids(role="item")[5])
    did(project, "delete", name, "--by", "ana", "--why", "request 4711")
    number = workspace.ledger.head().number
    for path in (project.folder / "workspace/ledger/tiny").glob(f"{number:07d}*"):
        path.unlink()
    assert project.fct("status").code == 3
    did(project, "reconcile", "--accept-head", "--by", "ana", "--why", "gone for good")
    assert project.fct("search", "--id", name).code != 0
    ran = project.fct("export", str(tmp_path / "one.parquet"), "--release", "1")
    print(ran.code, ran.err)
    if ran.code == 0:
        import pyarrow.parquet as pq

        assert name not in pq.read_table(tmp_path / "one.parquet")["id"].to_pylist()
    did(project, "rollback", "--by", "ana", "--why", "back")
    assert project.fct("search", "--id", name).code != 0
    did(project, "promote", "2")
    assert project.fct("search", "--id", name).code != 0
    assert project.fct("status", "--verify").code == 0
