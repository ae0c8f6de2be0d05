"""One batch of a backfill on a real gallery: whom it takes, what it embeds, what its entry says, and what stops it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fct import device as devices
from fct.errors import Altered, Damaged, NotPermitted, OperationFailed
from fct.gallery import tables
from fct.gallery.names import BACKFILLED, ITEMS, forward_origin
from fct.program import programs
from fct.release.folder import Release
from fct.sample.folder import PairsFolder
from registry.decisions.rollback import rollback
from registry.items.batches import Batches, asked
from registry.items.deletion import delete
from registry.revisions import alarm, history, kept
from registry.revisions.serving import open_serving
from registry.upgrade_files import PROMISE
from registry.upgrades.upgrade import Upgrade
from registry.workspace import Workspace
from tests import embedding
from tests.by_hand import rows
from tests.embedding import EMPTY, GONE, SHARES
from tests.waiting import CANARIES, IDS, copied


@pytest.fixture(scope="module")
def made(untrained: Release, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return embedding.serving(embedding.made(tmp_path_factory.mktemp("made"), untrained))


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """Version 2 serves 40 items that were carried over."""
    return copied(made, tmp_path)


def batches(workspace: Workspace) -> Batches:
    serving = history.serving(workspace.ledger)
    assert serving is not None
    return Batches(workspace, serving)


def good(state: Batches, count: int) -> np.ndarray:
    """The next ids whose image can be embedded."""
    return np.array([one for one in state.ranked().tolist() if one not in (EMPTY, GONE)][:count])


def pairs_of(workspace: Workspace) -> PairsFolder:
    return PairsFolder(Upgrade(workspace, 2).pairs_folder(1))


# ---- whose turn it is --------------------------------------------------------------------------------------------


def test_the_least_certain_items_come_first_and_no_canary(workspace: Workspace) -> None:
    state, space = batches(workspace), workspace.gallery.read_space(Upgrade(workspace, 2).space)
    sigma = dict(zip(space.ids.tolist(), space.uncertainty.tolist(), strict=True))
    assert len(set(sigma.values())) > 30 and set(CANARIES) < set(sigma)
    assert state.ranked().tolist() == sorted(IDS, key=lambda one: -sigma[one])
    assert state.share() == 0 and state.share(10) == pytest.approx(0.25)
    assert [state.wanted(target) for target in (0.0, 0.5, 0.51, 1.0)] == [0, 20, 20, 40]
    first = state.ranked()[:4].tolist()
    ids = good(state, 4)
    state.embed(ids, [])
    state.commit(ids, by="ana", why="")
    assert first == ids.tolist() and not set(first) & set(state.ranked().tolist())
    assert state.share() == pytest.approx(0.1) and state.wanted(0.5) == 16 and state.wanted(0.05) == 0


# ---- embedding ---------------------------------------------------------------------------------------------------


def test_features_are_what_the_program_sees_and_no_image_is_embedded_twice(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    state, skipped = batches(workspace), list[tuple[str, str]]()
    ids = good(state, 6)
    there, embedded = state.embed(ids[:4], skipped)
    assert (there.tolist(), embedded, skipped) == (ids[:4].tolist(), 4, [])
    (found,) = workspace.gallery.features(2, ids=np.sort(ids[:4]))
    wanted = dict(zip(IDS, embedding.new_of(rows(len(IDS), 1)), strict=True))
    assert np.allclose(found.phi, [wanted[one] for one in found.ids.tolist()], atol=1e-6)
    read = list[int]()
    embed = programs.embed
    monkeypatch.setattr(programs, "embed", lambda program, images, **more: read.append(len(images)) or embed(program, images, **more))
    there, embedded = state.embed(ids, skipped)
    assert (there.tolist(), embedded, skipped) == (ids.tolist(), 2, []) and read[0] == 2
    assert state.embed(ids, skipped)[1] == 0 and workspace.gallery.native_version_of(ids).tolist() == [1] * 6, "not yet in the space"


def test_who_cannot_be_embedded_is_listed_with_the_reason(workspace: Workspace) -> None:
    state, skipped = batches(workspace), list[tuple[str, str]]()
    ids = np.array([good(state, 1)[0], EMPTY, GONE, "i07"])
    workspace.gallery.delete(["i07"])
    there, embedded = state.embed(ids, skipped)
    assert (there.tolist(), embedded) == (ids[:1].tolist(), 1)
    said = dict(skipped)
    assert set(said) == {EMPTY, GONE, "i07"} and said["i07"] == "it was deleted meanwhile"
    assert "zero-norm" in said[EMPTY] and f"{GONE}.png" in said[GONE]
    assert set(workspace.gallery.feature_ids(2).tolist()) == {ids[0]}


def test_a_batch_of_which_nothing_can_be_used_is_listed_and_writes_nothing(workspace: Workspace) -> None:
    state, skipped = batches(workspace), list[tuple[str, str]]()
    there, embedded = state.embed(np.array([EMPTY]), skipped)
    assert (there.tolist(), embedded, len(skipped)) == ([], 0, 1) and "features/v2" not in workspace.gallery.tables()


def test_a_program_that_answers_its_canaries_otherwise_embeds_nothing(workspace: Workspace) -> None:
    state, folder = batches(workspace), pairs_of(workspace)
    native = np.array(folder.load("canaries", "new"))
    folder.save("canaries", new=native + np.float32(0.05) * np.abs(native).max())
    with pytest.raises(NotPermitted, match="gives its canaries other vectors"):
        state.embed(good(state, 1), [])
    assert "features/v2" not in workspace.gallery.tables()
    folder.save("canaries", new=native * np.float32(1.005))
    assert state.embed(good(state, 1), [])[1] == 1, "another processor rounds otherwise"


def test_only_pairs_of_the_same_canaries_are_asked(workspace: Workspace) -> None:
    folder, release = pairs_of(workspace), kept.opened(workspace, 2)
    native = np.array(folder.load("canaries", "new"))
    folder.save("canaries", new=-native, ids=np.char.add("canary:x", np.arange(8).astype(str)))
    device = devices.pick("cpu")
    images = release.canaries()[1]
    assert np.allclose(programs.embed(asked(workspace, 2, release, device), images, device=device)[0], native, atol=0.02)


# ---- the entry ---------------------------------------------------------------------------------------------------


def test_a_batch_becomes_what_serves_by_one_entry(workspace: Workspace) -> None:
    state, before = batches(workspace), history.serving(workspace.ledger)
    ids = good(state, 4)
    state.embed(ids, [])
    entry = state.commit(ids, by="ana", why="nights")
    assert entry is not None and (entry.action, entry.by, entry.why) == ("backfill", "ana", "nights")
    assert entry.detail == {"version": 2, "items": 4, "share": 0.1}
    now = history.serving(entry)
    assert now is not None and before is not None and (now.number, now.space, now.verdict) == (2, before.space, before.verdict)
    shown = open_serving(workspace)
    origin = dict(zip(shown.columns["id"].tolist(), shown.columns["origin"].tolist(), strict=True))
    assert {one for one in IDS if origin[one] == BACKFILLED} == set(ids) and origin[CANARIES[0]] == forward_origin(1, 2)
    (native,) = workspace.gallery.features(2, ids=np.sort(ids))
    for one, phi in zip(native.ids.tolist(), native.phi, strict=True):
        assert shown.vector_of(one)[0] == pytest.approx(phi / np.linalg.norm(phi), abs=1e-6)
    assert set(workspace.gallery.native_version_of(ids)) == {2}
    assert state.commit(ids[:0], by="ana", why="") is None and workspace.ledger.head() == entry


def test_what_a_killed_batch_has_left_is_finished_by_an_empty_one(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    state = batches(workspace)
    ids = good(state, 3)
    state.embed(ids, [])
    assert state.commit(ids[:0], by="ana", why="") is None, "features alone are no change"
    replace_rows = tables.replace_rows

    def killed(root: Path, name: str, choose: object) -> np.ndarray:
        if name == ITEMS:
            raise KeyboardInterrupt
        return replace_rows(root, name, choose)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "replace_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        state.commit(ids, by="ana", why="")
    monkeypatch.undo()
    assert set(workspace.gallery.native_version_of(ids)) == {1} and workspace.ledger.entries()[-1].action == "promote"
    entry = batches(workspace).commit(ids[:0], by="ben", why="")
    assert entry is not None and entry.detail["items"] == 3 and set(workspace.gallery.native_version_of(ids)) == {2}


def test_a_deletion_that_was_killed_has_its_entry_before_the_batch(workspace: Workspace) -> None:
    state = batches(workspace)
    ids = good(state, 2)
    state.embed(ids, [])
    workspace.gallery.delete([ids[0]])
    state.commit(ids, by="ana", why="")
    assert [entry.action for entry in workspace.ledger.entries()[-2:]] == ["delete", "backfill"]
    assert workspace.ledger.entries()[-1].detail["items"] == 1


def test_another_release_that_serves_meanwhile_stops_the_batch(workspace: Workspace) -> None:
    state = batches(workspace)
    ids = good(state, 2)
    state.embed(ids, [])
    rollback(workspace, by="ben", why="")
    with pytest.raises(NotPermitted, match="another release serves meanwhile"):
        state.commit(ids, by="ana", why="")
    assert workspace.ledger.entries()[-1].action == "rollback" and set(workspace.gallery.native_version_of(ids)) == {1}


@pytest.mark.parametrize("table", ["items", "the space", "features/v2"])
def test_no_batch_is_made_from_damaged_rows(workspace: Workspace, table: str) -> None:
    state = batches(workspace)
    first, ids = good(state, 3)[:1], good(state, 3)[1:]
    state.embed(first, [])
    state.commit(first, by="ana", why="")  # records the features
    state.embed(ids, [])
    place = workspace.gallery.table_path(state.space if table == "the space" else table) / "data"
    now = history.serving(workspace.ledger)
    assert now is not None
    recorded = {Path(file).name for state in now.tables.values() for file in state.files}
    file = next(path for path in sorted(place.iterdir()) if path.name in recorded)
    data = bytearray(file.read_bytes())
    data[8] ^= 1
    file.write_bytes(data)
    with pytest.raises((Damaged, OperationFailed), match="was altered|could not be read"):  # by us, or by Lance before
        state.commit(np.union1d(first, ids), by="ana", why="")
    assert len(workspace.ledger.entries()) == 4 and not alarm.raised(workspace), "the command sounds it"


def test_a_candidate_without_its_promise_is_given_no_batch(workspace: Workspace) -> None:
    state = batches(workspace)
    ids = good(state, 2)
    state.embed(ids, [])
    (Upgrade(workspace, 2).folder / PROMISE).write_text("{}", encoding="utf-8")
    with pytest.raises(Altered, match="was altered or deleted since"):
        state.commit(ids, by="ana", why="")
    assert workspace.ledger.entries()[-1].action == "promote"


def test_canaries_that_go_wrong_stop_the_batch_before_its_entry(workspace: Workspace) -> None:
    folder, state = pairs_of(workspace), batches(workspace)
    ids = good(state, 2)
    state.embed(ids, [])
    folder.save("canaries", new=-np.array(folder.load("canaries", "new")))
    with pytest.raises(NotPermitted, match="the canaries say that the space is wrong"):
        state.commit(ids, by="ana", why="")
    assert workspace.ledger.entries()[-1].action == "promote"


# ---- what a share is worth ---------------------------------------------------------------------------------------


def test_a_share_is_worth_what_the_curve_says_in_between(workspace: Workspace) -> None:
    state = batches(workspace)
    assert [state.predicted(share) for share in (0.0, 0.2, 0.5, 1.0)] == [SHARES[0], SHARES[1], pytest.approx(0.6), SHARES[-1]]
    for path in Upgrade(workspace, 2).steps("evaluation-v*"):
        np.savez(path / "per_query.npz", oo_top1=np.zeros(3))
    assert batches(workspace).predicted(0.5) is None, "h predicted no uncertainty"


def average_precision(workspace: Workspace) -> float:
    """By loops: the sample's queries among the items as they are in the space now."""
    sample, space = pairs_of(workspace).sample(), workspace.gallery.read_space(Upgrade(workspace, 2).space)
    items = workspace.gallery.items()
    labels = dict(zip(items["id"].tolist(), items["label"].tolist(), strict=True))
    held = [row for row, one in enumerate(space.ids.tolist()) if one in IDS]
    unit = space.vectors[held] / np.linalg.norm(space.vectors[held], axis=1, keepdims=True)
    values = []
    for query, label in zip(sample.new, sample.labels.tolist(), strict=True):
        order = np.argsort(-(unit @ (query / np.linalg.norm(query))), kind="stable")
        right = [labels[str(space.ids[held[place]])] == label for place in order.tolist()]
        if any(right):
            values.append(np.mean([sum(right[: at + 1]) / (at + 1) for at, one in enumerate(right) if one]))
    return float(np.mean(values))


def test_map_is_measured_on_the_rows_that_serve_now(workspace: Workspace) -> None:
    state = batches(workspace)
    first = state.measured()
    assert state.why_not_measured == "" and first == pytest.approx(average_precision(workspace), abs=1e-4)
    ids = good(state, 38)
    state.embed(ids, [])
    state.commit(ids, by="ana", why="")
    second = state.measured()
    assert second is not None and first is not None and second > first
    assert second == pytest.approx(average_precision(workspace), abs=1e-4)


def test_without_a_sample_or_its_labels_nothing_is_measured_and_that_is_said(workspace: Workspace) -> None:
    folder = pairs_of(workspace)
    folder.save("sample", labels=np.full(60, "another"))
    state = batches(workspace)
    assert state.measured() is None and state.why_not_measured == "no item of the gallery has a label of the evaluation sample"
    folder.root.rename(folder.root.with_name("moved"))
    state = batches(workspace)
    assert state.measured() is None and state.why_not_measured == "the upgrade's evaluation sample is gone"


def test_items_that_were_deleted_count_for_nothing(workspace: Workspace) -> None:
    delete(workspace, IDS[:20], by="ana")
    state = batches(workspace)
    assert set(state.ranked().tolist()) == set(IDS[20:]) and state.share(5) == pytest.approx(0.25) and state.wanted(0.5) == 10
