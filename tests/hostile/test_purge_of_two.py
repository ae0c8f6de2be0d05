"""A purge of an item that lives and of one that was deleted before looks for the vectors of both."""

from __future__ import annotations

import numpy as np

from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import did


def test_the_vectors_of_an_item_that_was_deleted_before_are_looked_for_too(copy_serving: Copies) -> None:
    project = copy_serving()
    workspace = project.workspace()
    first, second = workspace.gallery.item_ids(role="item")[[3, 90]].tolist()
    (batch,) = workspace.gallery.features(1, ids=np.array([first]))
    stray = project.folder / "workspace" / "cache" / "somebody.bin"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"\0" * 100 + batch.phi.tobytes() + b"\0" * 100)
    did(project, "delete", first, "--by", "ana", "--why", "not this one")
    ran = project.fct("delete", first, second, "--by", "ana", "--why", "request 4711", "--purge")
    print(ran.code, ran.out, ran.err)
    assert ran.code == 1 and "somebody.bin" in ran.err, "a vector of a purged item is left, and the purge says that all is well"
