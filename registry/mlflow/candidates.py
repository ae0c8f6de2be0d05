"""Candidates in MLflow: a run for each verdict, with its report and tables; and h's as versions of a model of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fct.errors import BadInput
from registry.mlflow import sources

if TYPE_CHECKING:
    pass
from registry.mlflow.store import DESCRIPTION_LIMIT, Store


class Candidates(Store):
    """What upgrades put before people."""

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
            raise BadInput("a file of the candidate's run cannot be downloaded", got=str(error).splitlines()[0], wanted=name) from error

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
