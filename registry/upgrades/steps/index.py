"""The step *index*: the new space's index, and every table pinned."""

from __future__ import annotations

from typing import Any

from fct.arrays.files import write_json
from registry.revisions.building import pin
from registry.upgrade_files import REVISION
from registry.upgrades.upgrade import Upgrade


def index(upgrade: Upgrade) -> dict[str, Any]:
    """Build the index of the new space anew and pin every table the release needs."""
    revision = pin(upgrade.workspace, upgrade.version, upgrade.space, upgrade.new, {m: h.digest for m, h in upgrade.forwards().items()})
    write_json(upgrade.folder / REVISION, revision.to_json())
    return {"rows": revision.state.rows, "content": revision.state.content, "kind": revision.index.about["kind"]}
