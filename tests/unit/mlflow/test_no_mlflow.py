"""The stand-in for MLflow's door answers what the real one answers, call by call, on a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.mlflow import seen
from registry.mlflow.releases import Releases
from registry.mlflow.store import DESCRIPTION_LIMIT, NOTE_TAG
from tests.by_hand import release_of
from tests.no_mlflow import NoMlflow


def asked(door: Releases, folder: Path) -> list[Any]:
    """What a door answers to one sequence of calls; an error by nothing but that it is one."""
    said: list[Any] = []

    def ask(call: Callable[[], Any]) -> None:
        try:
            said.append(call())
        except Exception:
            said.append("refused")

    def look() -> None:
        said.append([(one.number, one.tags, one.description) for one in door.versions()])
        said.extend((door.champion(), door.head_tag(), door.is_ours()))

    look()
    for number in (1, 2):
        release = release_of(folder / f"v{number}", number)
        said.append(door.would_become(release.folder))
        said.append(door.register(release.folder, "file:///gallery"))
        said.append(door.register(release.folder, "file:///gallery"))
        said.append(door.release(number).digest() == release.digest())
        said.append(sorted(path.name for path in door.folder_of(number).iterdir()))
        said.append(door.contract_problems(number))
    look()
    door.tag(2, NOTE_TAG, "one")
    door.tag(2, NOTE_TAG, "two")
    door.mark(1, "passed", "a" * 64)
    door.describe(1, "words")
    door.describe(1, "other words")
    door.follow(1)
    door.follow(2)
    door.set_head_tag("1 b c")
    door.set_head_tag("2 b c")
    look()
    door.untag(2, NOTE_TAG)
    door.untag(2, NOTE_TAG)
    look()
    for number in (0, 3):
        ask(lambda number=number: door.version(number))
        ask(lambda number=number: door.tag(number, "a", "b"))
        ask(lambda number=number: door.untag(number, "a"))
        ask(lambda number=number: door.mark(number, "passed"))
        ask(lambda number=number: door.describe(number, "words"))
        ask(lambda number=number: door.follow(number))
        ask(lambda number=number: door.folder_of(number))
        ask(lambda number=number: door.release(number))
    ask(lambda: door.describe(1, "x" * (DESCRIPTION_LIMIT + 1)))
    look()
    said.append(door.candidate_runs(2))
    report = folder / "report.html"
    runs = []
    for words in ("first", "second"):
        report.write_text(words, encoding="utf-8")
        runs.append(door.publish_candidate(2, {"report": report}, {"gate": 1.0}, "v1 → v2"))
    report.write_text("third", encoding="utf-8")
    door.replace_candidate_file(runs[0], report)
    said.append([door.candidate_file(run, "report.html").read_text(encoding="utf-8") for run in runs])
    said.append(door.candidate_file(runs[0], "missing").exists())
    ask(lambda: door.candidate_file("nobody's", "report.html"))
    said.extend((sorted(door.candidate_runs(2)) == sorted(runs), door.candidate_runs(1)))
    told = seen.ask(door)
    said.append(([(one.number, one.tags) for one in told.versions], told.champion, told.head))
    said.append(door.page_of(1))
    pages = [door.artifact_page(run, "report.html") for run in runs]
    said.append([page.replace(run, "RUN") for run, page in zip(runs, pages, strict=True)])
    said.append([door.publish_forward(report.parent, digest, 1, 2, "a card") for digest in ("d1", "d2", "d1")])
    return said


def test_the_stand_in_answers_as_mlflow_does(tmp_path: Path) -> None:
    real = Releases(f"sqlite:///{tmp_path / 'mlflow.db'}", "tiny", tmp_path / "real")
    stand_in = NoMlflow(f"sqlite:///{tmp_path / 'nothing.db'}", "tiny", tmp_path / "stand-in")
    found, wanted = asked(stand_in, tmp_path / "a"), asked(real, tmp_path / "b")
    assert found == wanted
    assert wanted.count("refused") >= 15 and not (tmp_path / "nothing.db").exists()
