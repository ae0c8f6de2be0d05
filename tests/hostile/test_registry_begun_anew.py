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


def test_gc_with_a_store_begun_anew_keeps_what_was_measured_before(copy_waiting: Copies) -> None:
    """The new store knows what serves, and not yet what waits: nobody has said that it is over."""
    project = copy_waiting()
    spaces = {one for one in project.workspace().gallery.tables() if one.startswith("spaces/v2")}
    (project.folder / "workspace/mlflow.db").rename(project.folder / "mlflow.db.away")
    assert project.fct("register", "build/releases/v1").code == 0
    ran = project.fct("gc", "--yes")
    print(ran.code, ran.out, ran.err)
    assert ran.code == 0 and spaces and spaces <= set(project.workspace().gallery.tables())
