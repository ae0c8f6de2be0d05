"""Without MLflow, and with a ledger that lost its newest entries: what was deleted stays deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from registry.items import traces
from registry.live import Live
from tests.end_to_end.conftest import Project
from tests.end_to_end.lives import chosen, sound


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
    assert ran.code == 2 and "no lost entry" in ran.err
    sound(living)
