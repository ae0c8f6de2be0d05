"""Items arrive: listed, embedded, found, also while somebody rolls back or an upgrade runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct.errors import BadInput
from registry.live import Live
from registry.revisions import history
from registry.revisions.serving import open_serving
from tests.end_to_end.conftest import PATIENCE_S, Copies, Project, wait_for
from tests.end_to_end.lives import chosen, living_origin, pictures


def test_what_cannot_be_ingested_is_listed_and_the_rest_is_ingested(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    files = pictures(tmp_path / "more" / "class-00", 8)
    (tmp_path / "more" / "empty.png").write_bytes(b"")
    (tmp_path / "more" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "more" / "same.png").write_bytes(files[0].read_bytes())
    ran = living.fct("ingest", str(tmp_path / "more"), "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["added"] == 9 and {one for one, _ in said["broken"]} == {"empty.png", "broken.jpg"} and not said["conflicts"]
    assert said["duplicates"] == [["same.png", "class-00/new-00.png"]] or said["duplicates"] == [["class-00/new-00.png", "same.png"]]
    assert "2 images cannot be read" in ran.err and "searchable now" in ran.err
    hits = open_serving(ws).search_vectors(open_serving(ws).vector_of("class-00/new-03.png"), 1)[0]
    assert [(hit.id, hit.origin) for hit in hits] == [("class-00/new-03.png", "native")]
    head = ws.ledger.head()
    files[3].write_bytes(files[4].read_bytes())  # the same id with another picture
    again = json.loads(living.fct("ingest", str(tmp_path / "more"), "--json").out)
    assert (
        again["added"] == 0
        and again["unchanged"] == 8
        and again["conflicts"] == [["class-00/new-03.png", "it is there with another picture"]]
    )
    assert ws.ledger.head() == head


def test_a_parquet_file_brings_its_images_or_names_them(living: Project, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = pictures(tmp_path / "more", 6)
    ids = [f"p/{row}" for row in range(5)] + ["x" * 4000]
    table = {"id": ids, "image": [file.read_bytes() for file in files], "label": ["class-00"] * 6}
    pq.write_table(pa.table(table), tmp_path / "bytes.parquet")
    said = json.loads(living.fct("ingest", str(tmp_path / "bytes.parquet"), "--json").out)
    assert said["added"] == 5 and said["broken"][0][0] == "x" * 200 and "id" in said["broken"][0][1]
    pq.write_table(pa.table({"id": ["q/0", "q/1"], "image_uri": ["more/new-00.png", "more/gone.png"]}), tmp_path / "paths.parquet")
    said = json.loads(living.fct("ingest", str(tmp_path / "paths.parquet"), "--json").out)
    assert said["added"] == 1 and said["broken"][0][0] == "q/1"
    for name, columns in {
        "twice": {"id": ["a", "a"], "image_uri": ["b", "c"]},
        "lacks": {"id": ["a"]},
        "none": {"id": [], "image_uri": []},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        ran = living.fct("ingest", str(tmp_path / f"{name}.parquet"))
        assert ran.code == 2 and "Traceback" not in ran.err, name
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nothing")
    assert living.fct("ingest", str(tmp_path / "no.parquet")).code == 2


def test_a_rollback_asks_before_items_of_the_later_release_go_missing_and_ingest_brings_them_back(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    pictures(tmp_path / "more", 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    ran = living.fct("rollback")
    assert ran.code == 3 and "5 items" in ran.err and "--without-missing" in ran.err
    assert ws.ledger.serving()["release"] == 2
    ran = living.fct("rollback", "--without-missing", "--by", "ana")
    assert ran.code == 0 and "5 items do not serve" in ran.err
    assert "new-00.png" not in set(open_serving(ws).searcher.ids[open_serving(ws).shown].tolist())
    said = json.loads(living.fct("ingest", str(tmp_path / "more"), "--json").out)
    assert said["added"] == 5
    serving = open_serving(ws)
    assert serving.revision.release == 1
    assert serving.search_vectors(serving.vector_of("new-00.png"), 1)[0][0].id == "new-00.png"
    assert living.fct("promote", "2").code == 0, "the later release serves them as it embedded them"
    assert open_serving(ws).search_vectors(open_serving(ws).vector_of("new-00.png"), 1)[0][0].origin == "native"


def test_items_that_arrive_while_somebody_rolls_back_are_found_in_what_serves_then(
    living: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.decisions import rollback
    from registry.items import ingest

    ws, write = living.workspace(), ingest._write
    pictures(tmp_path / "more", 5)

    def meanwhile(*args: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(ingest, "_write", write)
            found = write(*args)
        rollback.rollback(ws, by="ben", why="complaints", without_missing=True)
        return found

    monkeypatch.setattr(ingest, "_write", meanwhile)
    ran = living.fct("ingest", str(tmp_path / "more"), "--json")
    monkeypatch.setattr(ingest, "_write", write)
    assert ran.code == 0 and "release 1 came to serve while release 2 embedded" in ran.err, ran.err
    assert json.loads(ran.out)["added"] == 5 and json.loads(ran.out)["version"] == 1
    serving = open_serving(ws)
    assert serving.revision.release == 1
    assert serving.search_vectors(serving.vector_of("new-00.png"), 1)[0][0].id == "new-00.png"
    head = ws.ledger.head()
    ran = living.fct("rollback", "--by", "ben", "--why", "complaints")
    assert ran.code == 0 and "done already: ben" in ran.out and "fct rollback --from 1" in ran.err, "the same command again"
    assert ws.ledger.head() == head and "done already" in living.fct("rollback", "--dry-run").out
    assert living.fct("rollback", "--from", "1").code == 2, "nothing served before it"


def test_double_embedding_lets_a_rollback_keep_what_arrived_since(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    path = living.folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("double_embed_days: 0.0", "double_embed_days: 7.0"), encoding="utf-8")
    pictures(tmp_path / "more", 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    (earlier,) = history.earlier(ws.ledger.head().detail)
    assert earlier.release == 1
    assert living.fct("rollback", "--by", "ana").code == 0
    serving = open_serving(ws)
    assert serving.revision == earlier
    assert serving.search_vectors(serving.vector_of("new-00.png"), 1)[0][0].id == "new-00.png"


# ---- while an upgrade runs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_arrives_and_goes_during_an_upgrade_is_and_is_not_in_the_promoted_revision(copy_waiting: Copies, tmp_path: Path) -> None:
    """500 ingested and 50 deleted beside a running upgrade; all and none of them are promoted; above max_delta a new verdict is asked for."""
    import subprocess
    import sys

    project = copy_waiting()
    ws = project.workspace()
    for step in ("transform.json", "revision.json", "verdict", "rehearsal"):  # the upgrade has its gallery's work before it
        path = ws.upgrade_folder(2) / step
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    ws.gallery.drop_space(next(name for name in ws.gallery.tables() if name.startswith("spaces/v2")))
    pictures(tmp_path / "more", 500)
    old = chosen(project, 20)
    running = subprocess.Popen([sys.executable, "-m", "flows.cli", "upgrade", "2"], cwd=project.folder, stderr=subprocess.PIPE, text=True)
    # what arrives before the gallery is carried over is no delta
    wait_for(lambda: (ws.upgrade_folder(2) / "transform.json").exists() or running.poll() is not None)
    assert running.poll() is None, "the upgrade is at work all the while"
    assert project.fct("ingest", str(tmp_path / "more")).code == 0
    gone = [*old, *(f"new-{number:02}.png" for number in range(30))]
    assert project.fct("delete", *gone).code == 0
    assert running.communicate(timeout=PATIENCE_S)[1] is not None and running.returncode == 0
    assert not set(project.workspace().gallery.item_ids().tolist()) & set(gone)
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    ran = project.fct("promote", "2")
    assert ran.code == 3 and "at most the share promote.max_delta = 0.5" in ran.err, "the gallery is three times as large now"
    params = project.folder / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("max_delta: 0.5", "max_delta: 5.0"), encoding="utf-8")
    ran = project.fct("promote", "2")
    assert ran.code == 0, ran.err
    serving = open_serving(ws)
    answered = set(serving.searcher.ids[serving.shown].tolist())
    assert answered == set(ws.gallery.item_ids(role="item").tolist())
    assert {f"new-{number:02}.png" for number in range(30, 500)} <= answered and not answered & set(gone)
    assert living_origin(serving, "new-40.png") == "forward 1→2", "embedded by the release that served when it arrived"
    assert project.fct("rollback", "--by", "ana").code == 0
    back = open_serving(ws)
    assert set(back.searcher.ids[back.shown].tolist()) == answered


def test_an_id_that_was_deleted_and_came_again_is_promoted_with_its_new_picture(copy_waiting: Copies, tmp_path: Path) -> None:
    project = copy_waiting()
    ws, one = project.workspace(), "new-00.png"
    following = Live(ws, candidate=True)
    assert following.look()
    following.compare()
    assert following.now is not None and following.now.candidate is not None and following.now.candidate.own is not None
    item = chosen(project, 1)[0]
    following.now.candidate.own.row_of(item)
    assert project.fct("delete", item).code == 0
    assert following.look()
    following._looked = -1e9
    following.compare()
    with pytest.raises(BadInput, match="no such item"):
        following.now.candidate.own.row_of(item)
    # the same id with another picture and label, while version 2 waits with the old one
    import pyarrow as pa
    import pyarrow.parquet as pq

    (file,) = pictures(tmp_path / "more", 1)
    assert file.name == one
    pq.write_table(pa.table({"id": [item], "image_uri": [str(file)], "label": ["another"]}), tmp_path / "again.parquet")
    assert project.fct("ingest", str(tmp_path / "again.parquet")).code == 0
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    assert project.fct("promote", "2").code == 0
    serving = open_serving(ws)
    row = serving.row_of(item)
    assert serving.columns["label"][row] == "another" and serving.columns["image_uri"][row] == str(file)
    before = ws.gallery.read_space(
        ws.ledger.serving()["space"],
        at=json.loads((ws.upgrade_folder(2) / "revision.json").read_text())["tables"][ws.ledger.serving()["space"]]["version"],
    )
    now = ws.gallery.read_space(ws.ledger.serving()["space"])
    assert not np.array_equal(now.vectors[now.ids == item], before.vectors[before.ids == item])
