"""The gallery while releases come and go: deletion and its traces, with the real parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fct.arrays.files import read_json
from fct.errors import BadInput
from registry.items import traces
from registry.live import Live
from registry.revisions import history, kept
from registry.revisions.serving import Serving, open_revision, open_serving
from tests.end_to_end.conftest import PATIENCE_S, Copies, Project, copied, having, wait_for


@pytest.fixture
def living(promoted: Project, tmp_path: Path) -> Project:
    """A copy of the promoted project of its own."""
    return copied(promoted.folder, tmp_path / "project")


def queries(serving: Serving, count: int = 12) -> np.ndarray:
    return serving.searcher.index.reconstruct_n(0, serving.searcher.index.ntotal)[:: max(1, len(serving.searcher.ids) // count)]


def answers(serving: Serving, asked: np.ndarray) -> list[list[tuple[str, float]]]:
    return [[(hit.id, hit.score) for hit in hits] for hits in serving.search_vectors(asked, 20)]


def sound(project: Project) -> None:
    """What doctor says of gallery, champion and storage (the machine's ports are others' business)."""
    found = json.loads(project.fct("doctor", "--json").out)["checks"]
    outcomes = {one["check"]: one["outcome"] for one in found if one["check"] in ("gallery", "champion", "storage")}
    assert outcomes == {"gallery": "fine", "champion": "fine", "storage": "fine"}, found


def chosen(project: Project, count: int) -> list[str]:
    ids = project.workspace().gallery.item_ids(role="item")
    return [str(one) for one in np.random.default_rng(1).choice(ids, count, replace=False)]


def test_deleted_items_leave_every_answer_at_once_and_the_rest_is_unchanged(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    before = open_serving(ws)
    asked = queries(before)
    expected = [
        [hit for hit in hits if hit[0] not in gone]
        for hits in [[(hit.id, hit.score) for hit in hits] for hits in before.search_vectors(asked, 30)]
    ]
    following = Live(ws)
    assert following.look() and following.now is not None
    opened_first = following.now.serving
    ran = living.fct("delete", *gone, "not-there", "--by", "ana", "--why", "request 1")
    assert ran.code == 0 and "10 items deleted, 1 ids unknown" in ran.out, ran.err
    entry = ws.ledger.head()
    now = history.serving(entry)
    assert (entry.action, now.release, now.masked) == ("delete", 2, 10)
    assert now.index == before.revision.index, "nothing was built"
    after = open_serving(ws)
    assert [hits[:15] for hits in answers(after, asked)] == [hits[:15] for hits in expected]
    text = json.dumps(entry.to_json(), ensure_ascii=False)
    assert not [one for one in gone if one in text], "the ledger counts and never names"
    assert living.fct("delete", *gone).code == 0
    assert ws.ledger.head() == entry, "a second time changes nothing"
    assert following.look() and not following.problem and following.now is not None
    assert following.now.serving.searcher is opened_first.searcher, "a server masks; it loads nothing"
    assert answers(following.now.serving, asked) == answers(after, asked)


def test_a_rollback_returns_to_the_earlier_release_without_what_was_deleted_since(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    first = next(entry for entry in ws.ledger.entries() if entry.release == 1)
    old = open_revision(ws, history.serving(first))
    asked = queries(old)
    expected = [[(hit.id, hit.score) for hit in hits if hit.id not in gone][:10] for hits in old.search_vectors(asked, 20)]
    assert living.fct("delete", *gone).code == 0
    ran = living.fct("rollback", "--by", "ana", "--why", "complaints")
    assert ran.code == 0, ran.err
    now = open_serving(ws)
    assert now.revision.release == 1 and now.revision.number == first.revision + 1
    assert [hits[:10] for hits in answers(now, asked)] == expected


def test_purged_items_leave_no_byte_behind(living: Project) -> None:
    ws, gone = living.workspace(), chosen(living, 10)
    # among them one that the report names
    page = (ws.upgrade_folder(2) / "report.html").read_text(encoding="utf-8")
    named = next((one for one in ws.gallery.item_ids(role="item").tolist() if f'<td class="mono">{one}</td>' in page), None)
    gone = sorted({*gone, *([named] if named else [])})
    wanted = traces.of(ws.gallery, np.array(gone))
    found = traces.search(ws.folder, wanted)
    places = {Path(one).parts[0] for one in found}
    assert {"gallery", "indexes", "upgrades"} <= places and ("artifacts" in places or named is None), found
    serving = open_serving(ws)
    asked = queries(serving)
    expected = [[(hit.id, hit.score) for hit in hits if hit.id not in gone][:10] for hits in serving.search_vectors(asked, 30)]
    assert living.fct("delete", *gone[:4]).code == 0, "some were deleted before, and are purged now"
    ran = living.command("delete", *gone, "--purge", "--json")  # a process of its own: MLflow remembers where a run of this id was
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["deleted"] == len(gone) - 4 and said["left"] == [] and said["checked"] >= 4 * len(gone)
    assert traces.search(ws.folder, wanted) == [], "searched for once more, with what was noted before"
    again = [[(hit[0], round(hit[1], 5)) for hit in hits[:10]] for hits in answers(open_serving(ws), asked)]
    assert again == [[(one, round(score, 5)) for one, score in hits] for hits in expected]
    ran = living.fct("rollback", "--by", "ana", "--why", "complaints")
    assert ran.code == 0, ran.err
    assert living.fct("reconcile", "--once").code == 0  # the alias in MLflow follows at the next look
    assert not {hit[0] for hits in answers(open_serving(ws), queries(open_serving(ws))) for hit in hits} & set(gone)
    sound(living)


@pytest.mark.slow
def test_a_candidate_whose_evaluated_rows_were_purged_is_measured_again(copy_waiting: Copies) -> None:
    project = copy_waiting()
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    gone = chosen(project, 5)
    ran = project.command("delete", *gone, "--purge")
    assert ran.code == 0 and "version 2: its verdict was about rows that are gone" in ran.err, ran.err
    ran = project.fct("promote", "2")
    assert ran.code == 3 and "no verdict yet" in ran.err
    assert project.fct("reconcile", "--once").code == 0
    ran = project.fct("promote", "2")
    assert ran.code == 3, "the approval was of another verdict"
    assert project.fct("approve", "2", "--by", "ana", "--why", "measured again").code == 0
    assert project.fct("promote", "2").code == 0
    ws = project.workspace()
    assert not set(ws.gallery.space_ids(ws.ledger.serving()["space"]).tolist()) & set(gone)


def test_an_id_that_is_only_among_fitting_pairs_can_be_purged(living: Project) -> None:
    ws = living.workspace()
    pairs = ws.upgrade_folder(2) / "pairs-v1"
    one = str(np.setdiff1d(np.load(pairs / "fitting/sources.npy"), ws.gallery.item_ids())[0])
    ran = living.fct("delete", one, "--purge")
    assert ran.code == 0 and "0 items deleted, 1 ids unknown" in ran.out, ran.err
    assert one not in np.load(pairs / "fitting/sources.npy") and traces.search(ws.folder, traces.of(ws.gallery, np.array([one]))) == []


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "no ids were given"),
        (("--from", "nowhere.txt"), 2, "cannot be read"),
        (("CANARY",), 2, "canary"),
    ],
)
def test_what_cannot_be_deleted_is_said_in_a_sentence(living: Project, args: tuple[str, ...], code: int, said: str) -> None:
    ws = living.workspace()
    head = ws.ledger.head()
    args = tuple(str(ws.gallery.item_ids(role="canary")[0]) if one == "CANARY" else one for one in args)
    ran = living.fct("delete", *args)
    assert ran.code == code and said in ran.err and "Traceback" not in ran.err
    assert ws.ledger.head() == head


def test_a_purge_waits_for_nobody(living: Project) -> None:
    from registry import lock

    ws = living.workspace()
    with lock.hold(ws.locks, "tiny", "bob: upgrade 3", lease_s=60):
        ran = living.fct("delete", *chosen(living, 1), "--purge")
    assert ran.code == 1 and "bob: upgrade 3" in ran.err
    assert ws.ledger.head().action == "promote"


def test_a_rollback_hides_what_a_deletion_that_was_cut_short_has_deleted(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import deletion

    ws, gone = living.workspace(), chosen(living, 6)

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_record", cut)
        with pytest.raises(OSError, match="power"):
            deletion.delete(ws, gone, by="ana")
    ran = living.fct("rollback", "--by", "ana")
    assert ran.code == 0, ran.err
    serving = open_serving(ws)
    assert serving.revision.release == 1 and not serving.shown[np.isin(serving.searcher.ids, gone)].any()


def test_a_deletion_cut_short_is_finished_by_the_next(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import deletion

    ws, gone = living.workspace(), chosen(living, 6)

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_record", cut)
        with pytest.raises(OSError, match="power"):
            deletion.delete(ws, gone, by="ana")
    half = open_serving(ws)
    assert ws.ledger.head().action == "promote" and half.shown[np.isin(half.searcher.ids, gone)].all(), "whole, as it was"
    assert deletion.delete(ws, gone, by="ana")["entry"] == ws.ledger.head().number
    assert ws.ledger.serving()["masked"] == 6


# ---- without MLflow, and with a ledger that lost its newest entries --------------------------------------------------------


def test_with_the_registry_gone_it_serves_and_forgets_and_what_it_owes_there_is_paid_later(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    page = (ws.upgrade_folder(2) / "report.html").read_text(encoding="utf-8")
    gone = [next(one for one in ws.gallery.item_ids(role="item").tolist() if f'<td class="mono">{one}</td>' in page), *chosen(living, 3)]
    wanted = traces.of(ws.gallery, np.array(gone))
    assert living.fct("status", "--fresh").code == 0
    for name in ("mlflow.db", "artifacts"):
        (ws.folder / name).rename(tmp_path / name)
    image = str(next((living.folder / "build/data/images/validation").rglob("*.png")))
    assert living.fct("search", image).code == 0 and living.fct("status").code == 0
    assert living.fct("delete", gone[0], "--by", "ana").code == 0
    ran = living.fct("delete", *gone, "--purge", "--by", "ana")
    assert ran.code == 1 and "Reports in MLflow may still name some of them" in ran.err and len(ran.err.strip().splitlines()) == 1, ran.err
    assert traces.search(ws.folder, wanted) == [] and traces.search(tmp_path / "artifacts", wanted) != []
    following = Live(ws)
    assert following.look() and following.now is not None and following.now.serving.program is not None, following.problem
    assert living.fct("rollback", "--by", "ana", "--why", "a test").code == 0
    assert following.look() and following.now.serving.revision.release == 1
    ran = living.fct("status")
    assert ran.code == 0 and "MLflow knows no tiny" in ran.out and "owed since ledger entry" in ran.out and "version 2" in ran.out, ran.out
    assert not (ws.folder / "mlflow.db").exists(), "nobody began an empty one"
    for name in ("mlflow.db", "artifacts"):
        (tmp_path / name).rename(ws.folder / name)
    ran = living.command("reconcile", "--once")  # a process of its own: MLflow remembers where a run of this id was
    assert ran.code == 0 and "purged items left the reports in MLflow" in ran.err, ran.err
    assert traces.search(ws.folder, wanted) == [] and ws.ledger.head().detail["paid"]
    assert "owed" not in living.fct("status").out
    assert living.command("promote", "2").code == 0, "the report is the one that the purge's entry names"
    sound(living)


def test_a_deletion_whose_ledger_entry_was_lost_is_noticed_by_a_server_and_by_what_mlflow_says(living: Project, tmp_path: Path) -> None:
    ws, gone = living.workspace(), chosen(living, 2)
    note = ws.gallery.root / "head.json"
    shutil.copytree(ws.ledger.place, tmp_path / "ledger")
    shutil.copy(note, tmp_path / "head.json")
    following = Live(ws)
    assert following.look()
    assert living.command("delete", *gone, "--by", "ana").code == 0
    assert following.look() and following.now is not None
    shutil.rmtree(ws.ledger.place)  # the whole workspace but MLflow is that of the day before
    shutil.copytree(tmp_path / "ledger", ws.ledger.place)
    shutil.copy(tmp_path / "head.json", note)
    assert not following.look() and "lost entry" in following.problem
    assert not following.now.serving.shown[np.isin(following.now.serving.searcher.ids, gone)].any(), "what served goes on"
    shutil.copy(tmp_path / "head.json", note)
    assert living.command("search", "--id", gone[0]).code == 0, "nothing here says that something is missing"
    ran = living.command("status")
    assert ran.code == 3 and "lost entry" in ran.err and "--accept-head" in ran.err and len(ran.err.strip().splitlines()) == 1, ran.err
    for args in (("search", "--id", gone[0]), ("rollback",), ("delete", "x"), ("reconcile", "--once"), ("promote", "2"), ("log",)):
        ran = living.fct(*args)
        assert ran.code == 3 and "lost entry" in ran.err, (args, ran.err)
    assert not Live(ws).look()
    before = len(ws.ledger.all_there())
    assert living.fct("reconcile", "--accept-head", "--dry-run").code == 0 and len(ws.ledger.all_there()) == before
    ran = living.fct("reconcile", "--accept-head", "--by", "ana", "--why", "the backup is all there is")
    assert ran.code == 0, ran.err
    assert ws.ledger.head().action == "accept" and ws.ledger.head().by == "ana"
    following.look()
    assert not following.problem and not following.now.serving.shown[np.isin(following.now.serving.searcher.ids, gone)].any()
    assert living.fct("search", "--id", gone[0]).code == 2, "the tables know what was deleted"
    assert living.command("reconcile", "--once").code == 0 and living.fct("status").code == 0
    ran = living.fct("reconcile", "--accept-head")
    assert ran.code == 2 and "lost no entry" in ran.err
    sound(living)


# ---- items arrive ------------------------------------------------------------------------------------------------------


def pictures(folder: Path, count: int, seed: int = 7) -> list[Path]:
    """New images of the kind that the project knows."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    files = [folder / f"new-{number:02}.png" for number in range(count)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(file)
    return files


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


# ---- backfilling --------------------------------------------------------------------------------------------------------


def set_params(project: Project, **changed: str) -> None:
    path = project.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for before, after in changed.items():
        assert before.replace("__", ": ") in text
        text = text.replace(before.replace("__", ": "), after)
    path.write_text(text, encoding="utf-8")


def test_a_backfill_goes_in_the_shipped_order_and_every_batch_is_a_revision(living: Project) -> None:
    set_params(living, batch_rows__4096="batch_rows: 20")
    ws = living.workspace()
    before, space = ws.ledger.head(), ws.ledger.serving()["space"]
    rows = ws.gallery.read_space(space)
    items = np.isin(rows.ids, ws.gallery.item_ids(role="item"))
    count = int(items.sum())
    wanted = round(0.3 * count)
    ranked = rows.ids[items][np.argsort(-rows.uncertainty[items].astype(float), kind="stable")][:wanted]
    dry = json.loads(living.fct("backfill", "--fraction", "0.3", "--dry-run", "--json").out)
    assert dry["rows"] == wanted and ws.ledger.head() == before
    ran = living.fct("backfill", "--fraction", "0.3", "--by", "ana", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["rows"] == said["embedded"] == wanted and said["skipped"] == []
    assert [step["predicted_mAP"] for step in said["steps"]] and all(step["measured_mAP"] for step in said["steps"])
    entries = ws.ledger.entries()[before.number :]
    assert [e.action for e in entries] == ["backfill"] * -(-wanted // 20)
    assert [e.serving["revision"] for e in entries] == list(range(2, 2 + len(entries)))
    now = ws.gallery.read_space(space)
    assert set(now.ids[now.origin == "backfilled"]) == set(ranked)
    # the vectors are what the release computes from the images, to the last bit that it stores
    release = kept.opened(ws, 2)
    from fct.datasets.images import read_image
    from fct.program.programs import embed

    uris = dict(zip(*(ws.gallery.items()[name] for name in ("id", "image_uri")), strict=True))
    phi, _ = embed(
        release.program(), np.stack([read_image(uris[one], release.size, release.mode) for one in ranked[:9]]), device=torch.device("cpu")
    )
    assert np.allclose(now.vectors[np.searchsorted(now.ids, ranked[:9])], phi, rtol=1e-4, atol=1e-4)
    assert (ws.gallery.native_version_of(ranked) == 2).all()
    origins = {hit.origin for hits in open_serving(ws).search_vectors(queries(open_serving(ws)), 20) for hit in hits}
    assert origins == {"backfilled", "forward 1→2"}
    again = json.loads(living.fct("backfill", "--fraction", "0.3", "--json").out)
    assert again["rows"] == 0 and ws.ledger.head() == entries[-1]
    assert living.fct("rollback").code == 0, "nothing is missing there: the items were carried from it"


def test_a_backfill_that_is_killed_goes_on_without_embedding_anything_twice(living: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.items import backfill, batches

    set_params(living, batch_rows__4096="batch_rows: 25")
    ws = living.workspace()
    whole, calls = batches.pin, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(batches, "pin", killed)
        with pytest.raises(KeyboardInterrupt):
            backfill.backfill(ws, fraction=0.4, by="ana")
    assert ws.ledger.head().action == "backfill" and ws.ledger.head().serving["revision"] == 2
    served = open_serving(ws)
    assert (served.columns["origin"] == "backfilled").sum() == 25, "the revision is whole: the second batch is not in it"
    done = backfill.backfill(ws, fraction=0.4, by="ana")
    count = len(ws.gallery.item_ids(role="item"))
    assert done.embedded == round(0.4 * count) - 50, "what the killed run had embedded was used"
    assert (open_serving(ws).columns["origin"] == "backfilled").sum() == round(0.4 * count)


def test_a_backfill_lists_images_that_are_gone_and_keeps_their_items_as_they_were(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    (file,) = pictures(tmp_path / "more", 1)
    ingested = ("ingest", str(tmp_path / "more"))  # while version 1 serves: promoted again, version 2 has it carried over
    having(living, ("rollback", "--by", "ana"), ingested, ("promote", "2"))
    space = ws.ledger.serving()["space"]
    rows = ws.gallery.read_space(space)
    file.rename(tmp_path / "away.png")
    ran = living.fct("backfill", "--fraction", "1", "--json")
    said = json.loads(ran.out)
    assert ran.code == 0 and [one for one, _ in said["skipped"]] == [file.name] and said["embedded"] > 100
    now = ws.gallery.read_space(space)
    assert now.origin[now.ids == file.name] == "forward 1→2"
    assert np.array_equal(now.vectors[now.ids == file.name], rows.vectors[rows.ids == file.name])


def test_a_backfill_stops_where_it_is_told_to(living: Project) -> None:
    ws = living.workspace()
    head = ws.ledger.head()
    said = json.loads(living.fct("backfill", "--until-mAP", "0.01", "--json").out)
    assert said["rows"] == 0 and "is reached" in said["stopped"] and ws.ledger.head() == head
    set_params(living, batch_rows__4096="batch_rows: 15")
    said = json.loads(living.fct("backfill", "--budget-minutes", "0.0001", "--json").out)
    assert "minutes are over" in said["stopped"] and said["rows"] in (0, 15)


def test_a_release_that_is_promoted_again_serves_as_it_served_last(living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "0.3").code == 0
    asked = queries(open_serving(ws))
    before = answers(open_serving(ws), asked)
    assert living.fct("rollback", "--by", "ana").code == 0
    assert living.fct("promote", "2").code == 0
    assert answers(open_serving(ws), asked) == before
    assert (open_serving(ws).columns["origin"] == "backfilled").any()
    gone = chosen(living, 5)
    assert living.fct("rollback", "--by", "ana").code == living.fct("delete", *gone).code == 0
    pictures(tmp_path / "more", 3)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    ran = living.fct("promote", "2")
    assert ran.code == 0, ran.err
    serving = open_serving(ws)
    assert set(serving.searcher.ids[serving.shown].tolist()) == set(ws.gallery.item_ids(role="item").tolist())
    assert serving.columns["origin"][serving.row_of("new-00.png")] == "forward 1→2"
    assert (serving.columns["origin"] == "backfilled").any()


@pytest.mark.parametrize("args", [(), ("--fraction", "0"), ("--fraction", "1.5"), ("--until-mAP", "-1"), ("--budget-minutes", "0")])
def test_a_backfill_without_a_usable_limit_is_refused(living: Project, args: tuple[str, ...]) -> None:
    ran = living.fct("backfill", *args)
    assert ran.code == 2 and "Traceback" not in ran.err
    assert living.workspace().ledger.head().action == "promote"


# ---- what may go --------------------------------------------------------------------------------------------------------


def test_gc_says_first_what_goes_and_keeps_what_a_rollback_returns_to(living: Project) -> None:
    set_params(living, batch_rows__4096="batch_rows: 30")
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "0.3").code == 0
    asked = queries(open_serving(ws))
    before, head = answers(open_serving(ws), asked), ws.ledger.head()
    (indexes,) = (ws.folder / "indexes").glob("*")
    there = {path.name for path in indexes.glob("*")}
    assert len(there) > 3
    plan = json.loads(living.fct("gc", "--json").out)
    assert plan["kept"] == [1, 2] and plan["spaces"] == [] and plan["versions"] and ws.ledger.head() == head
    assert {path.name for path in indexes.glob("*")} == there, "nothing was done"
    ran = living.fct("gc", "--yes", "--by", "ana", "--why", "disk")
    assert ran.code == 0, ran.err
    assert ws.ledger.head().action == "gc" and ws.ledger.head().serving == head.serving
    kept = {
        Path(head.serving["index"]["folder"]).name,
        Path(next(e.serving for e in ws.ledger.entries() if e.serving)["index"]["folder"]).name,
    }
    assert {path.name for path in indexes.glob("*")} == kept
    assert answers(open_serving(ws), asked) == before
    assert "nothing can go" in living.fct("gc").out
    assert living.fct("gc", "--yes").code == 0 and ws.ledger.head().number == head.number + 1
    sound(living)
    assert living.fct("rollback").code == 0
    assert open_serving(ws).revision.release == 1


def test_gc_of_a_retired_release_is_named_by_the_rollback_it_prevents(living: Project) -> None:
    set_params(living, keep_releases__2="keep_releases: 1")
    ws = living.workspace()
    features = {name: ws.gallery.snapshot(name).content for name in ("features/v1", "items")}
    plan = json.loads(living.fct("gc", "--json").out)
    assert plan["kept"] == [2] and plan["spaces"] == ["spaces/v1-native"] and "upgrades/tiny-v1/pairs-v1" in plan["folders"]
    assert living.fct("gc", "--yes").code == 0
    assert {name: ws.gallery.snapshot(name).content for name in features} == features
    ran = living.fct("rollback")
    assert ran.code == 3 and "dropped by `fct gc`" in ran.err
    assert (ws.upgrade_folder(1) / "report.html").exists() and (ws.upgrade_folder(1) / "verdict/verdict.json").exists()
    assert living.fct("search", str(next((living.folder / "build/data/images/validation").rglob("*.png")))).code == 0


def test_gc_keeps_a_candidate_whole(copy_waiting: Copies) -> None:
    project = copy_waiting()
    assert project.fct("gc", "--yes").code == 0
    assert project.fct("approve", "2", "--by", "ana", "--why", "fine").code == 0
    ran = project.fct("promote", "2")
    assert ran.code == 0, ran.err


def test_a_candidate_that_gc_dropped_after_its_rejection_is_said_to_be_gone_and_is_measured_again(copy_waiting: Copies) -> None:
    project = copy_waiting()
    ws, digest = project.workspace(), read_json(project.folder / "workspace/upgrades/tiny-v2/verdict/verdict.json")["digest"]
    having(project, ("reject", "2", "--by", "ana", "--why", "slow"), ("gc", "--yes"))
    entry = ws.ledger.head().number
    ws.releases.untag(2, "fct.reject")
    ws.releases.tag(2, "fct.approve", f"ana {digest}")  # as in the MLflow UI
    gone = f"what version 2 was measured with was dropped by gc (ledger entry {entry})"
    for command in (("approve", "2", "--by", "ana", "--why", "after all"), ("promote", "2"), ("promote", "2", "--dry-run")):
        ran = project.fct(*command)
        assert ran.code == 3 and gone in ran.err and "`fct upgrade 2`" in ran.err, ran.err
    said = json.loads(project.fct("status", "--fresh", "--json").out)
    assert said["versions"]["2"]["status"] == "fitted" and gone in said["ignored"]["2"]
    assert project.fct("upgrade", "2").code == 0
    having(project, ("approve", "2", "--by", "ana", "--why", "after all"), ("promote", "2"), ("status", "--verify"))


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


def living_origin(serving: Serving, one: str) -> str:
    return str(serving.columns["origin"][serving.row_of(one)])


# ---- to another engine ----------------------------------------------------------------------------------------------------


def test_an_export_and_its_deltas_give_another_engine_the_same_answers(living: Project, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    ws = living.workspace()
    collection: dict[str, np.ndarray] = {}

    def load(name: str, *args: str) -> dict[str, Any]:
        ran = living.fct("export", str(tmp_path / name), *args, "--json")
        assert ran.code == 0, ran.err
        table = pq.read_table(tmp_path / name)
        assert json.loads(table.schema.metadata[b"fct"])["entry"] == json.loads(ran.out)["entry"] == ws.ledger.head().number
        for row in table.to_pylist():
            if row["deleted"]:
                del collection[row["id"]]
            else:
                collection[row["id"]] = np.array(row["vector"], dtype=np.float32)
        return json.loads(ran.out)

    def same() -> None:
        """A loop over the other engine's rows answers as the gallery does."""
        serving = open_serving(ws)
        names = sorted(collection)
        rows = np.stack([collection[one] for one in names])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert set(names) == set(serving.searcher.ids[serving.shown].tolist())
        for one, hits in zip(queries(serving), answers(serving, queries(serving)), strict=True):
            scores = rows @ (one / np.linalg.norm(one))
            assert np.allclose(np.sort(scores)[::-1][:20], [score for _, score in hits], atol=1e-5)

    first = load("full.parquet")
    assert not first["delta"]
    same()
    pictures(tmp_path / "more", 6)
    gone = chosen(living, 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == 0
    assert living.fct("delete", *gone).code == 0
    assert living.fct("backfill", "--fraction", "0.1").code == 0
    delta = load("delta.parquet", "--since", str(first["entry"]))
    assert delta["deleted"] == 5 and 6 <= delta["rows"] < len(collection) / 2
    same()
    assert load("nothing.parquet", "--since", str(delta["entry"]))["rows"] == 0
    ran = living.fct("export", str(tmp_path / "old.parquet"), "--since", "3")  # version 1 was promoted
    assert ran.code == 2 and "another space" in ran.err and not (tmp_path / "old.parquet").exists()
    assert living.fct("export", str(tmp_path / "no.parquet"), "--release", "7").code == 2
    assert living.fct("rollback", "--without-missing").code == 0
    collection.clear()
    load("back.parquet")
    same()


@pytest.mark.slow
def test_pgvector_answers_as_the_gallery_through_promotion_rollback_and_all_that_changes(living: Project, tmp_path: Path) -> None:
    import psycopg2

    from tests.end_to_end import postgres

    ws = living.workspace()
    with postgres.served("search", packaged=True) as server:
        url = server.url.format("search")

        def rows(sql: str, *values: Any) -> list[Any]:
            connection = psycopg2.connect(url)
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute(sql, values)
                    return list(cursor.fetchall())
            finally:
                connection.close()

        def same(release: int) -> None:
            serving = open_serving(ws)
            assert rows("SELECT release FROM fct_tiny.serving") == [(release,)] and serving.revision.release == release
            assert {one for (one,) in rows("SELECT id FROM fct_tiny.items")} == set(serving.searcher.ids[serving.shown].tolist())
            asked = queries(serving)
            for query, hits in zip(asked, answers(serving, asked), strict=True):
                found = rows("SELECT id, 1 - (vector <=> %s::vector) FROM fct_tiny.items ORDER BY 2 DESC LIMIT 20", str(query.tolist()))
                assert np.allclose([score for _, score in found], [score for _, score in hits], atol=1e-5)

        def push() -> dict[str, Any]:
            ran = living.fct("export", url, "--json")
            assert ran.code == 0, ran.err
            return json.loads(ran.out)

        first = push()
        assert first["written"] == first["rows"] > 100 and first["checked"] == 32
        same(2)
        assert push()["written"] == 0, "nothing changed"
        pictures(tmp_path / "more", 6)
        gone = chosen(living, 5)
        assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("delete", *gone).code == 0
        second = push()
        assert (second["written"], second["deleted"]) == (6, 5)
        same(2)
        assert living.fct("rollback", "--without-missing").code == 0
        push()
        same(1)
        assert living.fct("promote", "2").code == 0
        assert push()["written"] == 0, "its table was kept"
        same(2)
        # a database that answers otherwise is not shown
        monkey = rows("SELECT id, digest FROM fct_tiny.release_2 LIMIT 1")[0]
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE fct_tiny.release_2 SET vector = (SELECT vector FROM fct_tiny.release_2 ORDER BY id DESC LIMIT 1)")
        connection.close()
        ran = living.fct("export", url)
        assert ran.code == 3 and "otherwise than the gallery" in ran.err, monkey
        for args in ((url, "--since", "1"), ("postgresql://nobody@127.0.0.1:1/x",)):
            ran = living.fct("export", *args)
            assert ran.code in (1, 2) and "Traceback" not in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_pgvector_indexes_many_dimensions_as_the_advice_says(metric: str) -> None:
    import psycopg2

    from registry.exports import pgvector
    from tests.end_to_end import postgres

    said = pgvector.advice(3072, "t", metric)
    assert said is not None
    create = said[said.index("CREATE INDEX") : said.index(", and ask")]
    with postgres.served("search", packaged=True) as server:
        connection = psycopg2.connect(server.url.format("search"))
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            cursor.execute("CREATE TABLE t (vector vector(3072))")
            cursor.execute("SELECT to_regtype('halfvec') IS NOT NULL")
            (known,) = cursor.fetchone() or (False,)
        with pytest.raises(psycopg2.Error, match="2000 dimensions"), connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX ON t USING hnsw (vector vector_{metric}_ops)")
        if known:
            with connection, connection.cursor() as cursor:
                cursor.execute(create)
        connection.close()
    if not known:
        pytest.skip("this pgvector is older than 0.7 and has no halfvec")


def test_an_export_that_slept_while_items_were_purged_shows_none_of_them(
    living: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as a file nor in an engine; and one whose tables a purge took while they were read says so."""
    import pyarrow.parquet as pq

    from fct.errors import OperationFailed
    from registry.exports import base, parquet, qdrant

    ws, (first, second, third) = living.workspace(), chosen(living, 3)
    write, check, read = pq.write_table, qdrant._check, ws.gallery.read_space

    def purge(one: str) -> None:
        ran = living.fct("delete", one, "--purge")
        assert ran.code == 0, ran.err

    monkeypatch.setattr(pq, "write_table", lambda *given: (write(*given), purge(first)))
    with pytest.raises(OperationFailed, match="1 items were deleted while they were exported"):
        parquet.export(ws, tmp_path / "out.parquet")
    monkeypatch.setattr(pq, "write_table", write)
    monkeypatch.setattr(qdrant, "_check", lambda *given: (check(*given), purge(second))[0])
    with pytest.raises(OperationFailed, match="1 items were deleted"):
        qdrant.push(ws, f"qdrant+file:{tmp_path / 'qdrant'}")
    monkeypatch.setattr(qdrant, "_check", check)
    monkeypatch.setattr(ws.gallery, "read_space", lambda *given, **named: (purge(third), read(*given, **named))[1])
    with pytest.raises(OperationFailed, match="has changed while it was read"):
        base.rows_of(ws)
    monkeypatch.undo()
    assert not [path for path in tmp_path.iterdir() if "parquet" in path.name]
    parquet.export(ws, tmp_path / "out.parquet")
    assert not {first, second, third} & set(pq.read_table(tmp_path / "out.parquet")["id"].to_pylist())


def test_qdrant_answers_as_the_gallery_through_promotion_rollback_and_all_that_changes(living: Project, tmp_path: Path) -> None:
    from contextlib import closing

    from qdrant_client import QdrantClient, models

    ws, folder = living.workspace(), tmp_path / "qdrant"

    def push() -> dict[str, Any]:
        ran = living.fct("export", f"qdrant+file:{folder}", "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    def same(release: int) -> None:
        serving = open_serving(ws)
        assert serving.revision.release == release
        with closing(QdrantClient(path=str(folder))) as client:
            points, _ = client.scroll("fct_tiny", limit=10_000)
            assert {one.payload["id"] for one in points} == set(serving.searcher.ids[serving.shown].tolist())
            asked = queries(serving)
            for query, hits in zip(asked, answers(serving, asked), strict=True):
                exact = models.SearchParams(exact=True)
                found = client.query_points("fct_tiny", query=query.tolist(), limit=20, search_params=exact).points
                assert np.allclose([one.score for one in found], [score for _, score in hits], atol=1e-5)

    first = push()
    assert first["written"] == first["rows"] > 100 and first["checked"] == 32
    same(2)
    pictures(tmp_path / "more", 6)
    gone = chosen(living, 5)
    assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("delete", *gone).code == 0
    second = push()
    assert (second["written"], second["deleted"]) == (6, 5)
    same(2)
    assert living.fct("rollback", "--without-missing").code == 0
    push()
    same(1)
    assert living.fct("promote", "2").code == 0
    assert push()["written"] == 0, "its collection was kept"
    same(2)
    for args in (("qdrant+http://127.0.0.1:1",), ("mysql://x/y",), (f"qdrant+file:{folder}", "--since", "1")):
        ran = living.fct("export", *args)
        assert ran.code in (1, 2) and "Traceback" not in ran.err


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


@pytest.fixture(scope="module")
def third(promoted: Project) -> Project:
    """The promoted project with a third release, trained from another seed, to be registered."""
    path = promoted.folder / "params.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("\nseed: 0", "\nseed: 1"), encoding="utf-8")
    assert "\nseed: 1" in path.read_text(encoding="utf-8")
    ran = promoted.fct("train", "v2", "--out", "build/releases/v3")
    path.write_text(before, encoding="utf-8")
    assert ran.code == 0, ran.err
    return promoted


@pytest.mark.slow
def test_version_3_takes_every_item_straight_from_what_embedded_it(third: Project, living: Project, tmp_path: Path) -> None:
    ws = living.workspace()
    pictures(tmp_path / "more", 12)
    assert living.fct("ingest", str(tmp_path / "more")).code == living.fct("backfill", "--fraction", "0.2").code == 0
    natives = dict(zip(*(ws.gallery.items()[name] for name in ("id", "native_version")), strict=True))
    assert set(natives.values()) == {1, 2}
    assert living.fct("register", "build/releases/v3").code == 0
    ran = living.fct("upgrade", "3")
    assert ran.code == 0, ran.err
    verdict = json.loads((ws.upgrade_folder(3) / "verdict/verdict.json").read_text(encoding="utf-8"))
    assert sorted(verdict["covers"]["forward"]) == ["1", "2"] and verdict["from"] == 2
    judged = {gate["subject"] for gate in verdict["gates"] if gate["gate"] == "recovered"}
    assert judged == {f"known ρ {name} {what}" for name in ("top-1", "mAP") for what in ("v1→v3", "v2→v3", "mix")}
    three = {name: verdict["metrics"][name]["known"]["nh"]["mAP"]["value"] for name in ("v1→v3", "v2→v3", "mix")}
    assert (
        three["v1→v3"] != three["mix"] != three["v2→v3"]
        and verdict["metrics"]["mix"]["known"]["nn"] == verdict["metrics"]["v1→v3"]["known"]["nn"]
    )
    space = ws.gallery.read_space(verdict["covers"]["space"])
    assert dict(zip(space.ids.tolist(), space.origin.tolist(), strict=True)) == {one: f"forward {m}→3" for one, m in natives.items()}


@pytest.mark.slow
def test_after_a_whole_backfill_and_a_rollback_the_next_version_finds_its_way(third: Project, living: Project) -> None:
    """All items are native to version 2, the canaries to 1, and 1 serves."""
    ws = living.workspace()
    assert living.fct("backfill", "--fraction", "1").code == 0
    assert (open_serving(ws).columns["origin"][open_serving(ws).shown] == "backfilled").all()
    assert living.fct("rollback", "--by", "ana").code == 0
    assert living.fct("register", "build/releases/v3").code == 0
    ran = living.fct("upgrade", "3")
    assert ran.code == 0, ran.err
    verdict = json.loads((ws.upgrade_folder(3) / "verdict/verdict.json").read_text(encoding="utf-8"))
    assert sorted(verdict["covers"]["forward"]) == ["1", "2"] and verdict["from"] == 1
    assert living.fct("gc", "--yes").code == 0, "version 2 stays: it may be promoted again"
    assert living.fct("promote", "2").code == 0
