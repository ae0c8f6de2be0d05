"""Backfill reads the image that stands at an item's path now; another picture there is not the item's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import Copies
from tests.hostile.test_came_again import did, pictured


@pytest.mark.xfail(strict=True, reason="not mended: no digest of an item's image is kept (docs/limits.md)")
def test_a_backfill_takes_no_other_picture_that_stands_at_the_path_now(copy_waiting: Copies, tmp_path: Path) -> None:
    """An ingest refuses an id that is there with another picture, and lists it."""
    project, name = copy_waiting(), "mine.png"
    did(project, "ingest", str(pictured(tmp_path / "more", name, 1)))
    did(project, "approve", "2", "--by", "ana", "--why", "fine")
    did(project, "promote", "2")
    pictured(tmp_path / "more", name, 2)
    out = did(project, "backfill", "--fraction", "1.0")
    print(out)
    workspace = project.workspace()
    origin = workspace.gallery.space_rows(workspace.ledger.serving()["space"], np.array([name])).origin.tolist()
    assert origin != ["backfilled"] and name in out, f"{name} answers with another picture's vector under its id: {origin}"
