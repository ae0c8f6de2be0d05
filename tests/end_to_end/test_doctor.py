"""``fct doctor`` finds what is planted in a live workspace, says what to do, and is content again afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Project
from tests.end_to_end.team import set_services
from tests.end_to_end.test_life import altered, flipped
from tests.ports import free_ports


def wrong(project: Project) -> dict[str, str]:
    """Check → what it said, of those that are wrong; the exit code agrees."""
    ran = project.fct("doctor", "--json")
    found = {one["check"]: f"{one['said']} → {one['todo']}" for one in json.loads(ran.out)["checks"] if one["outcome"] == "wrong"}
    assert ran.code == (1 if found else 0) and "Traceback" not in ran.err
    return found


@pytest.fixture(scope="module", autouse=True)
def own_ports(candidate: Project):
    """Whatever else runs on this machine."""
    path = candidate.folder / "params.yaml"
    before = path.read_text(encoding="utf-8")
    set_services(candidate.folder, **dict(zip(("mlflow_port", "prefect_port", "receiver_port"), free_ports(3), strict=True)))
    yield
    path.write_text(before, encoding="utf-8")


@pytest.fixture(autouse=True)
def healthy(candidate: Project):
    assert wrong(candidate) == {}
    yield
    assert wrong(candidate) == {}, "doctor changes nothing, and neither did the test"


def test_an_alias_that_was_moved(candidate: Project) -> None:
    candidate.workspace().releases.follow(2)
    found = wrong(candidate)
    assert found.keys() == {"champion"} and "points at 2, the ledger serves 1" in found["champion"] and "reconcile" in found["champion"]
    candidate.workspace().releases.follow(1)


def test_a_table_of_another_embedder(candidate: Project) -> None:
    gallery = candidate.workspace().gallery
    gallery.create_space("spaces/v2-0123456789ab", 16, "f" * 64, {})
    try:
        found = wrong(candidate)
        assert found.keys() == {"gallery"} and "spaces/v2-0123456789ab" in found["gallery"] and "ffffffffffff" in found["gallery"]
    finally:
        gallery.drop_space("spaces/v2-0123456789ab")


@pytest.mark.parametrize("how", ["altered", "deleted"])
def test_a_file_of_what_serves(candidate: Project, how: str) -> None:
    serving = candidate.workspace().ledger.serving()
    path: Path = next((candidate.workspace().gallery.table_path(serving["space"]) / "data").iterdir())
    with altered(path, flipped(path) if how == "altered" else None):
        assert wrong(candidate).keys() == {"gallery"}


def test_a_decision_that_does_not_count_is_pointed_out_and_is_no_fault(candidate: Project) -> None:
    releases = candidate.workspace().releases
    releases.tag(2, "fct.approve", "nonsense")
    try:
        ran = candidate.fct("doctor")
        assert ran.code == 0 and "! champion" in ran.out and "nonsense" in ran.out
    finally:
        releases.untag(2, "fct.approve")


def test_a_model_that_lacks_our_tag(candidate: Project) -> None:
    client, releases = candidate.workspace().releases.client, candidate.workspace().releases
    uri = dict(client.get_registered_model("tiny").tags)["fct.gallery"]
    client.delete_registered_model_tag("tiny", "fct.gallery")
    try:
        assert "fct.gallery" in wrong(candidate)["registry"]
        assert candidate.fct("reconcile", "--once").code == 0, "nothing starts on a model that is not ours"
    finally:
        client.set_registered_model_tag("tiny", "fct.gallery", uri)
    assert releases.is_ours()
