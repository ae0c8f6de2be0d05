"""MLflow's store is lost, and somebody cleans up."""

from __future__ import annotations

from tests.end_to_end.conftest import Copies


def test_gc_with_mlflow_lost_keeps_what_a_person_may_still_approve(copy_waiting: Copies) -> None:
    project = copy_waiting()
    workspace = project.workspace()
    spaces = [one for one in workspace.gallery.tables() if one.startswith("spaces/v2")]
    assert spaces
    (project.folder / "workspace/mlflow.db").rename(project.folder / "mlflow.db.away")
    ran = project.fct("gc", "--yes")
    print(ran.code, ran.out, ran.err)
    there = project.workspace().gallery.tables()
    assert set(spaces) <= set(there), f"dropped while MLflow was away: {ran.out}"
