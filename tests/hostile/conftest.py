"""The tiny projects of the end-to-end tests, and a version that is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import (
    copies,
    copy_of,
    copy_serving,
    copy_waiting,
    promoted_folder,
    serving_folder,
    trained_folder,
    waiting_folder,
)
from tests.hostile.versions import Honest, written

__all__ = ["copies", "copy_of", "copy_serving", "copy_waiting", "promoted_folder", "serving_folder", "trained_folder", "waiting_folder"]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = np.ones((2, 5), dtype=np.float32), np.zeros(2, dtype=np.float32)
    return written(tmp_path_factory.mktemp("honest") / "v1", Honest(), head=head, classes=["a", "b"])
