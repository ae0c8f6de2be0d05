"""A registry of one's own that asks for passwords: who may approve is MLflow's to say, what was approved is ours."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry import running
from tests.end_to_end.conftest import PATIENCE_S, Project, wait_for
from tests.end_to_end.team import Team, a_team
from tests.end_to_end.test_life import altered, flipped
from tests.ports import free_ports

pytestmark = pytest.mark.slow
PASSWORDS = {name: secrets.token_urlsafe(18) for name in ("admin", "ana", "stranger")}


def as_user(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever talks to MLflow from here on does so as this user."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[name])


@contextmanager
def a_server(folder: Path) -> Iterator[str]:
    """``mlflow server`` as docs/deploy.md says, with basic authentication; its address."""
    (folder / "basic_auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    port = free_ports(1)[0]
    given = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--app-name", "basic-auth",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, folder / "log")
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(PATIENCE_S)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=PATIENCE_S):
            return True
        return False

    wait_for(answers, lambda: log.read_text(errors="replace")[-3000:], every_s=0.2)


@dataclass
class Guarded(Team):
    """A team whose registry is elsewhere."""

    address: str = ""

    @property
    def url(self) -> str:
        return self.address


@pytest.fixture(scope="module")
def team(copy_of: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with pytest.MonkeyPatch.context() as patch, a_server(tmp_path_factory.mktemp("server")) as url:
        as_user(patch, "admin")  # the receiver registers its webhook, which MLflow lets administrators alone do
        receiver = free_ports(1)[0]
        address = f"http://127.0.0.1:{receiver}/webhook"
        with a_team(copy_of(), reconcile_every_s=3600.0, tracking_uri=url, receiver_url=address, receiver_port=receiver) as found:
            yield Guarded(found.project, address=url)


@pytest.fixture(scope="module")
def people(team: Guarded) -> None:
    """Ana may edit the model, the stranger may read it."""
    from mlflow.server.auth.client import AuthServiceClient

    client = AuthServiceClient(team.url)
    for name in ("ana", "stranger"):
        client.create_user(name, PASSWORDS[name])
    client.grant_user_permission("ana", "registered_model", "tiny", "EDIT")


def test_who_may_not_edit_cannot_approve_and_what_was_altered_after_the_approval_is_not_promoted(
    team: Guarded, people: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    assert set(running.parts(team.project.folder / "workspace")) == {"prefect", "receiver", "worker"}, "the registry is another's"
    assert team.register("build/releases/v2") == 2
    team.until(lambda: team.of(2) == "passed" and "fct.verdict" in _tags(team))
    digest = _tags(team)["fct.verdict"]
    client = team.client()
    with monkeypatch.context() as patch:
        as_user(patch, "stranger")
        assert client.get_model_version("tiny", "2").tags["fct.verdict"] == digest, "reading is allowed"
        for act in (
            lambda: client.set_model_version_tag("tiny", "2", "fct.approve", f"Ana {digest}"),
            lambda: client.set_registered_model_alias("tiny", "champion", "2"),
            lambda: client.delete_model_version_tag("tiny", "2", "fct.verdict"),
            lambda: client.create_model_version("tiny", "mlflow-artifacts:/x"),
        ):
            with pytest.raises(MlflowException, match=r"(?i)permission denied"):
                act()
        said = team.project.fct("approve", "2", "--by", "stranger", "--why", "why not")
        assert said.code == 3 and "MLflow does not let 'stranger' do this" in said.err and said.err.count("\n") == 1
    assert "fct.approve" not in _tags(team) and team.status()["serving"]["release"] == 1

    weights = next((team.project.folder / "workspace/upgrades/tiny-v2/h-v1").glob("*.safetensors"))
    with altered(weights, flipped(weights)):  # first somebody changes what was measured, then the approval comes
        with monkeypatch.context() as patch:
            as_user(patch, "ana")
            client.set_model_version_tag("tiny", "2", "fct.approve", f"Ana {digest}")
        team.until(lambda: "is not the file that was approved" in _tags(team).get("fct.note", ""))
        assert team.status()["serving"]["release"] == 1 and client.get_model_version_by_alias("tiny", "champion").version == "1"
        assert "not promoted" in team.project.fct("status").out
    client.set_model_version_tag("tiny", "2", "note", "restored")  # any event makes the team look again
    team.until(lambda: team.of(2) == "serving")
    team.until(lambda: "fct.note" not in _tags(team))
    entries = team.project.workspace().ledger.entries()
    assert [(entry.action, entry.by) for entry in entries[-2:]] == [("approve", "Ana"), ("promote", "Ana")]


def test_a_wrong_password_is_one_sentence(team: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    for words in (("status", "--fresh"), ("reconcile", "--once"), ("approve", "2", "--by", "ana", "--why", "w")):
        ran = team.project.fct(*words)
        assert ran.code == 3 and ran.err.count("\n") == 1 and "MLFLOW_TRACKING_USERNAME" in ran.err, ran.err


def _tags(team: Guarded) -> dict[str, Any]:
    return dict(team.client().get_model_version("tiny", "2").tags)
