"""Rows of a space made from features: what the upgrade, promotion and ingest write, and what is made again to look at what was written."""

from __future__ import annotations

import numpy as np

from fct import device as devices
from fct import forward
from fct.gallery.names import NATIVE, Batch, forward_origin
from fct.program import programs
from fct.release import preview
from registry.revisions import kept
from registry.workspace import Workspace


class Maker:
    """Makes rows of a space of φ_version from features.

    Args:
        forwards: native version → h(m→version).
    """

    def __init__(self, workspace: Workspace, version: int, forwards: dict[int, forward.Forward]):
        self.workspace, self.version, self.forwards = workspace, version, forwards
        self._new, self._device = kept.opened(workspace, version, check=False), devices.pick(workspace.settings.device)
        self._look: programs.Embed | None = None

    def make(self, m: int, batch: Batch) -> tuple[np.ndarray, np.ndarray, str]:
        """Vectors (N, E) float32, uncertainty (N,) and origin of items native to ``m``. Uncertainty is 0 where h predicts none."""
        if m == self.version:
            return batch.phi.astype(np.float32), np.zeros(len(batch.ids), dtype=np.float32), NATIVE
        h = self.forwards[m]
        if self._look is None and h.looks(batch.psi.shape[1]):
            self._look = self._new.program(self._device)
        old = kept.opened(self.workspace, m, check=False)
        side = preview.side_of(old, self._new, batch.psi, h, device=self._device, program=self._look)
        rows, sigma = h.transform(batch.phi, side if h.side_dim else None, device=self.workspace.settings.device)
        return rows, np.nan_to_num(sigma, nan=0.0), forward_origin(m, self.version)
