"""Carrying rows into a space: what the upgrade does with a whole gallery, and what promotion and ingest do with late-comers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from fct import device as devices
from fct import forward, preview
from fct import program as programs
from fct.errors import NotPermitted
from fct.gallery import forward_origin
from registry import expectations
from registry.workspace import Workspace


@dataclass
class Carried:
    """Rows written, seconds spent in h (previews included), the suites that the batches passed."""

    changed: int = 0
    seconds: float = 0.0
    suites: list[dict[str, Any]] = field(default_factory=list)


def carry(workspace: Workspace, space: str, version: int, forwards: dict[int, forward.Forward]) -> Carried:
    """Write every item that the space lacks: native rows as they are, others through the h of their own native version.

    Each batch is a commit; running it again continues. Uncertainty is 0 for native rows and where h predicts none.

    Args:
        space: name of an existing space of φ_version. forwards: native version → h(m→version).

    Raises:
        BadInput: a batch that Great Expectations refuses. NotPermitted: items of a native version without an h.
    """
    gallery, settings = workspace.gallery, workspace.settings
    done = set(gallery.space_ids(space).tolist())
    result = Carried()
    new, device = workspace.releases.release(version, check=False), devices.pick(settings.device)
    look: programs.Embed | None = None
    with tqdm(total=len(gallery.item_ids()), initial=len(done), desc="transform", unit="row", mininterval=1) as bar:
        for m in sorted(gallery.native_versions()):
            todo = np.array([one for one in gallery.item_ids(native_version=m).tolist() if one not in done], dtype=str)
            if not len(todo):
                continue
            if m != version and m not in forwards:
                raise NotPermitted(
                    f"{len(todo)} items native to version {m} arrived, and there is no h from it",
                    todo="run the upgrade again for a new verdict",
                )
            info = gallery.feature_info(m)
            old = workspace.releases.release(m, check=False)
            for batch in gallery.features(m, ids=todo, batch_rows=settings.transform.batch_rows):
                suite = expectations.check_batch(
                    f"features v{m}",
                    batch.ids,
                    batch.phi,
                    dim=info.phi_dim,
                    fingerprint=old.fingerprint,
                    found_fingerprint=info.fingerprint,
                )
                result.suites.append(suite)
                started = time.perf_counter()
                if m == version:
                    rows, sigma, origin = batch.phi.astype(np.float32), np.zeros(len(batch.ids), dtype=np.float32), "native"
                else:
                    h = forwards[m]
                    if look is None and h.side_dim > info.psi_dim:
                        look = new.program(device)
                    side = preview.side_of(old, new, batch.psi, side_dim=h.side_dim, device=device, program=look)
                    rows, sigma = h.transform(batch.phi, side if h.side_dim else None, device=settings.device)
                    origin = forward_origin(m, version)
                result.seconds += time.perf_counter() - started
                result.changed += gallery.append_space(space, batch.ids, rows, origin, np.nan_to_num(sigma, nan=0.0))
                bar.update(len(batch.ids))
    return result
