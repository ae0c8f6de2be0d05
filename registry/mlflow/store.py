"""One registered model in an MLflow registry: its versions, tags, alias and runs, and MLflow's errors in one sentence."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct.arrays import digests
from fct.errors import BadInput, NotPermitted, Unreachable
from registry.mlflow import sources

if TYPE_CHECKING:
    pass

GALLERY_TAG = "fct.gallery"
STATUS_TAG = "fct.status"
VERDICT_TAG = "fct.verdict"
RELEASE_TAG = "fct.release"
HEAD_TAG = "fct.head"  # on the registered model: the ledger's newest entry (registry/mark.py)
NO_SERVER = "mlflow-artifacts URI was supplied"  # MLflow's words where artifacts are with a server that is not there
NOTE_TAG = "fct.note"  # why a decision that somebody wrote does not count
OURS = (STATUS_TAG, VERDICT_TAG, RELEASE_TAG, NOTE_TAG)  # tags that only we write
CHAMPION = "champion"
DESCRIPTION_LIMIT = 4500  # PostgreSQL's column holds 5,000
SQLITE = "sqlite:///"
WRITES = ("create_", "set_", "delete_", "update_")


def plain_name(model: str) -> str:
    """A registered model's name for tools that take few characters; where it is changed, a few digits of its own keep it apart."""
    plain = re.sub("[^A-Za-z0-9]+", "-", model).strip("-")[:40].strip("-") or "model"
    return plain if plain == model else f"{plain}-{digests.of_json(model)[:6]}"


@dataclass(frozen=True)
class Version:
    """One version of a registered model, as MLflow tells."""

    number: int
    run_id: str | None
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


class Store:
    """Versions of one registered model in an MLflow registry.

    Args:
        uri: of the tracking server or store. model: name of the registered model.
        folder: the workspace; artifacts of an embedded store go below it.
        artifact_roots: where artifacts may lie besides (:mod:`registry.mlflow.sources`). approved: as of :class:`fct.release.Release`.
    """

    def __init__(
        self,
        uri: str,
        model: str,
        folder: Path,
        artifact_roots: tuple[str, ...] = (),
        approved: Callable[[str], bool] = lambda _: False,
    ):
        self.uri, self.model, self.folder, self._approved = uri, model, folder, approved
        self._roots = sources.roots(uri, folder, artifact_roots)
        self._fetched: dict[int, str] = {}  # version → source whose files are in the cache

    @property
    def file(self) -> Path | None:
        """MLflow's own store, where it is a file that we open ourselves."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    @property
    def copy(self) -> Path:
        """Where :mod:`registry.mlflow.seen` keeps what MLflow said last."""
        return self.folder / "seen" / f"{self.model}.json"

    @property
    def nothing_there(self) -> bool:
        """Whether nobody ever wrote to the store; asking MLflow would only make it."""
        return self.file is not None and not self.file.exists()

    @cached_property
    def client(self) -> Any:
        if self.uri.startswith("http"):
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # where nobody listens this is soon over
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow

            return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """One MLflow call; an unreachable server, and one that does not let us, become one sentence."""
        from mlflow.exceptions import MlflowException, RestException

        if method.startswith(WRITES):
            self.copy.unlink(missing_ok=True)
        try:
            return getattr(self.client, method)(*args, **kwargs)
        except MlflowException as error:
            if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
                who = os.environ.get("MLFLOW_TRACKING_USERNAME")
                raise NotPermitted(
                    f"MLflow does not let {ascii(who) if who else 'us'} do this ({method.replace('_', ' ')})",
                    where=self.uri,
                    todo="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask for edit permission on the model",
                ) from error
            if not isinstance(error, RestException):
                self._raise_if_unreachable(error)
            raise

    def _raise_if_unreachable(self, error: Exception) -> None:
        text = f"{type(error).__name__} {error}"
        if "failed with exception" in text or "Max retries" in text or "Connection" in text or "too many 50" in text or NO_SERVER in text:
            raise Unreachable(
                "the MLflow tracking server cannot be reached",
                where=self.uri,
                todo="start it or correct tracking_uri, then run the same command again",
            ) from error

    def _missing(self, error: Exception) -> bool:
        return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"

    def _experiment(self) -> str:
        found = self._call("get_experiment_by_name", self.model)
        if found is not None:  # somebody else may have made it: what is written there is read again, and is not everybody's to have
            sources.admit(str(found.artifact_location), self._roots, f"the MLflow experiment {self.model}")
            return str(found.experiment_id)
        artifacts = None if self.uri.startswith("http") else (self.folder / "artifacts" / self.model).as_uri()
        return str(self._call("create_experiment", self.model, artifact_location=artifacts))

    def _ensure_model(self, name: str, tags: dict[str, str], description: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            there = dict(self._call("get_registered_model", name).tags)
            for key in tags.keys() - there.keys():  # a model that plain MLflow made
                self._call("set_registered_model_tag", name, key, tags[key])
        except MlflowException as error:
            if not self._missing(error):
                raise
            self._call("create_registered_model", name, tags=tags, description=description)

    def _publish(self, name: str, folder: Path, path: str, run_name: str, tags: dict[str, str], metrics: dict[str, float]) -> int:
        run = self._call("create_run", self._experiment(), run_name=run_name)
        run_id = run.info.run_id
        self._call("log_artifacts", run_id, str(folder), path)
        for key, value in metrics.items():
            self._call("log_metric", run_id, key, value)
        self._call("set_terminated", run_id)
        version = self._call("create_model_version", name, source=f"{run.info.artifact_uri}/{path}", run_id=run_id, tags=tags)
        return int(version.version)

    def versions(self) -> list[Version]:
        """All versions, ascending; none when the model is not registered."""
        if self.nothing_there:
            return []
        found = self._call("search_model_versions", f"name = '{self.model}'")
        described = [Version(int(v.version), v.run_id, v.source, dict(v.tags or {}), v.description or "") for v in found]
        return sorted(described, key=lambda v: v.number)

    def is_ours(self) -> bool:
        """Whether the registered model exists and carries our gallery tag."""
        return GALLERY_TAG in self._model_tags()

    def _model_tags(self) -> dict[str, str]:
        """Tags of the registered model, none where there is no such model."""
        if self.nothing_there:
            return {}
        from mlflow.exceptions import MlflowException

        try:
            return dict(self._call("get_registered_model", self.model).tags)
        except MlflowException as error:
            if self._missing(error):
                return {}
            raise

    def head_tag(self) -> str:
        """What MLflow says of the ledger's head, empty where it says nothing."""
        return self._model_tags().get(HEAD_TAG, "")

    def set_head_tag(self, value: str) -> None:
        self._call("set_registered_model_tag", self.model, HEAD_TAG, value)

    def version(self, number: int) -> Version:
        """One version. BadInput when it is not registered; the message names those that are."""
        known = self.versions()
        for version in known:
            if version.number == number:
                return version
        raise BadInput(
            f"{self.model} has no version {number}",
            wanted=f"one of {[v.number for v in known]}" if known else "a registered version",
            todo="register it with `fct register FOLDER`",
        )

    def tag(self, number: int, key: str, value: str) -> None:
        self._call("set_model_version_tag", self.model, str(number), key, value)

    def untag(self, number: int, key: str) -> None:
        if key in self.version(number).tags:
            self._call("delete_model_version_tag", self.model, str(number), key)

    def mark(self, number: int, status: str, digest: str | None = None) -> None:
        """Copy a status, and the digest of a verdict, for people."""
        self.tag(number, STATUS_TAG, status)
        if digest is not None:
            self.tag(number, VERDICT_TAG, digest)

    def describe(self, number: int, text: str) -> None:
        if len(text) > DESCRIPTION_LIMIT:
            raise BadInput("the description is too long for MLflow", wanted=f"at most {DESCRIPTION_LIMIT} characters", got=len(text))
        self._call("update_model_version", self.model, str(number), text)

    def champion(self) -> int | None:
        """The version that the alias ``champion`` points at; for people, it decides nothing."""
        if self.nothing_there:
            return None
        from mlflow.exceptions import MlflowException

        try:
            return int(self._call("get_model_version_by_alias", self.model, CHAMPION).version)
        except MlflowException:
            return None

    def follow(self, number: int) -> None:
        """Let the alias ``champion`` follow the ledger."""
        self._call("set_registered_model_alias", self.model, CHAMPION, str(number))

    def page_of(self, number: int) -> str | None:
        """The version's page in the MLflow UI, None without a server."""
        from urllib.parse import quote

        return f"{self.uri.rstrip('/')}/#/models/{quote(self.model, safe='')}/versions/{number}" if self.uri.startswith("http") else None

    def artifact_page(self, run_id: str, name: str) -> str:
        """Where the MLflow UI shows a file of a run, relative to its other pages."""
        experiment = self._call("get_run", run_id).info.experiment_id
        return f"#/experiments/{experiment}/runs/{run_id}/artifacts/{name}"
