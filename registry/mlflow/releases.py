"""The door to MLflow: releases, forward transformations and candidates as versions of registered models."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct.arrays import digests
from fct.arrays.files import whole_folder
from fct.errors import Altered, NotPermitted, OperationFailed, Unreachable
from registry.mlflow import places, sources

if TYPE_CHECKING:
    from fct.release.folder import Release
from registry.mlflow.candidates import Candidates
from registry.mlflow.store import GALLERY_TAG, RELEASE_TAG
from registry.mlflow.webhooks import Webhooks

NOT_THERE = ("No such artifact", "No such file", "not found", "Not Found", "NOT_EXIST", "does not exist", "404")
SILENCE_S = 60.0  # without a further byte of a download
LOOK_S = 0.05


class Missing(OperationFailed):
    """What a version names is not in the store."""

    code = "not-there"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _tree(folder: Path) -> dict[str, str]:
    """Files below a folder and their digests."""
    return {path.relative_to(folder).as_posix(): digests.of_file(path) for path in folder.rglob("*") if path.is_file()}


class Releases(Webhooks, Candidates):
    """Versions of one registered model in an MLflow registry, and their files (:class:`registry.mlflow.store.Store` has the arguments)."""

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
                raise OperationFailed("the release cannot be downloaded: its store does not answer", where=source, todo="try again")
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
