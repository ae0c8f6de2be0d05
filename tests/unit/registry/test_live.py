"""A candidate beside what serves, on a real gallery: through a bridge before it has one of its own, and then on its own."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from fct.arrays.files import write_json
from fct.errors import BadInput
from fct.release.folder import Release
from fct.sample.folder import PairsFolder
from registry import live as module
from registry.decisions.decisions import reject
from registry.items.deletion import delete
from registry.live import CANDIDATE_S, NO_CANDIDATE, Live, ask_candidate, describe, fit_bridge, open_candidate
from registry.steps import marker
from registry.upgrade_files import REVISION, VERDICT
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import embedding
from tests.by_hand import rows
from tests.waiting import IDS, copied, reached


@pytest.fixture(scope="module")
def made(untrained: Release, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return embedding.made(tmp_path_factory.mktemp("made"), untrained)


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Version 1 serves, adopted; version 2 has a program and waits, passed. Its program runs here: the sealed process has tests of its own."""
    monkeypatch.setattr(Workspace, "has_served", lambda self, digest: True)
    return copied(made, tmp_path)


def pairs(workspace: Workspace, version: int, native: int, new: np.ndarray, old: np.ndarray) -> None:
    """What the step *embed* leaves of an upgrade."""
    folder = PairsFolder(Upgrade(workspace, version).pairs_folder(native))
    folder.save("fitting", new=new, old=old, psi=np.ones((len(old), 4), np.int8))
    marker(folder.root).write_text("{}", encoding="utf-8")


def unfinished(workspace: Workspace) -> None:
    """The upgrade to version 2 has pairs and no verdict yet."""
    (Upgrade(workspace, 2).folder / VERDICT).unlink()
    old = rows(200, 11)
    pairs(workspace, 2, 1, embedding.new_of(old), old)


def opened(workspace: Workspace) -> Live:
    live = Live(workspace, candidate=True)
    assert live.look() and live.now is not None
    return live


def nearest(answers: list[list[module.Hit]]) -> list[str]:
    return [hits[0].id for hits in answers]


def images(count: int) -> np.ndarray:
    """Of the first items."""
    return embedding.images_of(embedding.new_of(rows(len(IDS), 1))[:count])


def test_a_candidate_that_passed_answers_on_its_own_gallery(workspace: Workspace) -> None:
    live = opened(workspace)
    assert live.lacking == NO_CANDIDATE and describe(live)["candidate"] is None and describe(live)["no_candidate"] == NO_CANDIDATE
    live.compare()
    assert live.lacking == "" and describe(live)["candidate"] == {"release": 2, "through": "its own gallery"}
    found = live.now.candidate if live.now is not None else None
    assert live.now is not None and found is not None and found.own is not None
    assert found.own.revision.space == Upgrade(workspace, 2).space and found.bridge is None
    answers = ask_candidate(live.now, found, images(20), 3)
    assert len(answers) == 20 and all(len(hits) == 3 for hits in answers)
    assert sum(one == wanted for one, wanted in zip(nearest(answers), IDS, strict=False)) >= 10, "h is rough where vectors are long"


def test_before_it_has_a_gallery_it_is_asked_through_a_bridge_on_the_one_that_serves(workspace: Workspace) -> None:
    unfinished(workspace)
    live = opened(workspace)
    live.compare()
    assert describe(live)["candidate"] == {"release": 2, "through": "a bridge"}
    found = live.now.candidate if live.now is not None else None
    assert live.now is not None and found is not None and found.own is None
    answers = ask_candidate(
        live.now, found, images(20), 1, where={"label": sorted(set(embedding.labels_of(embedding.new_of(rows(40, 1)))))}
    )
    assert sum(one == wanted for one, wanted in zip(nearest(answers), IDS, strict=False)) >= 10
    assert {hits[0].origin for hits in answers} == {"native"}, "rows of what serves"
    again = open_candidate(workspace, live.now)
    assert again is found, "it is fitted once"


def test_a_bridge_leads_from_the_new_space_to_the_one_that_serves(workspace: Workspace) -> None:
    unfinished(workspace)
    now = opened(workspace).now
    assert now is not None
    bridge = fit_bridge(workspace, 2, now.serving)
    assert bridge is not None
    old = rows(50, 12)
    new = np.roll(old, 3, axis=1)
    back = bridge.apply(new)
    cosine = (back * old).sum(axis=1) / np.linalg.norm(back, axis=1) / np.linalg.norm(old, axis=1)
    assert cosine.mean() > 0.95 and np.abs((new * old).sum(axis=1) / np.linalg.norm(old, axis=1) ** 2).mean() < 0.7


def test_without_finished_pairs_there_is_no_bridge(workspace: Workspace) -> None:
    unfinished(workspace)
    live = opened(workspace)
    marker(Upgrade(workspace, 2).pairs_folder(1)).unlink()
    assert live.now is not None and fit_bridge(workspace, 2, live.now.serving) is None
    live.compare()
    assert live.lacking == NO_CANDIDATE and live.now.candidate is None


def test_of_many_pairs_some_are_drawn_alike_each_time(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished(workspace)
    now = opened(workspace).now
    assert now is not None
    seen, fitted = list[int](), module.forward.bridge
    monkeypatch.setattr(module.forward, "bridge", lambda new, old: seen.append(len(new)) or fitted(new, old))
    monkeypatch.setattr(module, "PAIRS", 150)
    first, second = (fit_bridge(workspace, 2, now.serving) for _ in range(2))
    assert seen == [150, 150] and first is not None and second is not None
    assert np.array_equal(first.apply(rows(5, 1)), second.apply(rows(5, 1)))


def test_where_what_serves_was_carried_over_the_bridge_leads_to_the_carried_space(workspace: Workspace) -> None:
    embedding.serving(workspace)
    old, later = rows(300, 13), np.roll(np.diag(np.float32([1, -1] * 4)), 2, axis=0)
    pairs(workspace, 3, 1, old @ later, old)
    now = opened(workspace).now
    assert now is not None and now.serving.revision.release == 2
    bridge = fit_bridge(workspace, 3, now.serving)
    assert bridge is not None
    asked = rows(50, 14)
    back, wanted = bridge.apply(asked @ later), Upgrade(workspace, 2).forwards([1])[1].transform(asked)[0]
    cosine = (back * wanted).sum(axis=1) / np.linalg.norm(back, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosine.min() > 0.95
    assert nearest(now.serving.search_vectors(bridge.apply(rows(40, 1)[:10] @ later), 1)) == IDS[:10]


def test_a_bridge_does_not_outlive_the_gallery_that_it_leads_to(workspace: Workspace) -> None:
    unfinished(workspace)
    live = opened(workspace)
    live.compare()
    delete(workspace, ["i03"], by="ana")
    assert live.look() and live.now is not None and live.now.candidate is None
    live._looked = 0.0
    live.compare()
    assert describe(live)["candidate"] == {"release": 2, "through": "a bridge"}


def test_a_candidates_own_gallery_goes_on_without_what_was_deleted(workspace: Workspace) -> None:
    live = opened(workspace)
    live.compare()
    delete(workspace, ["i03"], by="ana")
    assert live.look() and live.now is not None and live.now.candidate is not None
    live._looked = 0.0
    live.compare()
    found = live.now.candidate
    assert found is not None and found.own is not None
    assert set(found.own.columns["id"][found.own.shown].tolist()) == {*IDS} - {"i03"}
    with pytest.raises(BadInput):
        found.own.row_of("i03")


def test_who_waits_no_more_is_no_candidate(workspace: Workspace) -> None:
    live = opened(workspace)
    live.compare()
    reject(workspace, 2, by="ana", why="too slow")
    live._looked = 0.0
    live.compare()
    assert live.now is not None and live.now.candidate is None and live.lacking == NO_CANDIDATE


def test_one_that_was_measured_against_another_champion_has_no_gallery_yet(workspace: Workspace) -> None:
    reached(workspace, 2, **{"from": 7})
    live = opened(workspace)
    assert live.now is not None and open_candidate(workspace, live.now) is None


def test_a_candidate_that_cannot_be_asked_stops_nothing_and_is_tried_later(workspace: Workspace) -> None:
    write_json(Upgrade(workspace, 2).folder / REVISION, {"half": "a file"})
    live = opened(workspace)
    before = time.monotonic()
    live.compare()
    assert live.now is not None and live.now.candidate is None and live.lacking.startswith("the candidate cannot be asked: ")
    assert live._looked > before + CANDIDATE_S and not live.problem


def test_nobody_looks_for_a_candidate_who_was_not_asked_to(workspace: Workspace) -> None:
    live = Live(workspace)
    assert live.look()
    live.compare()
    assert live.now is not None and live.now.candidate is None and "without --candidate" in live.lacking
    live = Live(workspace, candidate=True)
    live.compare()
    assert live.now is None
    assert describe(live) == {"ready": False, "head": 0, "behind": True, "problem": "nothing was opened yet"}


def test_between_two_looks_nothing_is_asked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    live = opened(workspace)
    live.compare()
    asked = list[int]()
    monkeypatch.setattr(module, "open_candidate", lambda *arguments: asked.append(1))
    live.compare()
    assert asked == [] and live.now is not None and live.now.candidate is not None
