"""The step *contract*: is the release complete, and may this gallery go to it?"""

from __future__ import annotations

from typing import Any

from fct.arrays.files import write_json
from fct.errors import BadInput
from fct.gallery.names import features_name
from fct.program import sandbox
from registry.mlflow.store import STATUS_TAG
from registry.revisions import alarm, history, kept
from registry.upgrade_files import CONTRACT
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace


def adopted_before(workspace: Workspace, version: int) -> None:
    """Refuse a second step from an adopted version: given pairs lead one version on.

    Raises:
        BadInput: rows native to an adopted version are served by another one already.
    """
    champion = workspace.ledger.release()
    for m in workspace.gallery.native_versions():
        if m < version and champion not in (None, m) and kept.opened(workspace, m, check=False).adopted:
            raise BadInput(
                f"the gallery was adopted as version {m}, and version {champion} serves now: given pairs lead only to the next version",
                todo=f"roll back to version {m} and adopt pairs that lead to version {version}; or begin a gallery of version {champion}'s own with `fct ingest`",
            )


def contract(upgrade: Upgrade) -> dict[str, Any]:
    """Check that release n is complete. An incomplete one is marked ``invalid`` in MLflow and refused by name."""
    releases = upgrade.workspace.releases
    path = upgrade.folder / CONTRACT
    champion = upgrade.workspace.ledger.release()
    if champion == upgrade.version:
        raise BadInput(f"version {upgrade.version} serves already", todo="there is nothing to upgrade")
    known = history.latest(upgrade.workspace.ledger.entries()).get(upgrade.version)
    if champion is not None and upgrade.version < champion and known and known.space in upgrade.workspace.gallery.tables():
        raise BadInput(  # another h would take the place of the one that a rollback needs
            f"version {upgrade.version} served before version {champion}", todo="`fct rollback` returns to what served before"
        )
    adopted_before(upgrade.workspace, upgrade.version)
    recorded = alarm.recorded(upgrade.workspace)
    for name in ("items", *map(features_name, upgrade.natives())):  # now, before hours of work on them
        alarm.compare(upgrade.workspace, recorded, name)
    found = releases.contract_problems(upgrade.version)
    found = found or [
        f"its embedder is that of version {m}, whose own vectors the gallery holds: `fct rollback` returns to that version"
        for m in upgrade.natives()
        if upgrade.release_of(m).fingerprint == upgrade.new.fingerprint
    ]
    found = found or _strange(upgrade)
    if found:
        write_json(path, {"ok": False, "problems": found, "champion": None})
        releases.tag(upgrade.version, STATUS_TAG, "invalid")
        releases.describe(upgrade.version, f"**invalid**: this version is not a complete release. {'; '.join(found)}"[:4000])
        raise BadInput(
            f"version {upgrade.version} of {releases.model} is not a complete release: " + "; ".join(found),
            todo="register a complete one with `fct register FOLDER`",
        )
    rows = upgrade.workspace.gallery.native_versions()
    if not len(upgrade.workspace.gallery.item_ids(role="item")):
        raise BadInput(
            "the upgrade would change zero rows: the gallery is empty",
            where=upgrade.workspace.gallery.root,
            todo="ingest items first with `fct ingest`",
        )
    if champion is None and upgrade.natives():
        raise BadInput(
            "the gallery has items of another version but nothing serves",
            got=f"native versions {sorted(rows)}",
            todo=f"bring version {min(rows)} to serve first: `fct upgrade {min(rows)}`, then approve and promote it",
        )
    upgrade.__dict__["champion"] = champion
    result = {"ok": True, "problems": [], "champion": champion, "release": upgrade.new.digest(), "fingerprint": upgrade.new.fingerprint}
    result["sealed"] = sandbox.used()
    write_json(path, result)
    return result


def _strange(upgrade: Upgrade) -> list[str]:
    """Why an adopted release cannot serve this gallery: nothing can make vectors of it but the rows that were adopted as it.

    Of a gallery without rows nothing is said: an adoption registers its release first, and may be at work.
    """
    gallery, natives = upgrade.workspace.gallery, upgrade.workspace.gallery.native_versions()
    if not upgrade.new.adopted or not natives:
        return []
    own = upgrade.version in natives and gallery.feature_info(upgrade.version).fingerprint == upgrade.new.fingerprint
    if own and not upgrade.natives():
        return []
    return [
        f"it was adopted without its embedder, and the gallery holds rows of version {', '.join(map(str, natives))} that were not adopted as it"
    ]
