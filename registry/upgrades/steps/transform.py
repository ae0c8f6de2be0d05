"""The step *transform*: the live gallery carried over into a new space."""

from __future__ import annotations

from typing import Any

import numpy as np

from fct.arrays.files import read_json, write_json
from fct.errors import BadInput
from fct.sample.folder import PairsFolder
from registry.revisions import history
from registry.upgrade_files import TRANSFORM
from registry.upgrades import rehearsal
from registry.upgrades.carrying import carry, look_again
from registry.upgrades.champion import as_served
from registry.upgrades.upgrade import Upgrade


def transform(upgrade: Upgrade) -> dict[str, Any]:
    """Carry the live gallery over into a new space, in batches that are each a commit. Reads features, never an image.

    Raises:
        BadInput: zero rows to change, or a batch that Great Expectations refuses.
    """
    gallery, forwards = upgrade.workspace.gallery, upgrade.forwards()
    _rehearse(upgrade)
    gallery.create_space(upgrade.space, upgrade.new.dim, upgrade.new.fingerprint, {m: h.digest for m, h in forwards.items()})
    look_again(upgrade.workspace, upgrade.space, upgrade.version, forwards)
    there = len(gallery.space_ids(upgrade.space))
    done = carry(upgrade.workspace, upgrade.space, upgrade.version, forwards)
    if there + done.changed == 0:
        raise BadInput("the upgrade would change zero rows", where=upgrade.space, todo="ingest items first with `fct ingest`")
    path = upgrade.folder / TRANSFORM
    earlier: dict[str, Any] = read_json(path) if path.exists() else {}
    if earlier.get("space") != upgrade.space:
        earlier = {"suites": [], "changed": 0, "seconds": 0.0}
    result = {
        "rows": there + done.changed,
        "changed": done.changed + earlier["changed"],
        "seconds": done.seconds + earlier["seconds"],
        "suites": earlier["suites"] + done.suites,
        "space": upgrade.space,
    }
    write_json(path, result)
    return {"rows": result["rows"], "changed": done.changed, "space": upgrade.space}


def _rehearse(upgrade: Upgrade) -> None:
    """Ask the champion, before anything of the candidate exists, what it is asked again at the end."""
    serving = history.serving(upgrade.workspace.ledger)
    if upgrade.champion is None or serving is None or serving.release != upgrade.champion or not upgrade.natives():
        return

    def queries() -> np.ndarray:
        native = upgrade.champion if upgrade.champion in upgrade.natives() else upgrade.natives()[0]
        sample = PairsFolder(upgrade.pairs_folder(native)).sample()
        served = as_served(upgrade, native, sample)
        return sample.old if served is None else served[0]

    rehearsal.before(upgrade.workspace, serving, upgrade.step("rehearsal"), queries)
