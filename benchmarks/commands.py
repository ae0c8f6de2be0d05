"""What the everyday commands cost, in processor time: ``python -m benchmarks.commands``. It makes its own small workspace.

Nearly all that a short command does is importing. So each is measured as a whole process (user and system time of it and its children,
the median of several) and compared with what it cannot do without, measured between the commands of the same run: ``import torch``, and the import of
MLflow's client with its SQL store. Wall-clock time is not looked at: other work on the machine would decide it.
Results go to benchmarks/results/commands.json, below the name given with --as.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import yaml

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput
from registry.revisions import history
from tests.end_to_end.conftest import Project, make_project, moved

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks/results/commands.json"
LIFE = (
    ("data",),
    ("train", "v1"),
    ("train", "v2"),
    ("register", "build/releases/v1"),
    ("ingest", "build/data"),
    ("reconcile", "--once"),
    ("approve", "1", "--by", "ana", "--why", "first"),
    ("promote", "1"),
    ("register", "build/releases/v2"),
    ("reconcile", "--once"),
)
PRODUCT = """
import time, torch
torch.set_num_threads(2)
a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
def one():
    begun = time.perf_counter()
    a @ b
    return time.perf_counter() - begun
print(2 * 2048**3 / min(one() for _ in range(20)) / 1e9)
"""
CLIENT = """
import mlflow
client = mlflow.MlflowClient(tracking_uri={uri!r}, registry_uri={uri!r})
client.search_model_versions("name = 'tiny'")
"""
TORCH, MLFLOW, BOTH = "import torch", "MLflow's client with its store", "both imports"


@dataclass(frozen=True)
class Row:
    """A command and its goal: at most ``goal`` × ``reference``, or for :data:`BOTH` at most ``goal`` seconds more than it."""

    name: str
    args: tuple[str, ...]
    reference: str
    goal: float | None
    codes: tuple[int, ...] = (0,)  # exit codes of a run that counts


AS = ("--by", "ana", "--why", "measured")
SEARCH = "search by {}{}"
PLAIN = (
    Row("--help", ("--help",), TORCH, 0.12),
    Row("completion", (), TORCH, 0.12),
    Row("log", ("log",), TORCH, 0.3),
    Row("status", ("status",), TORCH, 0.5),
    Row("status --fresh", ("status", "--fresh"), MLFLOW, None),
    Row("adopt --dry-run of 300 rows", ("adopt", "rows.npy", "--as", "v1", "--dry-run", "--params", "adopt.yaml"), TORCH, 0.8),
    Row(SEARCH.format("id", ""), ("search", "--id", "ID"), TORCH, 0.5),
    Row(SEARCH.format("vector", ""), ("search", "--vector", "query.npy"), TORCH, 0.5),
    Row(SEARCH.format("image", ""), ("search", "IMAGE"), TORCH, 2.5),
    Row("doctor", ("doctor",), BOTH, 2.0, (0, 1)),  # 1: after a rollback the alias waits for the next look
)
DECIDED = (Row("reject", ("reject", "2", *AS), MLFLOW, 1.3), Row("approve", ("approve", "2", *AS), MLFLOW, 1.3))
SWITCHED = (Row("promote", ("promote", "2"), BOTH, 4.0), Row("rollback", ("rollback", *AS), TORCH, 1.2))
SERVED = (
    Row(SEARCH.format("id", ", through fct serve"), ("search", "--id", "ID"), TORCH, 0.5),
    Row(SEARCH.format("vector", ", through fct serve"), ("search", "--vector", "query.npy"), TORCH, 0.5),
    Row(SEARCH.format("image", ", through fct serve"), ("search", "IMAGE"), TORCH, 0.5),
)


class Meter:
    """Runs processes in a project's folder and keeps their processor seconds by name."""

    def __init__(self, folder: Path):
        self.folder, self.took, self.failed = folder, defaultdict[str, list[float]](list), dict[str, str]()
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}

    def run(self, name: str, *args: str, codes: tuple[int, ...] = (0,), **environment: str) -> None:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, *args], cwd=self.folder, env=self.environment | environment, stdout=said, stderr=subprocess.STDOUT
            )
            _, status, used = os.wait4(process.pid, 0)  # with what its own children used
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
        self.took[name].append(used.ru_utime + used.ru_stime)
        if process.returncode not in codes:
            self.failed[name] = text.splitlines()[-1] if text else str(process.returncode)
        print(f"{self.took[name][-1]:7.2f} s  {name}{': ' + self.failed[name] if name in self.failed else ''}", file=sys.stderr, flush=True)

    def references(self) -> None:
        self.run(TORCH, "-c", TORCH)
        self.run(MLFLOW, "-c", CLIENT.format(uri=f"sqlite:///{self.folder}/workspace/mlflow.db"))

    def measure(self, row: Row, fill: Callable[[str], str]) -> None:
        given = [fill(arg) for arg in row.args]
        completing = {"_FCT_COMPLETE": "complete_bash", "COMP_WORDS": "fct sta", "COMP_CWORD": "1"} if not given else {}
        self.run(row.name, str(Path(sys.executable).with_name("fct")), *given, codes=row.codes, **completing)


def made(folder: Path, given: Path | None) -> Project:
    """A project whose version 1 serves and whose version 2 waits for a person; 300 vectors of another one in ``rows.npy``."""
    project = Project(folder)
    if given is None:
        make_project(folder)
        for args in LIFE:
            ran = project.fct(*args)
            if ran.code:
                raise BadInput("the workspace to measure on could not be made", got=ran.err, where=" ".join(args))
    else:
        shutil.copytree(given, folder, symlinks=True)
        moved(Project(given), project)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    (folder / "adopt.yaml").write_text(yaml.safe_dump(params | {"model": "adopted", "workspace": "adopted"}), encoding="utf-8")
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(300, 32)).astype(np.float32))
    return project


@contextmanager
def serving(meter: Meter) -> Iterator[None]:
    """``fct serve`` in a process of its own, from its first readiness on."""
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=meter.folder, env=meter.environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if "Ctrl-C ends it" in line:
                    break
            yield
        finally:
            server.terminate()


def everything(project: Project, runs: int) -> Meter:
    meter, workspace = Meter(project.folder), project.workspace()
    serves = history.serving(workspace.ledger)
    assert serves is not None
    space = workspace.gallery.read_space(serves.space)
    items = workspace.gallery.items()
    one = int(np.flatnonzero(items["role"] == "item")[0])
    np.save(project.folder / "query.npy", space.vectors[0])
    words = {"ID": str(items["id"][one]), "IMAGE": str(items["image_uri"][one])}

    def fill(arg: str) -> str:
        return words.get(arg, arg)

    for known in (("status",), ("search", "--id", words["ID"])):  # as in any workspace in use: MLflow was asked before
        project.fct(*known)
    for _ in range(runs):
        meter.references()
        for row in (*PLAIN, *DECIDED, *SWITCHED):
            meter.measure(row, fill)
    with serving(meter):
        for _ in range(runs):
            for row in SERVED:
                meter.measure(row, fill)
    return meter


def summary(meter: Meter) -> dict[str, object]:
    cost = {name: median(values) for name, values in meter.took.items()}
    cost[BOTH] = cost[TORCH] + cost[MLFLOW]
    rows = []
    for row in (*PLAIN, *DECIDED, *SWITCHED, *SERVED):
        failed = meter.failed.get(row.name)
        took, beyond = cost[row.name], row.reference == BOTH
        ratio = took - cost[BOTH] if beyond else took / cost[row.reference]
        rows.append(
            {
                "command": row.name,
                "measured_s": None if failed else round(took, 2),
                "against": row.reference,
                "ratio": None if failed else round(ratio, 3),
                "unit": "s more" if beyond else "×",
                "goal": row.goal,
                "ok": None if row.goal is None else failed is None and ratio <= row.goal,
            }
        )
    return {"references_s": {name: round(cost[name], 2) for name in (TORCH, MLFLOW)}, "commands": rows}


def table(found: dict[str, object]) -> str:
    lines = [
        f"two threads, float32, 2048³: {found['gflops']} GFLOP/s",
        f"{'command':<38} {'measured s':>10}  {'compared with':<31} {'ratio':>7}        {'goal':>5}  ok",
    ]
    lines += [f"{name:<38} {seconds:>10.2f}" for name, seconds in found["references_s"].items()]  # type: ignore[attr-defined]
    for row in found["commands"]:  # type: ignore[attr-defined]
        shown = ["–" if row[key] is None else f"{row[key]:.2f}" for key in ("measured_s", "ratio", "goal")]
        ok = {None: "", True: "yes", False: "no"}[row["ok"]]
        lines.append(f"{row['command']:<38} {shown[0]:>10}  {row['against']:<31} {shown[1]:>7} {row['unit']:<6} {shown[2]:>5}  {ok}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3, help="processes of each command; their median counts")
    parser.add_argument("--as", dest="name", default="after", help="name that the results are kept by, beside those of other names")
    parser.add_argument("--project", type=Path, help="copy this project in place of making one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        meter = everything(made(Path(place) / "project", given.project), given.runs)
    product = subprocess.run([sys.executable, "-c", PRODUCT], capture_output=True, text=True, check=True)
    found = {"gflops": round(float(product.stdout)), "machine": {"cpus": os.cpu_count(), "machine": platform.machine()}} | summary(meter)
    write_json(OUT, (read_json(OUT) if OUT.exists() else {}) | {given.name: found})
    print(table(found))


if __name__ == "__main__":
    main()
