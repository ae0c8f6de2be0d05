"""The step *validate*: all gates measured, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fct import forward
from fct.arrays import digests
from fct.arrays.files import read_json, whole_folder, write_json
from fct.errors import BadInput
from fct.gallery import index as indexes
from fct.gallery.names import SpaceRows, features_name
from fct.sample import evaluation
from fct.search.coverage import Coverage
from registry.revisions import history
from registry.revisions.building import champion_rows, open_index
from registry.revisions.revision import Revision, read
from registry.upgrade_files import CONTRACT, PROMISE, REVISION, VERDICT
from registry.upgrades import rehearsal, rereading
from registry.upgrades.fitting import copies_of
from registry.upgrades.maker import Maker
from registry.upgrades.steps.evaluate import MIX
from registry.upgrades.upgrade import Upgrade
from registry.verdicts import checks, verdict


def validate(upgrade: Upgrade) -> dict[str, Any]:
    """Measure all gates and write the verdict. A failed gate is a verdict, not an error."""
    ws, settings = upgrade.workspace, upgrade.workspace.settings
    revision = read(upgrade.folder / REVISION)
    rows = ws.gallery.read_space(upgrade.space, at=revision.tables[upgrade.space].version)
    if not len(ws.gallery.item_ids(role="canary")):
        raise BadInput("the gallery holds no canaries", where=ws.gallery.root, todo="`fct ingest` adds the release's canaries")
    forwards = upgrade.forwards()
    natives = {m: _carried(upgrade, revision, m, forwards.get(m)) for m in upgrade.natives() or [upgrade.version]}
    searcher = open_index(ws, revision, upgrade.new.metric)
    fingerprint = ws.gallery.space_info(upgrade.space).fingerprint
    live, canaries, covered = checks.measure(
        natives,
        rows.ids,
        rows.vectors,
        searcher,
        upgrade.new,
        ws.data,
        settings.validate,
        device=settings.device,
        space_fingerprint=fingerprint,
        labels=_labels(upgrade, rows.ids),
    )
    live = replace(live, rollback=None if upgrade.champion is None else rehearsal.after(ws, upgrade.step("rehearsal")))
    values = {f"v{m}→v{upgrade.version}": evaluation.load(upgrade.step(f"evaluation-v{m}")) for m in upgrade.natives()}
    metrics = {f"v{m}→v{upgrade.version}": read_json(upgrade.step(f"evaluation-v{m}") / "metrics.json") for m in upgrade.natives()}
    if len(values) > 1:
        values[MIX] = evaluation.load(upgrade.step(f"evaluation-{MIX}"))
        metrics[MIX] = read_json(upgrade.step(f"evaluation-{MIX}") / "metrics.json")
    covers = _covers(upgrade, revision, canaries, values, _reread(upgrade, forwards, revision, searcher))
    reached = verdict.reach(
        model=settings.model,
        version=upgrade.version,
        champion=upgrade.champion,
        per_forward=dict(values) or {"": None},
        live=live,
        metrics=next(iter(metrics.values())) if len(metrics) == 1 else metrics,
        covers=covers,
        settings=settings.validate,
        seed=settings.evaluate.seed,
    )
    _write(upgrade, revision, reached, canaries, covered, rows)
    return reached


def _covers(
    upgrade: Upgrade, revision: Revision, canaries: dict[str, Any], values: dict[str, dict[str, np.ndarray]], reread: str
) -> dict[str, Any]:
    """What an approval of the verdict covers, each by its digest."""
    settings = upgrade.workspace.settings
    return {
        "release": upgrade.new.digest(),
        "fingerprint": upgrade.new.fingerprint,
        "forward": revision.carried,
        "space": upgrade.space,
        "rows": revision.tables[upgrade.space].content,
        "index": revision.index.identity,
        "recipe": digests.of_json([asdict(settings.fit), asdict(settings.embed), settings.seed]),
        "canaries": digests.of_json(canaries["promised"]),
        "values": digests.of_json({name: {one: digests.of_array(v) for one, v in kept.items()} for name, kept in values.items()}),
        "copies": {f"v{m}→v{upgrade.version}": copies_of(upgrade.pairs_folder(m)) for m in upgrade.natives()},
        "evaluated": {name: digests.of_array(value["rows"]) for name, value in values.items()},
        "bounds": digests.of_json(asdict(settings.validate)),
        "rows read back": reread,
        "program sealed from": _sealed(upgrade),
        "champion": champion_rows(upgrade.workspace, history.serving(upgrade.workspace.ledger)),
    }


def _write(
    upgrade: Upgrade, revision: Revision, reached: dict[str, Any], canaries: dict[str, Any], covered: dict[int, Coverage], rows: SpaceRows
) -> None:
    """The verdict, the canaries' promise, and of each item how far out and how uncertain it is; whole or not at all."""
    with whole_folder((upgrade.folder / VERDICT).parent) as part:
        write_json(part / Path(VERDICT).name, reached)
        write_json(part / Path(PROMISE).name, canaries)
        items = _items(upgrade, revision)
        far = np.zeros(len(items), dtype=bool)
        for m, found in covered.items():
            far[np.searchsorted(items, _items(upgrade, revision, m))] = found.far
        place = np.searchsorted(rows.ids, items).clip(max=len(rows.ids) - 1)
        sigma = np.where(rows.ids[place] == items, rows.uncertainty[place], np.nan)  # a row may be missing: then the canaries refuse
        np.savez(part / "items.npz", ids=items, sigma=sigma, far=far)


def _labels(upgrade: Upgrade, ids: np.ndarray) -> np.ndarray:
    """(N,) labels of sorted ids; empty where an item was deleted meanwhile."""
    items = upgrade.workspace.gallery.items()
    at = np.searchsorted(items["id"], ids).clip(max=len(items["id"]) - 1)
    return np.where(items["id"][at] == ids, items["label"][at], "")


def _reread(upgrade: Upgrade, forwards: dict[int, forward.Forward], revision: Revision, searcher: indexes.Searcher) -> str:
    """Rows of the whole space, made again and compared, as the verdict says it."""
    state = revision.tables[upgrade.space]
    ids = upgrade.workspace.gallery.space_ids(upgrade.space, at=state.version)
    wanted = rereading.chosen(ids, state.content, rereading.LEAST)
    compared = rereading.check(Maker(upgrade.workspace, upgrade.version, forwards), upgrade.space, wanted, searcher)
    return f"{compared} of {len(ids)}, all right: at most {100 * rereading.bound(compared):.1f} % can be wrong (95 %)"


def _sealed(upgrade: Upgrade) -> str:
    """What the program had not got while it ran before anybody approved it, as the step *contract* found."""
    sealed = read_json(upgrade.folder / CONTRACT).get("sealed")
    if sealed is None:
        return "nothing: it has served" if upgrade.workspace.has_served(upgrade.new.digest()) else "not known"
    return ", ".join(sealed) or "nothing"


def _items(upgrade: Upgrade, revision: Revision, native: int | None = None) -> np.ndarray:
    """Ids of the items (no canaries) as they were when the space was pinned; ingest may go on meanwhile."""
    return upgrade.workspace.gallery.item_ids(role="item", native_version=native, at=revision.tables["items"].version)


def _carried(upgrade: Upgrade, revision: Revision, m: int, h: forward.Forward | None) -> checks.Carried:
    gallery, at = upgrade.workspace.gallery, revision.tables[features_name(m)].version
    batches = list(gallery.features(m, at=at, ids=_items(upgrade, revision, m)))
    if not batches:  # canaries alone are native to m: its items were deleted, or all were backfilled
        info = gallery.feature_info(m)
        return checks.Carried(upgrade.pairs_folder(m), h, np.zeros((0, info.phi_dim), np.float32), np.zeros((0, info.psi_dim), np.int8))
    return checks.Carried(upgrade.pairs_folder(m), h, np.concatenate([b.phi for b in batches]), np.concatenate([b.psi for b in batches]))
