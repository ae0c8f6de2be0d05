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
from fct.gallery import NATIVE, forward_origin
from registry import expectations
from registry.workspace import Workspace


@dataclass
class Carried:
    """Rows written, seconds spent in h (previews included), the suites that the batches passed."""

    changed: int = 0
    seconds: float = 0.0
    suites: list[dict[str, Any]] = field(default_factory=list)


def carry(workspace: Workspace, space: str, version: int, forwards: dict[int, forward.Forward]) -> Carried:
    """Write every item that the space lacks: what version itself computed as it is, others through the h of their own native version.

    Each batch is a commit; running it again continues. Uncertainty is 0 for native rows and where h predicts none. Items native to a
    later version cannot be carried back and are left out. Rows whose item was deleted meanwhile leave the space.

    Args:
        space: name of an existing space of φ_version. forwards: native version → h(m→version).

    Raises:
        BadInput: a batch that Great Expectations refuses. NotPermitted: items of an earlier native version without an h.
    """
    gallery, settings = workspace.gallery, workspace.settings
    done = gallery.space_ids(space)
    result = Carried()
    new, device = workspace.releases.release(version, check=False), devices.pick(settings.device)
    look: programs.Embed | None = None
    with tqdm(total=len(gallery.item_ids()), initial=len(done), desc="transform", unit="row", mininterval=1) as bar:
        for m, todo in lacking(workspace, version, done).items():
            if m != version and m not in forwards:
                raise NotPermitted(
                    f"{len(todo)} items native to version {m} arrived, and there is no h from it",
                    todo="run the upgrade again for a new verdict",
                )
            info = gallery.feature_info(m)
            old = workspace.releases.release(m, check=False)
            for batch in gallery.features(m, ids=todo, batch_rows=settings.transform.batch_rows, skip_absent=True):
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
                    rows, sigma, origin = batch.phi.astype(np.float32), np.zeros(len(batch.ids), dtype=np.float32), NATIVE
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
    gallery.drop_rows(space, np.setdiff1d(gallery.space_ids(space), gallery.item_ids()))
    return result


def lacking(workspace: Workspace, version: int, there: np.ndarray) -> dict[int, np.ndarray]:
    """Items that a space of φ_version lacks and can be given: version their vectors come from → sorted ids.

    What the version itself computed comes first, whatever the item is native to; items native to a later version have nothing else.

    Args:
        there: ids that the space holds.
    """
    gallery, found = workspace.gallery, {}
    own = gallery.feature_ids(version)
    for m in sorted({*gallery.native_versions(), version}):
        ids = np.setdiff1d(gallery.item_ids(native_version=m) if m != version else np.intersect1d(own, gallery.item_ids()), there)
        ids = ids if m == version else np.setdiff1d(ids, own)
        if len(ids) and m <= version:
            found[m] = ids
    return found
