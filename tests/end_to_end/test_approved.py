"""What people approve is what a promotion uses: every file that it opens, changed by one byte, stops it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fct.arrays.files import read_json, write_json
from fct.errors import FctError, NotPermitted
from registry.decisions import promotion
from registry.workspace import Workspace
from tests.end_to_end.conftest import Copies, Project, having
from tests.end_to_end.test_life import altered, flipped

pytestmark = pytest.mark.slow
# not part of what is approved: who works, what MLflow said last, its own database (tags are compared with the ledger), where files of a release
# are on this machine (which are compared with its digest); nor head.json, the highest ledger entry that was seen
APART = ("releases", "locks", "seen", "look.json", "mlflow.db", "services", "prefect", "cache")
_opened: list[str] = []
_watching = False


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _watching and event == "open" and isinstance(given[0], str) and isinstance(given[1], str) and "r" in given[1]:
        _opened.append(given[0])


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[None]:
    global _watching
    _opened.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False


def read_below(folder: Path) -> list[Path]:
    found = {Path(path).absolute() for path in _opened}
    inside = sorted(path for path in found if path.is_relative_to(folder) and path.is_file())
    return [path for path in inside if path.relative_to(folder).parts[0] not in APART and path.name != "head.json"]


@pytest.fixture(scope="module")
def approved(copy_waiting: Copies) -> Project:
    return having(copy_waiting(), ("approve", "2", "--by", "ana", "--why", "fine"))


def workspace_of(project: Project) -> Workspace:
    return project.workspace()  # type: ignore[no-any-return]


def test_every_file_that_a_promotion_opens_is_one_that_was_approved(approved: Project) -> None:
    folder = approved.folder / "workspace"
    with watched():
        promotion.foresee(workspace_of(approved), 2)
    files = read_below(folder)
    names = {path.relative_to(folder).as_posix() for path in files}
    wanted = ("revision.json", "candidate.json", "verdict/verdict.json", "verdict/canaries.json", "h-v1/manifest.json", "report.html")
    assert names >= {f"upgrades/tiny-v2/{name}" for name in wanted}, sorted(names)
    accepted = []
    for path in files:
        with altered(path, flipped(path)):
            try:
                promotion.foresee(workspace_of(approved), 2)
                accepted.append(path.relative_to(folder).as_posix())
            except FctError as error:
                if error.exit_code != NotPermitted.exit_code:
                    accepted.append(f"{path.relative_to(folder).as_posix()}: {error.exit_code} {error}")
    assert not accepted, "\n".join(accepted)
    promotion.foresee(workspace_of(approved), 2)


def test_the_canaries_files_are_read_by_the_promotion_itself_and_covered(approved: Project) -> None:
    folder = approved.folder / "workspace/upgrades/tiny-v2"
    for path in (*sorted((folder / "pairs-v1/canaries").glob("*.npy")), folder / "verdict/canaries.json"):
        with altered(path, flipped(path)), pytest.raises(NotPermitted):
            promotion.promote(workspace_of(approved), 2)
    promise = folder / "verdict/canaries.json"
    lower = promise.read_bytes().replace(b'"rate": 1.0', b'"rate": 0.1')
    with altered(promise, lower), pytest.raises(NotPermitted, match="canaries"):
        promotion.promote(workspace_of(approved), 2)
    run = read_json(folder / "candidate.json")["run_id"]
    page = workspace_of(approved).releases.candidate_file(run, "report.html")
    with altered(page, flipped(page)), pytest.raises(NotPermitted, match=r"report\.html"):
        promotion.promote(workspace_of(approved), 2)


def test_a_fault_of_ours_in_a_promotion_is_called_nobodys_alteration(approved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise TypeError("ours")

    with monkeypatch.context() as broken:
        broken.setattr(promotion, "carry", fails)
        with pytest.raises(TypeError, match="ours"):
            promotion.promote(workspace_of(approved), 2)
        ran = approved.fct("promote", "2", "--json")
    assert ran.code == 1 and json.loads(ran.out)["error"]["code"] == "unexpected" and "altered" not in ran.err
    promotion.foresee(workspace_of(approved), 2)


def test_a_candidate_that_earlier_code_published_is_approved_and_promoted_as_before(copy_waiting: Copies) -> None:
    project = copy_waiting()
    path = project.folder / "workspace/upgrades/tiny-v2/candidate.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != "files"})
    having(project, ("approve", "2", "--by", "ana", "--why", "fine"), ("promote", "2"))
    assert workspace_of(project).ledger.serving()["release"] == 2


def test_after_a_purge_rollback_and_second_promotion_work(approved: Project) -> None:
    having(approved, ("promote", "2"))
    workspace = workspace_of(approved)
    page = workspace.upgrade_folder(2) / "report.html"
    before = page.read_bytes()
    named = [one for one in workspace.gallery.item_ids(role="item").tolist() if f">{one}<".encode() in before]
    assert named, "the report names the least certain items"
    ran = approved.command("delete", *named[:2], "--purge")  # a process of its own: MLflow remembers where a run of this id was
    assert ran.code == 0, ran.err
    having(approved, ("rollback", "--by", "ana", "--why", "a test"))
    assert page.read_bytes() != before
    with altered(page, page.read_bytes() + b" "), pytest.raises(NotPermitted, match=r"report\.html"):
        promotion.promote(workspace, 2)  # only what was approved and what the purge's entry names
    having(approved, ("promote", "2"))
    assert workspace.ledger.serving()["release"] == 2
