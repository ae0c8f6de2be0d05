"""The door to MLflow: releases, forward transformations and candidates as versions of registered models."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct.arrays import digests
from fct.arrays.files import whole_folder
from fct.errors import Altered, BadInput, NotPermitted, OperationFailed, Unreachable
from registry.mlflow import places, sources

if TYPE_CHECKING:
    from fct.release.folder import Release

GALLERY_TAG = "fct.gallery"
STATUS_TAG = "fct.status"
VERDICT_TAG = "fct.verdict"
RELEASE_TAG = "fct.release"
HEAD_TAG = "fct.head"  # on the registered model: the ledger's newest entry (registry/mark.py)
NO_SERVER = "mlflow-artifacts URI was supplied"  # MLflow's words where artifacts are with a server that is not there
NOTE_TAG = "fct.note"  # why a decision that somebody wrote does not count
NOT_THERE = ("No such artifact", "No such file", "not found", "Not Found", "NOT_EXIST", "does not exist", "404")
OURS = (STATUS_TAG, VERDICT_TAG, RELEASE_TAG, NOTE_TAG)  # tags that only we write
WEBHOOK_EVENTS = (
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
)
CHAMPION = "champion"
DESCRIPTION_LIMIT = 4500  # PostgreSQL's column holds 5,000
SQLITE = "sqlite:///"
SILENCE_S = 60.0  # without a further byte of a download
LOOK_S = 0.05
WRITES = ("create_", "set_", "delete_", "update_")


def plain_name(model: str) -> str:
    """A registered model's name for tools that take few characters; where it is changed, a few digits of its own keep it apart."""
    plain = re.sub("[^A-Za-z0-9]+", "-", model).strip("-")[:40].strip("-") or "model"
    return plain if plain == model else f"{plain}-{digests.of_json(model)[:6]}"


class Missing(OperationFailed):
    """What a version names is not in the store."""

    code = "not-there"


@dataclass(frozen=True)
class Version:
    """One version of a registered model, as MLflow tells."""

    number: int
    run_id: str | None
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _tree(folder: Path) -> dict[str, str]:
    """Files below a folder and their digests."""
    return {path.relative_to(folder).as_posix(): digests.of_file(path) for path in folder.rglob("*") if path.is_file()}


class Releases:
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

    def register(self, folder: str | Path, gallery_uri: str) -> int:
        """Publish a release folder as the next version.

        Returns:
            the version's number; the same one when exactly this release is registered already.

        Raises:
            BadInput: a piece of the contract is missing, by name. Unreachable: MLflow cannot be reached.
        """
        from fct.release.examining import open_release

        release = open_release(folder)
        for version in self.versions():
            if version.tags.get(RELEASE_TAG) == release.digest():
                return version.number
        self._ensure_model(
            self.model,
            {GALLERY_TAG: gallery_uri},
            "Embedding model with forward-compatible releases: each version carries side-information, so that the gallery can follow to the next one.",
        )
        return self._publish(
            self.model,
            release.folder,
            "release",
            f"{self.model} release",
            {RELEASE_TAG: release.digest(), "fct.fingerprint": release.fingerprint},
            release.about["measurements"],
        )

    def would_become(self, folder: str | Path) -> int:
        """The number that :meth:`register` would give a release folder, after the same checks; nothing is written."""
        from fct.release.examining import open_release

        digest = open_release(folder).digest()
        versions = self.versions()
        same = [one.number for one in versions if one.tags.get(RELEASE_TAG) == digest]
        return same[0] if same else max((one.number for one in versions), default=0) + 1

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

    def folder_of(self, number: int) -> Path:
        """The version's artifacts as a local folder: the store's own files where it is local, else a download, once a process.

        Raises:
            NotPermitted: they lie where nothing is fetched from. Missing: there are none. OperationFailed: they cannot be had now.
        """
        from fct.release.folder import FILES

        source = sources.resolved(self.client, self.version(number).source)
        if source.startswith(f"{sources.PROXY}:") and not self.uri.startswith("http"):
            raise Unreachable(
                "the MLflow server that keeps the release's artifacts does not run", where=source, todo="start it with `fct up`"
            )
        sources.admit(source, self._roots, f"version {number} of {self.model}")
        folder = sources.local(source)
        if folder is not None:
            root = next(Path(sources.local(root) or "") for root in self._roots if sources.below(source, root))
            sources.contained(folder, FILES, root)
            return self._found(number, folder)
        target = self.folder / "cache" / f"{self.model}-v{number}"
        if self._fetched.get(number) == source and target.is_dir():
            return target
        from mlflow.exceptions import MlflowException

        try:
            with tempfile.TemporaryDirectory(dir=_made(target.parent), ignore_cleanup_errors=True) as place:
                fresh = self._download(source, Path(place))
                if _tree(fresh) != _tree(target):  # others may be reading it: what is the same stays
                    with whole_folder(target) as part:
                        shutil.copytree(fresh, part, dirs_exist_ok=True)
                self._fetched[number] = source
                return self._found(number, target)
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            self._raise_if_unreachable(error)
            text = str(error)
            kind = Missing if any(word in text for word in NOT_THERE) else OperationFailed
            raise kind("the release cannot be downloaded", got=text.splitlines()[0], where=source, todo="try again") from error

    def _download(self, source: str, place: Path) -> Path:
        """Artifacts below ``place``. Missing where the store has its own complaint, as about a source that it does not know. A store that says nothing for :data:`SILENCE_S` is given up; what it was asked with ends by itself."""
        import mlflow
        from mlflow.exceptions import MlflowException

        done: list[Any] = []

        def fetch() -> None:
            try:
                done.append(Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(place), tracking_uri=self.uri)))
            except BaseException as error:
                done.append(error)

        worker = threading.Thread(target=fetch, name="download", daemon=True)
        worker.start()
        had, since = -1, time.monotonic()
        while worker.is_alive():
            worker.join(LOOK_S)
            now = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
            if now != had:
                had, since = now, time.monotonic()
            elif worker.is_alive() and time.monotonic() - since > SILENCE_S:
                raise OperationFailed("the release cannot be downloaded: its store says nothing", where=source, todo="try again")
        error = done[0]
        if isinstance(error, (MlflowException, OSError)) or (isinstance(error, BaseException) and not isinstance(error, Exception)):
            raise error
        if isinstance(error, Exception):
            raise Missing(f"its artifacts cannot be had from {source}: {_first_line(error)}") from error
        return Path(error)

    def _found(self, number: int, folder: Path) -> Path:
        places.remember(self.folder, self.model, number, folder)
        return folder

    def contract_problems(self, number: int) -> list[str]:
        """What a version lacks to be a release, one sentence each; artifacts that cannot be had are a problem too.

        Raises:
            OperationFailed: the artifacts cannot be had now (which says nothing about the release).
        """
        from mlflow.exceptions import MlflowException

        from fct.release.examining import problems

        version = self.version(number)
        try:
            folder = self.folder_of(version.number)
        except (Missing, NotPermitted) as error:
            return [str(error)]
        except MlflowException as error:  # the run that it names is gone
            return [f"its artifacts cannot be had from {version.source}: {_first_line(error)}"]
        return problems(folder)  # a full disk or a store's bad moment says nothing about the release, and is raised

    def release(self, number: int, *, check: bool = True) -> Release:
        """Open the release of a version as it was registered. One that has served is opened by :func:`registry.revisions.kept.opened`.

        Raises:
            Altered: it is not the one that was registered.
        """
        from fct.release.examining import open_release

        version = self.version(number)
        folder = self.folder_of(number)
        release = open_release(folder, check=check, run=False)
        if check and not self._approved(release.digest()):  # of one that has served the digest is the proof
            release = open_release(folder)
        declared = version.tags.get(RELEASE_TAG)
        if declared is not None and declared != release.digest():
            raise Altered(
                f"version {number} of {self.model} is not the release that was registered",
                wanted=declared[:12],
                got=release.digest()[:12],
                todo="restore its artifacts or register a new version",
            )
        return replace(release, approved=self._approved)

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

    def webhook(self, url: str, secret: str) -> str:
        """See to it that the server tells ``url`` what happens, signed with ``secret``. Returns the webhook's id; running it again changes nothing.

        Raises:
            OperationFailed: the server refuses (http and private addresses must be allowed there, docs/operations.md).
        """
        from mlflow.exceptions import MlflowException

        name = f"fct-{plain_name(self.model)}"
        self._call("search_registered_models", max_results=1)  # whether it answers at all
        wanted = {"url": url, "events": list(WEBHOOK_EVENTS), "secret": secret, "status": "ACTIVE"}
        try:
            there = [one for one in self._call("list_webhooks") if one.name == name]
            if there:
                self._call("update_webhook", there[0].webhook_id, **wanted)
                return str(there[0].webhook_id)
            return str(
                self._call("create_webhook", name=name, description="Tells the upgrade that the registry changed.", **wanted).webhook_id
            )
        except Unreachable as error:
            raise OperationFailed(
                "MLflow answers, and fails at its webhooks; was its encryption key changed?",
                where=self.uri,
                todo="docs/troubleshooting.md, webhook.key",
            ) from error
        except MlflowException as error:
            raise OperationFailed(
                "MLflow does not take the webhook", got=str(error).splitlines()[0], where=self.uri, todo="see docs/operations.md, webhooks"
            ) from error

    def test_webhook(self) -> str | None:
        """Let the server make a test delivery. None when it arrived, else what went wrong; also where there is no webhook."""
        for one in self._call("list_webhooks"):
            if one.name == f"fct-{plain_name(self.model)}":
                said = self._call("test_webhook", one.webhook_id)
                if said.success:
                    return None
                return f"{said.error_message or 'refused'} (HTTP {said.response_status}) {said.response_body or ''}".strip()[:300]
        return "the webhook is not registered"

    def publish_candidate(self, number: int, files: dict[str, Path], metrics: dict[str, float], run_name: str) -> str:
        """Log a candidate's verdict, report and tables to a run of their own. Returns the run's id."""
        run_id = self._call("create_run", self._experiment(), run_name=run_name, tags={"fct.candidate": str(number)}).info.run_id
        for path in files.values():
            self._call("log_artifact", run_id, str(path))
        for key, value in metrics.items():
            self._call("log_metric", run_id, key, value)
        self._call("set_terminated", run_id)
        return str(run_id)

    def candidate_runs(self, number: int) -> list[str]:
        """Ids of the runs that candidate files of a version were logged to, one for each verdict."""
        found = self._call("search_runs", [self._experiment()], f"tags.`fct.candidate` = '{number}'")
        return [str(run.info.run_id) for run in found]

    def candidate_file(self, run_id: str, name: str) -> Path:
        """A file of a candidate's run, from the store."""
        uri = self._call("get_run", run_id).info.artifact_uri
        sources.admit(uri, self._roots, f"the candidate's run {run_id}")
        folder = sources.local(uri)
        if folder is not None:
            return folder / name
        from mlflow.exceptions import MlflowException

        target = self.folder / "cache" / f"run-{run_id}"
        target.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self._call("download_artifacts", run_id, name, str(target)))
        except MlflowException as error:
            raise BadInput("a file of the candidate's run cannot be had", got=str(error).splitlines()[0], wanted=name) from error

    def replace_candidate_file(self, run_id: str, path: Path) -> None:
        """Put another content in the place of a file of a candidate's run. A bucket with versions of its own keeps the old one."""
        self._call("log_artifact", run_id, str(path))

    def publish_forward(self, folder: Path, digest: str, old: int, new: int, card: str) -> int:
        """Register an h as a version of ``<model>-forward``; the same version when this h is there already."""
        name = f"{self.model}-forward"
        self._ensure_model(name, {"fct.forward_of": self.model}, f"Forward transformations between the spaces of {self.model}.")
        for version in self._call("search_model_versions", f"name = '{name}'"):
            if dict(version.tags or {}).get("fct.digest") == digest:
                return int(version.version)
        number = self._publish(
            name, folder, "h", f"h v{old} to v{new}", {"fct.digest": digest, "fct.from": str(old), "fct.to": str(new)}, {}
        )
        self._call("update_model_version", name, str(number), card[:DESCRIPTION_LIMIT])
        return number
