"""``fct up``: MLflow, Prefect, the webhook receiver and the worker on this machine, as processes that outlive the command.

Each part writes to its own log below ``workspace/services`` and is recorded there (:mod:`registry.running`). ``up`` starts what does not
run, ``down`` ends exactly what ``up`` started. Everything listens on loopback only.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fct import children
from fct.errors import BadInput, OperationFailed
from flows import guard
from flows.passwords import PREFECT_PASSWORD, _encryption_key, prefect_password, secret
from registry import lock, running
from registry.running import Part
from registry.workspace import QUIET, Workspace

HOST = "127.0.0.1"
START_S = 1800.0  # a part that dies is seen at once; one that works is waited for, on whatever machine
RECORDED = """
import os, sys
if not os.read(0, 1):
    sys.exit("`fct up` ended before it had written down this part")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execv(sys.argv[1], sys.argv[1:])
"""  # a part begins once it is recorded: nothing runs that nobody knows of
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How one part is started, and how it is known that it works. ``needs``: parts that must answer before. ``port``: 0 = none."""

    name: str
    command: list[str]
    environment: dict[str, str]
    port: int
    ready: str  # an address that answers 200, or a file that exists
    needs: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}" if self.port else ""


def plans(workspace: Workspace) -> list[Plan]:
    """The parts, in the order in which they can start. MLflow is left out where params.yaml names a server of one's own."""
    settings, python = workspace.settings.services, [sys.executable, "-m"]
    prefect = f"http://{HOST}:{settings.prefect_port}"
    folder, params = running.folder_of(workspace.folder), ["--params", str(workspace.params)]
    shared = QUIET | {"PREFECT_HOME": str(workspace.folder / "prefect"), "PREFECT_API_URL": f"{prefect}/api", "PYTHONUNBUFFERED": "1"}
    own = [
        Plan(
            "mlflow",
            [*python, "mlflow", "server", "--host", HOST, "--port", str(settings.mlflow_port), "--workers", "1",
             "--backend-store-uri", workspace.mlflow_store, "--artifacts-destination", (workspace.folder / "artifacts").as_uri()],
            QUIET
            | {
                "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",  # the receiver is on loopback
                "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
                "MLFLOW_WEBHOOK_CACHE_TTL": "1",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes and 1.4 GB less
            },
            settings.mlflow_port,
            f"http://{HOST}:{settings.mlflow_port}/health",
        )
    ]  # fmt: skip
    database = settings.prefect_database.replace("postgresql://", "postgresql+asyncpg://", 1)
    parts = [
        Plan(
            "prefect",
            [*python, "prefect", "server", "start", "--host", HOST, "--port", str(settings.prefect_port)],
            shared
            | {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_SERVER_UI_API_URL": f"{prefect}/api"}
            | {"PREFECT_SERVER_DATABASE_TIMEOUT": "120", "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60"}  # 10 and 5 s by themselves
            | ({"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}),
            settings.prefect_port,
            f"{prefect}/api/health",
        ),
        Plan(
            "receiver",
            [*python, "flows.receiver", *params, *(["--host", "0.0.0.0", "--url", settings.receiver_url] if settings.receiver_url else [])],
            shared,
            settings.receiver_port,
            f"http://{HOST}:{settings.receiver_port}/healthz",
        ),
        Plan(
            "worker",
            [*python, "flows.worker", *params],
            shared | {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_RUNNER_POLL_FREQUENCY": "2"},
            0,
            str(folder / "worker.ready"),
            needs=("mlflow", "prefect"),
        ),
    ]
    return parts if workspace.settings.tracking_uri else own + parts


def up(workspace: Workspace, say: Say = print, *, wait_s: float = START_S) -> dict[str, Part]:
    """Start every part that does not run, wait until all answer, and register the webhook.

    Args:
        say: gets a line for every part, as it comes.

    Returns:
        what runs now, by name.

    Raises:
        BadInput: a part runs at another address than params.yaml says.
        OperationFailed: a port is taken, a part ends at once or does not answer in time (the others are left running),
            LockHeld: another ``up`` or ``down`` is at work.
    """
    running.folder_of(workspace.folder).mkdir(parents=True, exist_ok=True)
    with lock.hold(workspace.locks, "services", "fct up", lease_s=60):
        _refuse_elsewhere(workspace)
        todo = plans(workspace)
        for name, part in running.parts(workspace.folder).items():
            if not part.alive() and part.remains():
                children.end(part.pid, part.started)  # what its dead leader left behind still holds the port
                say(f"{name}: its remains are ended")
        alive = {name: part for name, part in running.parts(workspace.folder).items() if part.alive()}
        for plan in todo:  # before anything is started
            there = alive.get(plan.name)
            if there is not None and there.url != plan.url:  # it would be waited for where it never answers
                said = f"{plan.name} runs already, at another address than params.yaml says"
                raise BadInput(said, wanted=plan.url, got=there.url, todo="`fct down`, then `fct up`")
            if there is None and plan.port:
                _check_free(plan)
        with _all_or_nothing(workspace, [plan.name for plan in todo if plan.name not in alive]):
            _start_all(workspace, todo, set(alive), say, wait_s)
        receiver = next(plan for plan in todo if plan.name == "receiver")
        if not workspace.settings.tracking_uri and not workspace.settings.services.receiver_url:
            workspace.releases.webhook(f"{receiver.url}/webhook", secret(workspace))
    return running.parts(workspace.folder)


def _start_all(workspace: Workspace, todo: list[Plan], alive: set[str], say: Say, wait_s: float) -> None:
    started: list[Plan] = []
    for plan in todo:
        if plan.name in alive:
            _wait(workspace, plan, lambda _: None, wait_s)
            say(f"{plan.name}: runs already{_at(plan)}")
            continue
        for other in [one for one in started if one.name in plan.needs]:
            _wait(workspace, other, say, wait_s)
            started.remove(other)
        _start(workspace, plan)
        started.append(plan)
    for plan in started:
        _wait(workspace, plan, say, wait_s)


@contextmanager
def _all_or_nothing(workspace: Workspace, names: list[str]) -> Iterator[None]:
    """Interrupted or killed inside the block, this process leaves none of the parts ``names`` running."""
    me = os.getpid()
    beside = subprocess.Popen(
        [sys.executable, "-m", "flows.guard", str(workspace.folder), str(me), children.process_started(me), *names],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    except KeyboardInterrupt:
        guard.end(workspace.folder, names)
        raise
    finally:
        beside.kill()
        beside.wait()


def down(workspace: Workspace, say: Say = print) -> list[str]:
    """End what ``up`` started, last first, and nothing else. Returns the names of what was ended."""
    ended = []
    with lock.hold(workspace.locks, "services", "fct down", lease_s=60):
        _refuse_elsewhere(workspace)
        for name in reversed(running.parts(workspace.folder)):
            if guard.end(workspace.folder, [name]):
                ended.append(name)
                say(f"{name}: ended")
    return ended


def _refuse_elsewhere(workspace: Workspace) -> None:
    host = running.elsewhere(workspace.folder)
    if host is not None:
        todo = f"use `fct up` and `fct down` there; if {host} is gone, delete {running.folder_of(workspace.folder)}/*.json"
        raise OperationFailed("the servers of this workspace were started on another machine", got=host, todo=todo)


def _check_free(plan: Plan) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, plan.port))
        except OSError as error:
            raise OperationFailed(
                f"the port {plan.port} is taken by another program, so {plan.name} cannot start",
                got=error.strerror,
                todo=f"end that program, or set services.{plan.name}_port in params.yaml",
            ) from error


def _start(workspace: Workspace, plan: Plan) -> None:
    if plan.port == 0:
        Path(plan.ready).unlink(missing_ok=True)
    log = running.folder_of(workspace.folder) / f"{plan.name}.log"
    apart = ("PREFECT_API_URL", "PREFECT_LOGGING_LEVEL", children.OWNER)  # it outlives this process
    clean = {name: value for name, value in children.environment().items() if name not in apart}
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", RECORDED, *plan.command],
            cwd=workspace.root,
            env=clean | _secrets(workspace, plan.name) | plan.environment,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,  # its own group: Ctrl-C in the terminal does not end it, `down` ends all of it
        )
        assert process.stdin is not None
        with process.stdin as go:
            running.write(workspace.folder, running.part_of(plan.name, process.pid, plan.url, log))
            go.write(b"!")


def _secrets(workspace: Workspace, name: str) -> dict[str, str]:
    """What a part is given besides its plan: MLflow the key of its webhooks, the others the password of Prefect's server."""
    if name == "mlflow":
        return {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _encryption_key(workspace)}
    password = prefect_password(workspace)
    return {PREFECT_PASSWORD: password} | ({"PREFECT_SERVER_API_AUTH_STRING": password} if name == "prefect" else {})


def _wait(workspace: Workspace, plan: Plan, say: Say, wait_s: float) -> None:
    """Until the part answers; a line when it does."""
    begun, part, next_word = time.monotonic(), running.parts(workspace.folder)[plan.name], 15.0
    while not _answers(plan.ready):
        if not part.alive():
            raise OperationFailed(
                f"{plan.name} ended at once", got=_last_line(part.log), where=part.log, todo="correct it and type `fct up` again"
            )
        waited = time.monotonic() - begun
        if waited > wait_s:
            todo = "look at its log, and type `fct up` again, which goes on waiting, or `fct down`"
            raise OperationFailed(f"{plan.name} did not answer in {wait_s:g} s", where=part.log, todo=todo)
        if waited > next_word:
            say(f"{plan.name}: starting, {waited:.0f} s so far")
            next_word *= 2
        time.sleep(0.2)
    say(f"{plan.name}: started{_at(plan)}")


def _at(plan: Plan) -> str:
    return f", {plan.url}" if plan.url else ""


def _answers(ready: str) -> bool:
    if not ready.startswith("http"):
        return Path(ready).exists()
    try:
        with urllib.request.urlopen(ready, timeout=30) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _last_line(log: str) -> str:
    lines = [line.strip() for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing in its log"
