"""What a team runs, for tests: a project whose servers run, and the life of a release on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows import passwords
from registry import running
from tests.end_to_end import browser
from tests.end_to_end.conftest import FIRST, PATIENCE_S, Project, wait_for
from tests.ports import free_ports

PLAIN = """
import sys
import mlflow
from mlflow import MlflowClient

uri, folder, experiment, model = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = MlflowClient()
mlflow.set_experiment(experiment)
with mlflow.start_run() as run:
    mlflow.log_artifacts(folder, "release")
version = client.create_model_version(model, f"{run.info.artifact_uri}/release", run.info.run_id)
print(version.version)
"""


def set_services(folder: Path, model: str = "tiny", tracking_uri: str = "", **values: Any) -> None:
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params |= {"model": model, "tracking_uri": tracking_uri}
    params["services"] |= values
    params["promote"] |= {"auto": True}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@dataclass
class Team:
    """A project whose servers run."""

    project: Project
    model: str = "tiny"

    @property
    def url(self) -> str:
        return running.parts(self.project.folder / "workspace")["mlflow"].url

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def register(self, folder: str, experiment: str = "plain") -> int:
        """Register as a user's own training script does: MLflow alone, another process."""
        script = [sys.executable, "-c", PLAIN, self.url, str(self.project.folder / folder), experiment, self.model]
        ran = subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert ran.returncode == 0, ran.stderr
        return int(ran.stdout.strip().splitlines()[-1])

    def status(self) -> dict[str, Any]:
        ran = self.project.fct("status", "--fresh", "--json")  # what MLflow's server says now, not what it said last
        assert ran.code == 0, ran.err
        return json.loads(ran.out)  # type: ignore[no-any-return]

    def of(self, version: int) -> str:
        found = self.status()["versions"].get(str(version))
        return found["status"] if found else "nothing"

    def until(self, what: Callable[[], bool]) -> float:
        """Wait for it; the seconds that it took."""
        return wait_for(what, self.logs, every_s=1)

    def logs(self) -> str:
        folder = self.project.folder / "workspace/services"
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(folder.glob("*.log")))

    def kill(self, part: str) -> None:
        found = running.parts(self.project.folder / "workspace")[part]
        os.killpg(found.pid, signal.SIGKILL)
        self.until(lambda: not found.alive())

    def password(self) -> tuple[str, str]:
        user, _, password = passwords.prefect_password(self.project.workspace()).partition(":")
        return user, password

    def runs(self) -> list[Any]:
        """Flow runs named like an upgrade."""
        import httpx

        api = running.parts(self.project.folder / "workspace")["prefect"].url + "/api"
        found = httpx.post(
            f"{api}/flow_runs/filter",
            json={"flows": {"name": {"any_": ["upgrade"]}}, "sort": "START_TIME_DESC"},
            auth=self.password(),
            timeout=PATIENCE_S,
        )
        return list(found.json())


@contextmanager
def a_team(project: Project, **settings: Any) -> Iterator[Team]:
    """Version 1 serves, the servers run; they are ended whatever happens. A project without a workspace comes to serve first."""
    mlflow, prefect, receiver = free_ports(3)
    ports = {"mlflow_port": mlflow, "prefect_port": prefect, "receiver_port": receiver}
    set_services(project.folder, **ports | settings)
    before = {name: os.environ.pop(name, None) for name in ("PREFECT_API_URL", "PREFECT_HOME")}
    try:
        for args in (*(() if (project.folder / "workspace").exists() else FIRST), ("up",)):
            ran = project.command(*args)
            assert ran.code == 0, f"{args}: {ran.err}"
        yield Team(project, settings.get("model", "tiny"))
    finally:
        project.command("down")
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def the_whole_life(team: Team, shots: Path) -> None:
    """Register with plain MLflow; no command after that; read, approve in the browser; the new release serves."""
    version = team.register("build/releases/v2")
    assert version == 2
    waited = team.until(lambda: team.of(2) == "passed")
    assert [run["name"] for run in team.runs() if run["parameters"]["version"] == 2] == [f"{team.model}: v1 → v2"]
    with browser.opened() as driver:
        text = browser.read_version(driver, team.url, team.model, 2, shots / "review.png")
        digest = team.client().get_model_version(team.model, "2").tags["fct.verdict"]
        assert f"{team.model} version 2 passed its gates" in text and f"<your name> {digest}" in text and "new/h(old)" in text
        browser.set_tag(driver, "fct.approve", f"Ana Diaz {digest}", shots / "approved.png")
        took = team.until(lambda: team.of(2) == "serving")
        # the ledger has it first, then the registry follows
        team.until(lambda: team.client().get_model_version_by_alias(team.model, "champion").version == "2")
        team.until(lambda: "serving" in team.client().get_model_version(team.model, "2").tags.get("fct.status", ""))
        driver.refresh()
        browser.read_version(driver, team.url, team.model, 2, shots / "serving.png")
    entries = team.project.workspace().ledger.entries()
    assert [(entry.action, entry.by) for entry in entries[-2:]] == [("approve", "Ana Diaz"), ("promote", "Ana Diaz")]
    assert entries[-2].detail["verdict"] == digest and entries[-1].detail["approved_by"] == "Ana Diaz"
    (shots / "timing.json").write_text(json.dumps({"registered_to_verdict_s": round(waited, 1), "approved_to_serving_s": round(took, 1)}))
