"""The release that serves is altered in MLflow, its artifact and its tag: what the ledger names is what goes on serving."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.conftest import command
from tests.hostile.test_came_again import did, pictured


def test_an_ingest_does_not_put_an_altered_release_in_the_place_of_the_approved_one(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    project = copies(promoted_folder)
    workspace = project.workspace()
    serving = workspace.ledger.serving()
    folder = workspace.releases.folder_of(2)
    about = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    assert about["metric"] == "cosine"
    (folder / "release.json").write_text(json.dumps(about | {"metric": "l2"}, indent=2), encoding="utf-8")
    workspace.releases.untag(2, "fct.release")
    ran = command(project.folder, "ingest", str(pictured(tmp_path / "other", "other.png", 9)))
    print(ran.code, ran.out, ran.err[-400:])
    now = project.workspace().ledger.serving()
    assert now["release_digest"] == serving["release_digest"], "the ledger names a release that nobody approved"
    assert ran.code == 3 or "other.png" in did(project, "search", "--id", "other.png")


def test_with_mlflow_gone_an_ingest_and_a_backfill_go_on(copies, promoted_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    project = copies(promoted_folder)
    for name in ("mlflow.db", "artifacts"):
        (project.folder / "workspace" / name).rename(tmp_path / name)
    for args in (("ingest", str(pictured(tmp_path / "other", "other.png", 9))), ("backfill", "--fraction", "0.2")):
        ran = command(project.folder, *args)
        assert ran.code == 0, ran.err
    assert "other.png" in did(project, "search", "--id", "other.png")
    assert not (project.folder / "workspace" / "mlflow.db").exists(), "nobody began an empty one"
