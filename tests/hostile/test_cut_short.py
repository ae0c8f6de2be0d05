"""A deletion that was killed before its entry has not happened: later entries of other commands do not make it happen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import did, pictured

KILLED = """
import os, signal, sys
from registry.items import deletion
from registry.workspace import open_workspace
deletion._record = lambda *arguments, **named: os.kill(os.getpid(), signal.SIGKILL)
deletion.delete(open_workspace(), sys.argv[1:], by="ana")
"""


def test_a_deletion_killed_before_its_entry_does_not_happen_by_the_next_ingest(copy_serving: Copies, tmp_path: Path) -> None:
    project = copy_serving()
    workspace = project.workspace()
    name = str(workspace.gallery.item_ids(role="item")[5])
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", KILLED, name], cwd=project.folder, env=environment).returncode == -9
    assert name in did(project, "search", "--id", name)  # it has not happened
    did(project, "ingest", str(pictured(tmp_path / "other", "other.png", 9)))
    actions = [entry.action for entry in workspace.ledger.entries()]
    print(actions)
    assert "delete" in actions or project.fct("search", "--id", name).code == 0, "it is gone, and no entry says so"
