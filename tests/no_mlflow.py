"""MLflow's door in memory: a registry that holds versions, tags, the alias and candidates' runs, for tests that ask no MLflow.

tests/unit/mlflow/test_no_mlflow.py compares its answers with those of the real one.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from fct.errors import BadInput
from registry.mlflow.releases import Releases
from registry.mlflow.store import DESCRIPTION_LIMIT, Version
from registry.workspace import Workspace


class NoMlflow(Releases):
    """What talks to MLflow in :class:`Releases`, in memory; what is computed from its answers is inherited."""

    def __init__(self, uri: str, model: str, folder: Path, *more: Any) -> None:
        super().__init__(uri, model, folder, *more)
        self.known: dict[int, Version] = {}
        self.tags: dict[str, str] = {}
        self.alias: int | None = None
        self.runs: dict[str, tuple[int, Path]] = {}
        self.forwards: list[tuple[str, str]] = []  # digest and card of each h
        self.place = folder / "no-mlflow"

    def copy_to(self, other: NoMlflow, root: Path, new_root: Path) -> None:
        """Let another door know the same, of files that were copied from below ``root`` to below ``new_root``."""

        def moved(path: Path) -> Path:
            return new_root / path.relative_to(root)

        for number, one in self.known.items():
            other.known[number] = replace(one, tags=dict(one.tags), source=str(moved(Path(one.source))))
        other.runs = {run_id: (number, moved(path)) for run_id, (number, path) in self.runs.items()}
        other.tags, other.alias, other.forwards = dict(self.tags), self.alias, list(self.forwards)

    @property
    def client(self) -> Any:
        raise AssertionError("this asks MLflow itself")

    @property
    def nothing_there(self) -> bool:
        return False

    def _ensure_model(self, name: str, tags: dict[str, str], description: str) -> None:
        self.tags = tags | self.tags

    def _publish(self, name: str, folder: Path, path: str, run_name: str, tags: dict[str, str], metrics: dict[str, float]) -> int:
        number = len(self.known) + 1
        source = shutil.copytree(folder, self.place / f"v{number}" / path)
        self.known[number] = Version(number, f"run of {number}", str(source), dict(tags))
        return number

    def versions(self) -> list[Version]:
        return [replace(one, tags=dict(one.tags)) for one in self.known.values()]

    def folder_of(self, number: int) -> Path:
        return self._found(number, Path(self.version(number).source))

    def _model_tags(self) -> dict[str, str]:
        return dict(self.tags)

    def set_head_tag(self, value: str) -> None:
        self.tags["fct.head"] = value

    def tag(self, number: int, key: str, value: str) -> None:
        self.version(number)
        self.known[number].tags[key] = value

    def untag(self, number: int, key: str) -> None:
        self.version(number)
        self.known[number].tags.pop(key, None)

    def describe(self, number: int, text: str) -> None:
        if len(text) > DESCRIPTION_LIMIT:
            raise BadInput("the description is too long for MLflow", got=len(text))
        self.known[number] = replace(self.version(number), description=text)

    def champion(self) -> int | None:
        return self.alias

    def follow(self, number: int) -> None:
        self.alias = self.version(number).number

    def publish_candidate(self, number: int, files: dict[str, Path], metrics: dict[str, float], run_name: str) -> str:
        run_id = f"candidate-{len(self.runs) + 1}"
        self.runs[run_id] = (number, self.place / run_id)
        self.runs[run_id][1].mkdir(parents=True)
        for path in files.values():
            self.replace_candidate_file(run_id, path)
        return run_id

    def artifact_page(self, run_id: str, name: str) -> str:
        return f"#/experiments/1/runs/{run_id}/artifacts/{name}"

    def publish_forward(self, folder: Path, digest: str, old: int, new: int, card: str) -> int:
        known = [digest for digest, _ in self.forwards]
        if digest not in known:
            self.forwards.append((digest, card))
            known.append(digest)
        return known.index(digest) + 1

    def candidate_runs(self, number: int) -> list[str]:
        return [run_id for run_id, (version, _) in self.runs.items() if version == number]

    def candidate_file(self, run_id: str, name: str) -> Path:
        return self.runs[run_id][1] / name

    def replace_candidate_file(self, run_id: str, path: Path) -> None:
        shutil.copyfile(path, self.runs[run_id][1] / path.name)


def at_door(workspace: Workspace) -> NoMlflow:
    """Put one at a workspace's door in the place of MLflow."""
    door = NoMlflow(workspace.tracking_uri, workspace.settings.model, workspace.folder, (), workspace.has_served)
    workspace.__dict__["_releases"] = door
    assert workspace.releases is door
    return door
