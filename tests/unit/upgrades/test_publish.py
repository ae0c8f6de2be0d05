"""What an upgrade puts before people: from its files into a run, a description, an h with a card, and the list of what an approval covers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct.arrays import digests
from fct.arrays.files import read_json, write_json
from fct.sample import evaluation
from fct.sample.folder import PairsFolder, Sample
from registry import report
from registry.mlflow.store import STATUS_TAG
from registry.upgrade_files import CANDIDATE, COSTS, ITEMS, PROMISE, REPORT, REVISION, TRANSFORM, VERDICT
from registry.upgrades.publish import approved_files, card, costs_of, flat_metrics, publish, review_of
from registry.upgrades.upgrade import Upgrade
from registry.verdicts.measurement import Measurement
from registry.workspace import Workspace
from tests import by_hand, waiting
from tests.gates_sample import further
from tests.no_mlflow import NoMlflow
from tests.waiting import IDS, copied

GATES = [
    Measurement("known top-1", 0.12, 0.08, 0.16, 400, 0.0, strict=True, outcome="passed", gate="worth_it").to_json(),
    Measurement("known ρ top-1", 0.93, 0.85, 1.0, 400, 0.75, outcome="passed", gate="recovered").to_json(),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Version 2 is judged, and nothing of it is in MLflow."""
    workspace = waiting.waiting(tmp_path_factory.mktemp("made"))
    upgrade = Upgrade(workspace, 2)
    old = by_hand.rows(60, 4)
    labels, ids = np.array([f"class {row % 6}" for row in range(60)]), np.array([f"s{row:02}" for row in range(60)])
    populations = np.where(np.arange(60) % 6 < 4, "known", "unseen")
    sample = Sample(ids, labels, ids, populations, old, np.ones((60, 4), np.int8), waiting.turned(old))
    PairsFolder(upgrade.pairs_folder(1)).save_sample(sample, sample.side)
    carried, target = upgrade.forwards()[1].transform(old)[0], upgrade.step("evaluation-v1")
    metrics = evaluation.write(sample, carried, "cosine", target, seed=0, further=further)
    write_json(upgrade.folder / TRANSFORM, {"rows": 48, "changed": 40, "seconds": 0.5, "space": upgrade.space})
    np.savez(upgrade.folder / ITEMS, ids=np.array(IDS), sigma=np.linspace(0.1, 1, len(IDS)), far=np.arange(len(IDS)) < 3)
    covers = read_json(upgrade.folder / VERDICT)["covers"]
    waiting.reached(workspace, 2, metrics=metrics, gates=GATES, covers=covers)
    for name in (CANDIDATE, REPORT):
        (upgrade.folder / name).unlink()
    door = door_of(workspace)
    for _, place in door.runs.values():
        shutil.rmtree(place)
    door.runs.clear()
    door.untag(2, STATUS_TAG)
    return workspace


@pytest.fixture
def upgrade(made: Workspace, tmp_path: Path) -> Upgrade:
    return Upgrade(copied(made, tmp_path), 2)


@pytest.fixture(scope="module")
def made_published(made: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = copied(made, tmp_path_factory.mktemp("published"))
    publish(Upgrade(workspace, 2), 7)
    return workspace


@pytest.fixture
def published(made_published: Workspace, tmp_path: Path) -> Upgrade:
    return Upgrade(copied(made_published, tmp_path), 2)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without pictures, where nobody reads it."""
    monkeypatch.setattr(report, "html", lambda review: f"<p>{review.verdict['digest']}</p>")


def door_of(workspace: Workspace) -> NoMlflow:
    door = workspace.releases
    assert isinstance(door, NoMlflow)
    return door


def test_everything_is_in_one_run_with_the_words_and_the_name_of_the_version(published: Upgrade) -> None:
    upgrade, door = published, door_of(published.workspace)
    found, verdict = read_json(upgrade.folder / CANDIDATE), read_json(upgrade.folder / VERDICT)
    (run,) = door.candidate_runs(2)
    assert found["run_id"] == run and found["verdict"] == verdict["digest"] and found["forwards"] == {"v1": 1}
    for name in (VERDICT, REPORT, COSTS, PROMISE):
        assert digests.of_file(door.candidate_file(run, Path(name).name)) == digests.of_file(upgrade.folder / name)
    page, words = (upgrade.folder / REPORT).read_text(encoding="utf-8"), door.version(2).description
    for text in (page, words):
        assert f"&lt;your name&gt; {verdict['digest']}" in text or f"<your name> {verdict['digest']}" in text
    assert door.artifact_page(run, REPORT) in words
    assert door.version(2).tags[STATUS_TAG] == "passed" and read_json(upgrade.folder / COSTS)["gallery_images_read"] == 7
    (digest, about) = door.forwards[0]
    assert digest == upgrade.forwards()[1].digest and about.startswith("# h: version 1 to version 2\n")


@pytest.mark.usefixtures("short")
def test_run_again_it_publishes_nothing_and_after_another_verdict_everything(published: Upgrade) -> None:
    door, first = door_of(published.workspace), read_json(published.folder / CANDIDATE)
    door.untag(2, STATUS_TAG)
    assert publish(published, 0) == first and len(door.runs) == 1 and door.version(2).tags[STATUS_TAG] == "passed"
    (published.folder / REPORT).write_text("another page", encoding="utf-8")
    assert publish(published, 0) == first, "the report is no input of it"
    verdict = read_json(published.folder / VERDICT)
    waiting.reached(published.workspace, 2, outcome="refused", problems=["worse"], metrics=verdict["metrics"], gates=verdict["gates"])
    before = set(door.candidate_runs(2))
    second = publish(published, 0)
    assert {second["run_id"]} == set(door.candidate_runs(2)) - before and second["verdict"] != first["verdict"]
    assert door.version(2).tags[STATUS_TAG] == "refused" and second["forwards"] == first["forwards"], "the same h is the same version"


@pytest.mark.usefixtures("short")
def test_one_that_was_killed_before_its_last_file_publishes_again(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: NoMlflow, *more: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(NoMlflow, "publish_forward", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(upgrade, 0)
    assert not (upgrade.folder / CANDIDATE).exists() and STATUS_TAG not in door_of(upgrade.workspace).version(2).tags
    monkeypatch.undo()
    assert publish(upgrade, 0)["run_id"] == "candidate-2"


def test_an_approval_covers_every_file_but_the_list_itself(published: Upgrade) -> None:
    upgrade, found = published, read_json(published.folder / CANDIDATE)["files"]
    assert found == approved_files(upgrade) and CANDIDATE not in found
    assert {VERDICT, PROMISE, REVISION, REPORT, "pairs-v1/canaries/new.npy", "evaluation-v1/per_query.npz"} <= set(found)
    assert {name for name in found if name.startswith("h-v1/")} == {
        path.relative_to(upgrade.folder).as_posix() for path in upgrade.forward_folder(1).rglob("*") if path.is_file()
    }
    for name in found:
        path = upgrade.folder / name
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        now = approved_files(upgrade)
        assert {one for one in now if now[one] != found[one]} == {name}
        path.write_bytes(before)


def test_the_review_is_of_the_upgrades_own_files(upgrade: Upgrade) -> None:
    (upgrade.workspace.data).mkdir(parents=True)
    review = review_of(upgrade, {"fit_s": 1.0})
    assert review.gallery_ids.tolist() == IDS and review.far is not None and review.far.sum() == 3
    assert review.sample is not None and review.carried is not None and review.carried.shape == (60, by_hand.DIM)
    assert review.served is None, "what serves is the native version itself"
    assert review.provenance["champion"] == "version 1" and review.provenance["space"] == upgrade.space
    assert review.provenance["h v1 to v2"] == upgrade.forwards()[1].digest
    assert review.image_of("s00") is None and review.costs == {"fit_s": 1.0}
    predicts = bool(upgrade.forwards()[1].about.get("settings", {}).get("uncertainty"))
    assert (review.sigma is not None) == predicts


def test_costs_are_of_this_run_and_a_row(upgrade: Upgrade) -> None:
    costs = costs_of(upgrade, 5)
    seconds = read_json(upgrade.forward_folder(1) / "manifest.json")["seconds"]
    wanted = {"gallery_rows": 48, "gallery_images_read": 5, "fit_s": seconds, "transform_us_per_item": 12500.0, "side_bytes_per_item": 4}
    assert costs == wanted
    write_json(upgrade.folder / TRANSFORM, {"rows": 0, "changed": 0, "seconds": 0.0})
    assert costs_of(upgrade, 0)["transform_us_per_item"] == 0, "nothing to divide by"


def test_the_card_names_what_was_compared_and_marks_up_nothing_from_outside(upgrade: Upgrade) -> None:
    path = upgrade.forward_folder(1) / "manifest.json"
    row = {"method": "ridge", "top1": 0.5, "mAP": 0.25, "cosine": 0.75, "seconds": 1.25}
    lead = {"metric": "mAP", "value": -0.1, "lower": -0.2, "upper": 0.0, "n": 9}
    validation = {"chosen": "ridge", "held_out": 9, "mean_cosine": 0.5, "reason": "<b>it</b> is best"}
    rows = [row | {"difference_to_chosen": lead}, row | {"method": "none", "difference_to_chosen": lead}]
    said = read_json(path)
    write_json(path, said | {"inputs_missing": ["no <i>labels</i>"], "validation": validation | {"candidates": rows}})
    text = card(upgrade, 1)
    assert "| on 9 held-out rows | top1 | mAP | cosine | minus the chosen one | seconds |\n|---|---|---|---|---|---|\n" in text
    assert "| **ridge** | 0.500 | 0.250 | 0.750 |  | 1.2 |" in text and "| none | 0.500 | 0.250 | 0.750 | " in text
    assert "<b>" not in text and "<i>" not in text and "mean cosine with native vectors on held-out sources: 0.5\n" in text
    write_json(path, {key: value for key, value in said.items() if key not in ("validation", "inputs_missing")})
    text = card(upgrade, 1)
    assert "held-out sources: not measured\n" in text and "|---" not in text and "**passed**" in text


def test_numbers_have_plain_names_in_mlflow() -> None:
    gates = [*GATES, GATES[0] | {"value": None, "subject": "never measured"}, GATES[0] | {"gate": "coverage", "subject": "items of v1→v2"}]
    metrics = {"v1→v2": {"known": {"nh": {"top1": {"value": 0.5, "n": 4}, "mAP": {"value": None}}}}}
    assert flat_metrics({"metrics": metrics, "gates": gates}) == {
        "v1-v2.known.nh.top1": 0.5,
        "gate.worth_it.known top-1": 0.12,
        "gate.recovered.known rho top-1": 0.93,
        "gate.coverage.items of v1-v2": 0.12,
    }


@pytest.mark.usefixtures("short")
def test_a_first_release_has_no_h_and_nothing_to_compare(made: Workspace, tmp_path: Path) -> None:
    workspace = copied(made, tmp_path)
    upgrade = Upgrade(workspace, 1)
    write_json(upgrade.folder / TRANSFORM, {"rows": 48, "changed": 0, "seconds": 0.0})
    (upgrade.folder / ITEMS).parent.mkdir(parents=True)
    np.savez(upgrade.folder / ITEMS, ids=np.array(IDS), sigma=np.full(len(IDS), np.nan), far=np.zeros(len(IDS), dtype=bool))
    write_json(upgrade.folder / PROMISE, {})
    upgrade.__dict__["champion"] = None
    names = list[str]()
    door, keep = door_of(workspace), NoMlflow.publish_candidate

    def named(number: int, files: dict[str, Path], metrics: dict[str, float], run_name: str) -> str:
        names.append(run_name)
        return keep(door, number, files, metrics, run_name)

    door.__dict__["publish_candidate"] = named
    verdict = read_json(Upgrade(workspace, 2).folder / VERDICT)
    write_json(upgrade.folder / VERDICT, verdict | {"version": 1, "from": None, "metrics": {}, "gates": []})
    assert publish(upgrade, 0)["forwards"] == {} and names == ["tiny: v1, first release"]
