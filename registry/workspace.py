"""One folder holds all state: MLflow store, Prefect home, gallery tables, indexes, ledger, locks, work in progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from registry import running
from registry.params import read
from registry.settings import Settings

if TYPE_CHECKING:
    from fct.gallery.gallery import Gallery
    from registry.ledger import Ledger
    from registry.mlflow.releases import Releases

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # no server appears that nobody started
}


@dataclass(frozen=True)
class Workspace:
    """Settings and the places they name. ``params`` is the path of params.yaml."""

    params: Path
    settings: Settings

    @property
    def root(self) -> Path:
        return self.params.parent

    @property
    def folder(self) -> Path:
        return (self.root / self.settings.workspace).absolute()

    @property
    def data(self) -> Path:
        """Output of the stage ``data``: manifest and images."""
        return self.root / "build" / "data"

    @property
    def mlflow_store(self) -> str:
        """MLflow's database: what its server, or without one each command, keeps runs and versions in."""
        database = self.settings.services.mlflow_database.replace("postgresql://", "postgresql+psycopg2://", 1)
        return database or f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def tracking_uri(self) -> str:
        """The server of params.yaml, else the one that ``fct up`` has started, else the store itself."""
        return self.settings.tracking_uri or running.url(self.folder, "mlflow") or self.mlflow_store

    @cached_property
    def gallery(self) -> Gallery:
        from fct.gallery.gallery import Gallery

        return Gallery(self.folder / "gallery" / self.settings.model)

    def fenced(self, check: Callable[[], None]) -> Workspace:
        """The same workspace, whose gallery is written by the holder of a lock (:meth:`fct.gallery.Gallery.fenced`)."""
        found = copy(self)
        found.__dict__["gallery"] = self.gallery.fenced(check)
        return found

    @cached_property
    def ledger(self) -> Ledger:
        from registry.ledger import Ledger

        seen = self.folder / "gallery" / self.settings.model / "head.json"  # beside the tables: a backup of the rest does not bring it back
        return Ledger(self.folder / "ledger" / self.settings.model, seen)

    def has_served(self, digest: str) -> bool:
        """Whether a release ever served: somebody has approved it."""
        return self.ledger.has_served(digest)

    @property
    def releases(self) -> Releases:
        """The door to MLflow; another one when its server came or went meanwhile."""
        from registry.mlflow.releases import Releases

        uri, found = self.tracking_uri, self.__dict__.get("_releases")
        if found is None or found.uri != uri:
            found = self.__dict__["_releases"] = Releases(
                uri, self.settings.model, self.folder, self.settings.registry.artifact_roots, self.has_served
            )
        return found  # type: ignore[no-any-return]

    @property
    def locks(self) -> Path:
        return self.folder / "locks"

    @property
    def ledger_lock(self) -> str:
        """Name of the lock for writers of the ledger: promote, rollback, ingest. An upgrade does not hold it, so ingest never waits for one."""
        return f"{self.settings.model}-ledger"

    def upgrade_folder(self, version: int) -> Path:
        return self.folder / "upgrades" / f"{self.settings.model}-v{version}"

    def adopted_folder(self, version: int) -> Path:
        """Given pairs of a release that was adopted: what h is fitted and judged on in place of images."""
        return self.folder / "adopted" / f"{self.settings.model}-v{version}"

    def index_folder(self, digest: str) -> Path:
        """An index is identified by what it was built from and how; another one gets another folder."""
        return self.folder / "indexes" / self.settings.model / digest[:16]


def open_workspace(params: str | Path = "params.yaml") -> Workspace:
    """Read params.yaml and point every tool at the workspace (telemetry off, nothing in the home directory).

    Raises:
        BadInput: as :func:`registry.params.read`.

    Examples:
        In a new project's folder, where nothing was ingested yet and nothing serves.

        >>> from registry.workspace import open_workspace
        >>> workspace = open_workspace("params.yaml")
        >>> workspace.settings.fit.method, workspace.upgrade_folder(2).name
        ('fastfill-pool', 'icons-v2')
        >>> workspace.ledger.release() is None, workspace.ledger.entries()
        (True, [])
        >>> open_workspace("elsewhere.yaml")
        Traceback (most recent call last):
        fct.errors.BadInput: there is no params.yaml here; wanted elsewhere.yaml; in ...
    """
    path = Path(params)
    settings = read(path)
    workspace = Workspace(path.absolute(), settings)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(workspace.folder / "prefect"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # an expected error is one sentence of ours, not a traceback
    return workspace
