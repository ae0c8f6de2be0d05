"""Four mutants of the transform write a live space with fresh, valid digests. Only meaning can catch them: the canaries do."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fct import forward
from fct.arrays import vectors
from fct.errors import NotPermitted
from fct.forward import FitSettings, Forward
from registry.upgrades import rereading
from registry.upgrades.steps.contract import contract
from registry.upgrades.steps.embed import embed
from registry.upgrades.steps.evaluate import evaluate
from registry.upgrades.steps.fit import fit
from registry.upgrades.steps.index import index
from registry.upgrades.steps.transform import transform
from registry.upgrades.steps.validate import validate
from registry.upgrades.upgrade import Upgrade
from tests.end_to_end.conftest import Copies, having

Transform = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def upgrade(copy_serving: Copies) -> Upgrade:
    """Version 1 serves; h(1→2) is fitted, nothing is transformed yet."""
    found = Upgrade(having(copy_serving(), ("register", "build/releases/v2")).workspace(), 2)
    contract(found)
    embed(found)
    fit(found)
    return found


def stand_in(h: Forward, transform: Transform) -> Any:
    return SimpleNamespace(digest=h.digest, side_dim=h.side_dim, looks=h.looks, transform=lambda old, side, device: transform(old, side))


def judge(
    upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[Forward], Any] | None, keep: slice = slice(None)
) -> dict[str, Any]:
    """Transform with the mutant, then index, evaluate and validate honestly, no row being read back. Returns the canary gate."""
    upgrade.workspace.gallery.drop_space(upgrade.space)
    (upgrade.folder / "transform.json").unlink(missing_ok=True)
    honest = upgrade.forwards()
    gallery = upgrade.workspace.gallery
    append = gallery.append_space
    monkeypatch.setattr(rereading, "check", lambda *_: 0)
    with monkeypatch.context() as patch:
        if mutant is not None:
            patch.setattr(Upgrade, "forwards", lambda self: {m: mutant(h) for m, h in honest.items()})
        if keep != slice(None):
            patch.setattr(
                gallery, "append_space", lambda name, ids, rows, origin, sigma: append(name, ids[keep], rows[keep], origin, sigma[keep])
            )
        transform(upgrade)
    index(upgrade)
    for state in (gallery.snapshot(upgrade.space),):
        gallery.verify(state)  # the digests are fresh and valid
        gallery.verify_content(state)
    evaluate(upgrade)
    verdict = validate(upgrade)
    return next(g for g in verdict["gates"] if g["gate"] == "canary")


def test_the_honest_transform_passes(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(upgrade, monkeypatch, None)["outcome"] == "passed"


def test_a_map_applied_the_wrong_way_round_is_caught(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = upgrade.pairs_folder(1) / "fitting"
    old, new = np.array(vectors.load(folder / "old.npy")), np.array(vectors.load(folder / "new.npy"))
    width = max(old.shape[1], new.shape[1])

    def padded(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, width - x.shape[1]))).astype(np.float32)

    backwards = forward.fit(padded(new), padded(old), settings=FitSettings(method="ridge"))

    def mutant(h: Forward) -> Any:
        return stand_in(h, lambda phi, side: (backwards.transform(padded(phi))[0][:, : h.new_dim] + 1e-6, np.zeros(len(phi), np.float32)))

    assert judge(upgrade, monkeypatch, mutant)["outcome"] == "refused"


def test_shuffled_rows_are_caught(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(h: Forward) -> Any:
        def transform(phi: np.ndarray, side: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
            rows, sigma = h.transform(phi, side)
            return np.roll(rows, 1, axis=0), sigma

        return stand_in(h, transform)

    assert judge(upgrade, monkeypatch, mutant)["outcome"] == "refused"


def test_the_normalisation_of_another_version_is_caught(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(h: Forward) -> Any:
        return stand_in(
            h,
            lambda phi, side: h.transform(
                vectors.normalise(phi), vectors.normalise(np.asarray(side, dtype=np.float32)) if side is not None else None
            ),
        )

    assert judge(upgrade, monkeypatch, mutant)["outcome"] == "refused"


def test_a_table_half_written_is_caught(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(upgrade, monkeypatch, None, keep=slice(None, None, 2))["outcome"] == "refused"


def without_canaries(h: Forward, batches: list[bool]) -> Any:
    """Shuffles every second batch: one that no canary is in, so to speak."""

    def transform(phi: np.ndarray, side: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        rows, sigma = h.transform(phi, side)
        batches.append(len(rows) > rereading.EACH)  # rows that are read back come right: a test of what was written
        return (np.roll(rows, 1, axis=0), sigma) if batches[-1] else (rows, sigma)

    return stand_in(h, transform)


def test_rows_are_read_back_where_no_canary_is(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade.workspace.gallery.drop_space(upgrade.space)
    (upgrade.folder / "transform.json").unlink(missing_ok=True)
    honest, batches = upgrade.forwards(), list[bool]()
    monkeypatch.setattr(Upgrade, "forwards", lambda self: {m: without_canaries(h, batches) for m, h in honest.items()})
    with pytest.raises(NotPermitted, match="is not what its features give"):
        transform(upgrade)
    assert batches[:2] == [True, False]


def test_rows_that_change_after_their_commit_are_found_before_the_verdict(upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = upgrade.workspace.gallery
    gallery.drop_space(upgrade.space)
    (upgrade.folder / "transform.json").unlink(missing_ok=True)
    transform(upgrade)
    rows = gallery.read_space(upgrade.space)
    items = np.isin(rows.ids, gallery.item_ids(role="item"))  # canaries stay as they are
    gallery.drop_rows(upgrade.space, rows.ids[items])
    for origin in sorted(set(rows.origin[items].tolist())):
        these = items & (rows.origin == origin)
        gallery.append_space(upgrade.space, rows.ids[these], np.roll(rows.vectors[these], 1, axis=0), origin, rows.uncertainty[these])
    index(upgrade)
    evaluate(upgrade)
    with pytest.raises(NotPermitted, match="is not what its features give"):
        validate(upgrade)
