"""What the champion answers with, asked as it is served: what old/old is measured on."""

from __future__ import annotations

import numpy as np

from fct import device as devices
from fct import forward
from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.errors import NotPermitted
from fct.program import programs
from fct.release import preview
from fct.sample import pairs
from fct.sample.folder import PairsFolder, Sample
from registry.revisions import history
from registry.upgrades.upgrade import Upgrade


def as_served(upgrade: Upgrade, m: int, sample: Sample) -> tuple[np.ndarray, np.ndarray] | None:
    """Query and gallery vectors of the champion as served, where the champion is not the native version itself.

    Raises:
        NotPermitted: the champion's h is not the one that the ledger says serves.
    """
    champion, serving = upgrade.champion, history.serving(upgrade.workspace.ledger)
    if champion is None or champion == m or serving is None:
        return None
    release = upgrade.release_of(champion)
    rows = read_manifest(upgrade.workspace.data).rows(*pairs.POPULATIONS.values())
    images = read_images(rows.files, release.size, release.mode, "evaluation sample: champion")
    query, _ = programs.embed(release.program(), images, device=devices.pick("cpu"))
    if m > champion:  # a rollback left items of a later release, of which the champion serves only what it embedded itself
        return query, query
    old = forward.load(upgrade.workspace.upgrade_folder(champion) / f"h-v{m}")
    if old.digest != serving.forward.get(m):
        raise NotPermitted(
            f"the h from version {m} to {champion} is not the one that serves",
            todo="restore it; the champion as served cannot be measured",
        )
    # the sample's own side-information has what version n sees in ψ; this h was given what the champion sees in it
    psi = np.array(PairsFolder(upgrade.pairs_folder(m)).load("sample", "psi"))
    side = preview.side_of(upgrade.release_of(m), release, psi, old, device=devices.pick("cpu"))
    return query, old.transform(sample.old, side if old.side_dim else None)[0]
