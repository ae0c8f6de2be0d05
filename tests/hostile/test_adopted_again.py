"""An adopted item whose deletion was killed comes again with another vector."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import did

KILLED = """
import os, signal, sys
from fct.gallery import tables
from registry.items import deletion
from registry.workspace import open_workspace
delete = tables.delete_rows

def deletes(root, name, ids):
    if name.startswith("spaces/"):
        os.kill(os.getpid(), signal.SIGKILL)
    return delete(root, name, ids)

tables.delete_rows = deletes
deletion.delete(open_workspace(), sys.argv[1:], by="ana")
"""


def test_an_adopted_item_whose_deletion_was_killed_comes_again_with_its_own_row(copy_of: Copies, tmp_path: Path) -> None:
    project, rng = copy_of(), np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    ids = [f"item-{number:03}" for number in range(300)]
    pq.write_table(
        pa.table({"id": ids, "vector": list(vectors), "label": [f"class-{n % 10}" for n in range(300)]}), tmp_path / "all.parquet"
    )
    did(project, "adopt", str(tmp_path / "all.parquet"), "--as", "v1")
    did(project, "upgrade", "1")
    did(project, "approve", "1", "--by", "ana", "--why", "what we have")
    did(project, "promote", "1")
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_HOME"} | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", KILLED, "item-005"], cwd=project.folder, env=environment).returncode == -9
    other = rng.normal(size=(1, 16)).astype(np.float32)
    pq.write_table(pa.table({"id": ["item-005"], "vector": list(other), "label": ["class-5"]}), tmp_path / "one.parquet")
    ran = project.fct("adopt", str(tmp_path / "one.parquet"), "--as", "v1")
    print(ran.code, ran.out, ran.err)
    gallery = project.workspace().gallery
    (batch,) = gallery.features(1, ids=np.array(["item-005"]))
    assert np.allclose(batch.phi, other)
    serving = project.workspace().ledger.serving()
    rows = gallery.read_space(serving["space"])
    assert np.allclose(rows.vectors[rows.ids == "item-005"], other), "the row under the id is of the vector that was deleted"
