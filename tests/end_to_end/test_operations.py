"""What a team runs: servers, webhooks, approval in a browser. All real, on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fct.arrays.files import read_json
from flows import passwords, services
from registry import running
from registry.versions import look
from tests.end_to_end import browser
from tests.end_to_end.conftest import PATIENCE_S, Copies
from tests.end_to_end.team import Team, a_team, the_whole_life

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def team(copy_serving: Copies) -> Iterator[Team]:
    with a_team(copy_serving(), reconcile_every_s=3600.0) as found:  # so rarely that the webhooks must do it
        yield found


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
def test_a_registration_becomes_a_review_page_and_an_approval_in_the_browser_lets_it_serve(team: Team, shots: Path) -> None:
    the_whole_life(team, shots)


def test_a_second_up_does_nothing_and_says_so(team: Team) -> None:
    before = running.parts(team.project.folder / "workspace")
    ran = team.project.command("up")
    assert ran.code == 0 and ran.err.count("runs already") == 4
    assert running.parts(team.project.folder / "workspace") == before


def test_mlflow_answers_no_request_that_another_name_led_here(team: Team) -> None:
    """A page of somebody's that has its own name point to this machine (DNS rebinding): MLflow's check is in force as we start it."""
    import httpx

    search = f"{team.url}/api/2.0/mlflow/registered-models/search"
    assert httpx.get(search, timeout=PATIENCE_S).status_code == 200
    refused = httpx.get(search, headers={"Host": "evil.example"}, timeout=PATIENCE_S)
    assert refused.status_code == 403 and "registered_models" not in refused.text


def test_doctor_finds_nothing_wrong_with_a_healthy_team(team: Team) -> None:
    ran = team.project.command("doctor", "--json")
    assert ran.code == 0, ran.out
    found = {one["check"]: one["outcome"] for one in json.loads(ran.out)["checks"]}
    assert found["webhook"] == found["storage"] == found["services"] == found["champion"] == "fine"


def test_doctor_finds_a_secret_that_is_not_ours_and_up_mends_it(team: Team) -> None:
    def wrong() -> dict[str, str]:
        ran = team.project.command("doctor", "--json")
        return {one["check"]: f"{one['said']} → {one['todo']}" for one in json.loads(ran.out)["checks"] if one["outcome"] == "wrong"}

    client = team.client()
    webhook = next(one for one in client.list_webhooks() if one.name == "fct-tiny")
    client.update_webhook(webhook.webhook_id, secret="f" * 64)
    found = wrong()
    assert found.keys() == {"webhook"} and "401" in found["webhook"] and "fct up" in found["webhook"]
    assert team.project.command("up").code == 0
    assert wrong() == {}
    # MLflow keeps that secret encrypted: with another key it could read none of its webhooks
    team.kill("mlflow")
    key = team.project.folder / "workspace/services/webhook.key"
    key.rename(key.with_name("away"))
    ran = team.project.command("up")
    assert ran.code == 1 and "webhook.key" in ran.err and "troubleshooting" in ran.err and "Traceback" not in ran.err
    key.with_name("away").rename(key)
    assert team.project.command("up").code == 0
    assert wrong() == {}
    # the cure of docs/troubleshooting.md for a key that is lost
    assert team.project.command("down").code == 0
    with sqlite3.connect(team.project.folder / "workspace/mlflow.db") as database:
        database.executescript("DELETE FROM webhook_events; DELETE FROM webhooks")
    key.unlink()
    (key.parent / "webhook.secret").unlink()
    assert team.project.command("up").code == 0
    assert wrong() == {}


def test_a_registration_that_lacks_a_piece_is_marked_invalid_with_its_name(team: Team, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "README").write_text("no release")
    version = team.register(str(lacking))
    team.until(lambda: team.of(version) == "invalid")
    assert "program.pt2" in team.client().get_model_version("tiny", str(version)).description


def test_doubled_late_and_forged_deliveries_start_nothing_twice(team: Team) -> None:
    import httpx

    url = running.parts(team.project.folder / "workspace")["receiver"].url + "/webhook"
    secret, runs = passwords.secret(team.project.workspace()), len(team.runs())

    def post(delivery: str, ago: int = 0, key: str = secret) -> int:
        body = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "tiny", "version": "2"}}).encode()
        stamp = str(int(time.time()) - ago)
        signature = base64.b64encode(hmac.new(key.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
        headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": f"v1,{signature}"}
        return httpx.post(url, content=body, headers=headers, timeout=PATIENCE_S).status_code

    assert [post("b"), post("b"), post("a", ago=100), post("c", ago=400), post("d", key="f" * 64)] == [202, 200, 202, 401, 401]
    team.client().set_model_version_tag("tiny", "1", "fct.approve", "nobody")  # what the next look at the registry answers
    team.until(lambda: "fct.note" in team.client().get_model_version("tiny", "1").tags)
    team.client().delete_model_version_tag("tiny", "1", "fct.approve")
    assert len(team.runs()) == runs, "three looks at the registry, and no upgrade"


def test_nonsense_and_strangers_in_the_approval_tag_are_explained_on_the_version(team: Team) -> None:
    client, head = team.client(), len(team.project.workspace().ledger.entries())
    serving = team.status()["serving"]
    client.set_model_version_tag("tiny", "1", "fct.approve", "yes please")
    team.until(lambda: "is ignored" in team.client().get_model_version("tiny", "1").tags.get("fct.note", ""))
    assert "yes please" in str(team.status()["ignored"]["1"])
    client.delete_model_version_tag("tiny", "1", "fct.approve")
    team.until(lambda: "fct.note" not in team.client().get_model_version("tiny", "1").tags)
    assert team.status()["serving"] == serving and len(team.project.workspace().ledger.entries()) == head


def test_an_alias_moved_by_hand_is_put_back_and_moves_nothing(team: Team) -> None:
    serving = team.status()["serving"]["release"]
    other = 1 if serving == 2 else 2
    team.client().set_registered_model_alias("tiny", "champion", str(other))
    team.until(lambda: team.client().get_model_version_by_alias("tiny", "champion").version == str(serving))
    assert team.status()["serving"]["release"] == serving


def test_a_lost_webhook_costs_a_look_at_the_registry_and_nothing_else(team: Team) -> None:
    team.kill("receiver")
    ran = team.project.command("status")
    assert "receiver   ended by itself" in ran.out
    version = team.register("build/releases/v2", "another")  # what serves once more, as a new version
    assert team.of(version) == "registered"
    ran = team.project.command("up")  # starts the receiver again; the delivery is lost
    assert ran.code == 0 and "receiver: started" in ran.err
    # a try of MLflow's may still arrive; whoever comes second leaves the work to the first, or finds it done
    assert team.project.command("reconcile", "--once").code == 0
    team.until(lambda: team.of(version) in ("refused", "inconclusive"))  # no better than what serves

    def ends() -> list[str]:
        return [run["state_type"] for run in team.runs() if run["parameters"]["version"] == version]

    team.until(lambda: not set(ends()) & {"RUNNING", "PENDING", "SCHEDULED"})  # the tag is written before Prefect hears of the end
    assert "COMPLETED" in ends(), ends()
    assert len(team.project.workspace().releases.candidate_runs(version)) == 1, "measured once, put before people once"


def test_an_embedder_whose_own_vectors_the_gallery_holds_is_no_upgrade(team: Team) -> None:
    version = team.register("build/releases/v1", "once-more")
    team.until(lambda: team.of(version) == "invalid")
    assert "version 1" in team.client().get_model_version("tiny", str(version)).description


def test_a_killed_worker_leaves_a_run_that_the_next_look_takes_over(team: Team) -> None:
    version = team.register("build/releases/v2", "third")
    team.until(lambda: bool([run for run in team.runs() if run["parameters"]["version"] == version and run["state_type"] == "RUNNING"]))
    worker = running.parts(team.project.folder / "workspace")["worker"]
    os.kill(worker.pid, signal.SIGKILL)  # it alone: its runs look whether it lives
    team.until(lambda: not worker.remains())
    team.until(lambda: services.lock.holder_of(team.project.workspace().locks, "tiny") is None)
    assert team.project.command("up").code == 0
    team.until(lambda: team.of(version) in ("passed", "refused", "inconclusive", "superseded")) if _hint(team) else None
    assert read_json(team.project.folder / f"workspace/upgrades/tiny-v{version}/verdict/verdict.json")["digest"]


def _hint(team: Team) -> bool:
    """Any event makes the team look at the registry."""
    team.client().set_model_version_tag("tiny", "1", "note", str(time.time()))
    return True


def test_a_run_that_prefect_says_crashed_and_that_lives_is_named_works_alone_and_counts(team: Team) -> None:
    """Its heartbeats were late, and an automation against zombies called it crashed; it goes on."""
    import httpx

    ws, params = team.project.workspace(), team.project.folder / "params.yaml"
    before = params.read_text(encoding="utf-8")
    params.write_text(before.replace("lock_lease_s: 60.0", "lock_lease_s: 900.0"), encoding="utf-8")
    version = team.register("build/releases/v2", "late")

    def runs() -> list[tuple[str, str]]:
        return [(run["id"], run["state_type"]) for run in team.runs() if run["parameters"]["version"] == version]

    def worker_on_it() -> services.lock.Lease | None:
        """The run that Prefect shows, at work: a look at the registry holds the lock for a moment, too."""
        found = services.lock.holder_of(ws.locks, "tiny")
        return found if found is not None and found.holder.endswith(f"upgrade to version {version}") and runs() else None

    held: list[services.lock.Lease] = []
    team.until(lambda: bool(held.extend(found for found in [worker_on_it()] if found) or held))
    holder = held[0]
    os.kill(holder.pid, signal.SIGSTOP)  # so that it does not end before we have looked
    try:
        ((run, state),) = runs()
        assert state == "RUNNING"
        api = running.parts(ws.folder)["prefect"].url + "/api"
        given = {"state": {"type": "CRASHED", "message": "no heartbeat"}, "force": True}
        said = httpx.post(f"{api}/flow_runs/{run}/set_state", json=given, auth=team.password(), timeout=PATIENCE_S)
        assert said.json()["status"] == "ACCEPT" and runs() == [(run, "CRASHED")]
        wanted = f"Prefect says that its run 'tiny: v{team.status()['serving']['release']} → v{version}' crashed, but its process lives"
        _hint(team)
        team.until(lambda: f"{holder} works on the model" in str(team.status()["look"]))  # by the worker's look
        assert wanted in str(team.status()["look"])
        doctor = json.loads(team.project.command("doctor", "--json").out)["checks"]
        assert [wanted in one["said"] and str(holder.pid) in one["said"] for one in doctor if one["check"] == "work"] == [True], doctor
        ran = team.project.command("reconcile", "--once")
        assert ran.code == 0 and wanted in ran.err, ran.err
        assert runs() == [(run, "CRASHED")], "nobody has begun another"
    finally:
        os.kill(holder.pid, signal.SIGCONT)
        params.write_text(before, encoding="utf-8")
    team.until(lambda: runs() == [(run, "COMPLETED")])
    done = {path: path.stat().st_mtime_ns for path in sorted(ws.upgrade_folder(version).rglob("*")) if path.is_file()}
    assert team.project.command("reconcile", "--once").code == 0
    assert team.of(version) in ("passed", "refused", "inconclusive") and runs() == [(run, "COMPLETED")]
    assert {path: path.stat().st_mtime_ns for path in sorted(ws.upgrade_folder(version).rglob("*")) if path.is_file()} == done


@pytest.mark.parametrize("part", ["mlflow", "prefect"])
def test_a_server_may_go_away_during_an_upgrade(team: Team, part: str) -> None:
    serving = team.status()["serving"]
    version = team.register("build/releases/v2", f"without {part}")
    team.until(lambda: bool([run for run in team.runs() if run["parameters"]["version"] == version and run["state_type"] == "RUNNING"]))
    team.kill(part)
    if part == "mlflow":  # until the run has missed it
        team.until(lambda: "trying again" in team.logs())
    assert team.project.command("up").code == 0
    _hint(team)
    team.until(lambda: team.of(version) in ("refused", "inconclusive"))
    assert team.status()["serving"] == serving


def test_without_any_webhook_the_scheduled_look_finds_a_registration(team: Team) -> None:
    """The receiver is down, and MLflow, which keeps its tries in memory, dies with them: nobody tells the worker anything."""
    team.kill("receiver")
    version = team.register("build/releases/v2", "unheard")
    team.kill("mlflow")
    team.kill("worker")
    path = team.project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["services"]["reconcile_every_s"] = 15.0
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    assert team.project.command("up").code == 0
    team.until(lambda: team.of(version) in ("passed", "refused", "inconclusive"))
    latest = look.last(team.project.workspace())
    assert latest is not None
    team.until(lambda: (look.last(team.project.workspace()) or latest)["at"] > latest["at"])  # again and again
    doctor = team.project.command("doctor", "--json")
    assert {one["outcome"] for one in json.loads(doctor.out)["checks"] if one["check"] == "looks"} == {"fine"}, doctor.out


def test_down_ends_exactly_what_up_started(team: Team) -> None:
    parts = running.parts(team.project.folder / "workspace")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        ran = team.project.command("down")
        assert ran.code == 0 and all(f"{name}: ended" in ran.err for name in parts)
        assert not any(part.alive() for part in parts.values()) and bystander.poll() is None
        assert running.parts(team.project.folder / "workspace") == {}
        assert "Nothing was running" in team.project.command("down").err
    finally:
        bystander.kill()
        bystander.wait()
