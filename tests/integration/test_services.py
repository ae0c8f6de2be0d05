"""Starting, watching and ending parts: real processes, none of them a server of weight."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fct import children
from fct.errors import BadInput, OperationFailed
from flows import doctor, machine, passwords, services
from registry import lock, running
from registry.workspace import Workspace, open_workspace
from tests.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
ANSWER = (
    "import http.server,sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    names = ("mlflow_port", "prefect_port", "receiver_port")
    params["services"] |= dict(zip(names, free_ports(3), strict=True))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return open_workspace(tmp_path / "params.yaml")


def plan(workspace: Workspace, name: str, code: str = ANSWER, port: int | None = None) -> services.Plan:
    port = getattr(workspace.settings.services, f"{name}_port") if port is None else port
    return services.Plan(name, [sys.executable, "-c", code, str(port)], {}, port, f"http://127.0.0.1:{port}/")


@pytest.fixture
def small(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The parts are small HTTP servers, MLflow takes no webhook."""
    monkeypatch.setattr(services, "plans", lambda ws: [plan(ws, "mlflow"), plan(ws, "receiver")])
    monkeypatch.setattr("registry.mlflow.releases.Releases.webhook", lambda *_: "w")
    yield workspace
    services.down(workspace, lambda _: None)


def test_up_starts_waits_and_a_second_up_does_nothing(small: Workspace) -> None:
    said: list[str] = []
    found = services.up(small, said.append)
    assert [line.split(",")[0] for line in said] == ["mlflow: started", "receiver: started"]
    assert small.tracking_uri == found["mlflow"].url, "commands talk to the server while it runs"
    said.clear()
    assert services.up(small, said.append) == found and all("runs already" in line for line in said)
    assert services.down(small, said.append) == ["receiver", "mlflow"]
    assert small.tracking_uri.startswith("sqlite:") and running.parts(small.folder) == {}


def test_what_died_is_named_and_started_again(small: Workspace) -> None:
    found = services.up(small, lambda _: None)
    subprocess.run(["kill", "-9", str(found["receiver"].pid)], check=True)
    while running.parts(small.folder)["receiver"].alive():
        pass
    assert [name for name, part in running.parts(small.folder).items() if not part.alive()] == ["receiver"]
    assert any(one.outcome == doctor.WRONG and "receiver ended by itself" in one.said for one in doctor.parts(small))
    said: list[str] = []
    services.up(small, said.append)
    assert "mlflow: runs already" in said[0] and "receiver: started" in said[1]
    assert all(part.alive() for part in running.parts(small.folder).values())


def test_what_a_killed_leader_leaves_behind_is_ended_and_does_not_keep_up_from_starting(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {ANSWER!r}, sys.argv[1]]); time.sleep(600)"
    monkeypatch.setattr(services, "plans", lambda ws: [plan(ws, "mlflow", child), plan(ws, "receiver")])
    monkeypatch.setattr("registry.mlflow.releases.Releases.webhook", lambda *_: "w")
    first = services.up(workspace, lambda _: None)["mlflow"]
    subprocess.run(["kill", "-9", str(first.pid)], check=True)
    while running.parts(workspace.folder)["mlflow"].alive():
        time.sleep(0.05)
    assert children.members(first.pid, first.started), "its child still holds the port"
    said: list[str] = []
    services.up(workspace, said.append)
    assert "mlflow: its remains are ended" in said and children.members(first.pid, first.started) == []
    assert services.down(workspace, lambda _: None) == ["receiver", "mlflow"]


def test_servers_of_another_machine_are_left_to_it(small: Workspace) -> None:
    part = services.up(small, lambda _: None)["receiver"]
    running.write(small.folder, running.Part(**(part.__dict__ | {"host": "elsewhere"})))
    for act in (services.up, services.down):
        with pytest.raises(OperationFailed, match="another machine; got elsewhere"):
            act(small, lambda _: None)
    running.write(small.folder, part)


def test_a_number_that_another_process_has_now_is_not_ended(small: Workspace) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        part = running.part_of("receiver", other.pid, "http://x", Path("log"))
        running.write(small.folder, running.Part(**(part.__dict__ | {"started": "1"})))
        assert services.down(small, lambda _: None) == [] and other.poll() is None
        other.kill()


def test_a_taken_port_is_named_with_its_setting_before_anything_starts(small: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", small.settings.services.receiver_port))
        taken.listen()
        with pytest.raises(OperationFailed, match=r"services\.receiver_port"):
            services.up(small, lambda _: None)
        assert running.parts(small.folder) == {}
        found = list(doctor.parts(small))
        assert [one.outcome for one in found] == [doctor.WRONG] and "services.receiver_port" in found[0].todo
    assert [one.outcome for one in doctor.parts(small)] == [doctor.FINE]


def test_a_part_that_ends_at_once_is_named_with_its_last_words(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "plans", lambda ws: [plan(ws, "receiver", "import sys; sys.exit('no such secret')")])
    with pytest.raises(OperationFailed, match=r"receiver ended at once; got no such secret"):
        services.up(workspace, lambda _: None)


def test_a_part_that_never_answers_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "plans", lambda ws: [plan(ws, "receiver", "import time; time.sleep(60)")])
    with pytest.raises(OperationFailed, match="did not answer in 0.5 s"):
        services.up(workspace, lambda _: None, wait_s=0.5)
    services.down(workspace, lambda _: None)


def test_secrets_are_made_once_and_are_their_owners_alone(workspace: Workspace) -> None:
    first = passwords.secret(workspace)
    path = running.folder_of(workspace.folder) / "webhook.secret"
    assert passwords.secret(workspace) == first and len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert [one.outcome for one in doctor.webhook(workspace)] == [doctor.WRONG]


def test_the_plans_name_what_the_servers_need(workspace: Workspace) -> None:
    found = {one.name: one for one in services.plans(workspace)}
    assert tuple(found) == running.PARTS
    mlflow = found["mlflow"].environment
    assert mlflow["MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"] == "true" and mlflow["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert not (running.folder_of(workspace.folder) / "webhook.key").exists(), "only `up` makes it"
    outside = Workspace(
        workspace.params, replace(workspace.settings, services=replace(workspace.settings.services, receiver_url="https://r/w"))
    )
    assert "--url https://r/w" in " ".join(services.plans(outside)[2].command)
    assert all("127.0.0.1" in " ".join(found[name].command) for name in ("mlflow", "prefect"))


def test_a_server_of_ones_own_is_not_started_twice(workspace: Workspace) -> None:
    own = Workspace(workspace.params, replace(workspace.settings, tracking_uri="https://mlflow.example"))
    assert [one.name for one in services.plans(own)] == ["prefect", "receiver", "worker"]


def test_a_part_that_runs_on_another_port_than_params_yaml_says_is_one_sentence_at_once(workspace: Workspace) -> None:
    """It would be waited for where it never answers."""
    port = workspace.settings.services.mlflow_port
    running.folder_of(workspace.folder).mkdir(parents=True)
    running.write(workspace.folder, running.part_of("mlflow", os.getpid(), f"http://127.0.0.1:{port + 1}", Path("log")))
    with pytest.raises(BadInput, match=rf"mlflow runs already.*wanted http://127.0.0.1:{port}; got http://127.0.0.1:{port + 1}.*fct down"):
        services.up(workspace)
    assert list(running.parts(workspace.folder)) == ["mlflow"]


def test_both_faiss_packages_at_once_are_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: "1.0")
    assert any("both installed" in one.said for one in machine.environment(workspace) if one.outcome == doctor.WRONG)


def test_an_environment_that_prefect_cannot_start_in_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: {"fastapi": "0.165.1", "sqlalchemy": "2.1.9", "faiss-gpu": None}.get(name, "1.0"))
    wrong = [one.said for one in machine.environment(workspace) if one.outcome == doctor.WRONG]
    assert len(wrong) == 2 and "fastapi 0.165.1" in wrong[0] and "sqlalchemy 2.1.9" in wrong[1]


def test_a_disk_that_is_nearly_full_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    assert [one.outcome for one in machine.disk(workspace)] == [doctor.ATTENTION]


def test_storage_that_gives_a_name_twice_is_found(tmp_path: Path) -> None:
    assert machine.promises(tmp_path) == []
    (tmp_path / "b").mkdir()
    broken = machine.promises(tmp_path / "b", link=lambda mine, name: name.write_text(mine.read_text()) and None)
    assert any("names were given" in one for one in broken)


def test_doctor_leaves_nothing_behind(workspace: Workspace) -> None:
    found = {one.check: one.outcome for one in doctor.examine(workspace)}
    assert found["storage"] == doctor.FINE and set(found) == set(doctor.CHECKS)
    assert [path.name for path in workspace.folder.iterdir() if path.name.startswith(".doctor")] == []


def test_a_check_that_cannot_be_made_is_a_finding(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Workspace):
        raise RuntimeError("odd")
        yield

    monkeypatch.setattr(doctor, "CHECKS", {"odd": broken})
    assert [(one.outcome, "RuntimeError: odd" in one.said) for one in doctor.examine(workspace)] == [(doctor.WRONG, True)]


def test_a_run_that_prefect_calls_crashed_while_its_process_lives_is_not_begun_again_and_is_named(workspace: Workspace) -> None:
    """What Prefect calls it is not asked: the lock says who lives."""
    from flows import worker

    assert ["nobody works" in one.said for one in doctor.work(workspace)] == [True]
    with lock.hold(workspace.locks, workspace.settings.model, "ana: upgrade to version 2"):
        (found,) = doctor.work(workspace)
        assert found.outcome == doctor.FINE and "ana: upgrade to version 2" in found.said
        begun = worker.schedule(workspace, 2)  # no server answers here: it is not asked
        assert begun["outcome"] == "waits" and "ana: upgrade to version 2" in begun["problems"][0]


def test_a_worker_that_looks_no_more_is_found(workspace: Workspace) -> None:
    from registry.versions import look

    assert [one.outcome for one in doctor.looks(workspace)] == [doctor.FINE], "nobody has looked yet"
    look.remember(workspace, [{"version": 3, "outcome": "failed", "problems": ["no disk"]}], None)
    (found,) = doctor.looks(workspace)
    assert found.outcome == doctor.ATTENTION and "version 3: failed: no disk" in found.said
    look.remember(workspace, [{"version": 3, "outcome": "waits", "problems": ["ana works on the model"]}], None)
    assert [one.outcome for one in doctor.looks(workspace)] == [doctor.FINE]
    path, ready = workspace.folder / "look.json", running.folder_of(workspace.folder) / "worker.ready"
    path.write_text(path.read_text().replace("20", "19", 1))  # a hundred years ago
    assert [one.outcome for one in doctor.looks(workspace)] == [doctor.FINE], "no worker is to do it"
    running.write(workspace.folder, running.part_of("worker", os.getpid(), "", workspace.folder / "log"))
    ready.touch()
    assert [one.outcome for one in doctor.looks(workspace)] == [doctor.FINE], "it has only just started"
    os.utime(ready, (0, 0))
    (found,) = doctor.looks(workspace)
    assert found.outcome == doctor.WRONG and "fct up" in found.todo
