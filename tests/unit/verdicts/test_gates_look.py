"""What the gates of the gallery look at: a real index, files of pairs, canaries, the fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gates_sample import SETTINGS

from fct.gallery.index import Searcher
from fct.gallery.indexing import build
from fct.gallery.settings import IndexSettings
from fct.sample.folder import PairsFolder, Sample
from registry.verdicts.declaration import Carried, NewSpace
from registry.verdicts.gates import canary, coverage, index_faithful, new_intact
from tests import by_hand

ROWS, DIM = 400, 8
GRAPH = IndexSettings("hnsw", flat_below=0, hnsw_m=8, ef_construction=40, ef_search=20, ivf_lists=4, ivf_probes=2, device="cpu", seed=0)


class Reversed:
    """An h that turns the columns round, and adds its side-information to the first of them where it takes any."""

    def __init__(self, side_dim: int) -> None:
        self.side_dim = side_dim

    def transform(self, old: np.ndarray, side: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        assert (side is not None) == bool(self.side_dim)
        found = np.array(old[:, ::-1])
        if side is not None:
            found[:, 0] += side[:, 0]
        return found, np.zeros(len(old))


def sample(count: int) -> Sample:
    names, side = np.array([f"q{one}" for one in range(count)]), by_hand.rows(count, 5)[:, :2]
    return Sample(names, names, names, np.full(count, "known"), by_hand.rows(count, 3), side, by_hand.rows(count, 4))


def space_of(folder: Path, **more: Any) -> NewSpace:
    """A space of 400 rows whose index holds them in another order; two of five have the label ``a``, one of five has none."""
    ids, rows = np.array([f"i{one:03}" for one in range(ROWS)]), by_hand.rows(ROWS, 1)
    labels = np.array(["", "", *["a"] * 4, "b", "c", "d", "e"] * (ROWS // 10))
    order = np.random.default_rng(9).permutation(ROWS)
    searcher = Searcher(build(rows[order], "cosine", GRAPH), ids[order], "cosine", exact_below=21)
    known: dict[str, Any] = {"natives": {}, "sample": sample(600), "ids": ids, "rows": rows, "labels": labels, "searcher": searcher}
    known |= {"new": by_hand.release_of(folder / "release", 2), "data": folder / "none", "settings": SETTINGS, "device": "cpu"}
    known |= {"fingerprint": known["new"].fingerprint}
    return NewSpace(**known | more)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_index_is_asked_as_searches_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: bool) -> None:
    """Without a filter, with shares of the rows, and within labels that are known."""
    asked: list[tuple[int, int, int]] = []
    recall = index_faithful.indexes.recall

    def counted(searcher: Searcher, rows: np.ndarray, queries: np.ndarray, k: int, keep: np.ndarray | None = None) -> np.ndarray:
        asked.append((len(queries), k, len(rows) if keep is None else int(keep.sum())))
        return recall(searcher, rows, queries, k, keep)

    monkeypatch.setattr(index_faithful.indexes, "recall", counted)
    space = space_of(tmp_path) if labelled else space_of(tmp_path, labels=None)
    found = index_faithful.look(space)
    shares = [(300, 10, 200), (300, 10, 20), (300, 10, 8), (300, 10, 2)]  # of 0.1 % there is no row
    assert asked[:5] == [(500, 10, ROWS), *shares]
    assert sorted(asked[5:]) == ([(300, 10, 40)] * 4 + [(300, 10, 160)] if labelled else [])
    kinds = ["without a filter", *(f"where {share} % may be answers" for share in ("50", "5", "2", "0.5"))]
    assert list(found.by_kind) == [*kinds, *(["within one label"] if labelled else [])]
    assert len(found.by_kind["within one label"] if labelled else found.by_kind[kinds[1]]) == (1500 if labelled else 300)
    assert {*kinds[2:]} <= found.exact <= {*kinds[2:], "within one label"}, "rows are compared where fewer than 21 may be answers"
    assert ("within one label" in found.exact) == (not labelled)
    assert min(found.by_kind[kind].min() for kind in kinds[2:]) == 1 and found.by_kind[kinds[0]].mean() > 0.5


def test_a_filter_of_one_row_is_asked_too(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    found = index_faithful.index_recall(
        Searcher(build(space.rows[:200], "cosine", GRAPH), space.ids[:200], "cosine"), space.rows[:200], space.sample
    )
    assert list(found.by_kind)[-1] == "where 0.5 % may be answers" and len(found.by_kind) == 5 and found.exact <= {"within one label"}


def pairs_of(folder: Path) -> PairsFolder:
    """Three fitting images of two views each, and a pool of two images."""
    pairs = PairsFolder(folder)
    names = np.array(["a", "b", "c", "a", "b", "c"])
    pairs.save("fitting", old=by_hand.rows(6, 1), psi=np.arange(12, dtype=np.int8).reshape(6, 2), sources=names)
    pairs.save("pool", old=by_hand.rows(2, 2), psi=np.full((2, 2), 7, np.int8), sources=np.array(["x", "y"]))
    return pairs


def test_coverage_compares_with_one_clean_view_of_each_image(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path)
    found = coverage.fitting_rows(pairs.root)
    psi = np.array([[0, 1], [2, 3], [4, 5], [7, 7], [7, 7]])
    wanted = np.concatenate([np.concatenate([by_hand.rows(6, 1)[:3], by_hand.rows(2, 2)]), psi], axis=1)
    assert found.dtype == np.float32 and found.tolist() == wanted.astype(np.float32).tolist()
    assert len(coverage.fitting_rows(pairs.root, limit=2)) == 4


def test_coverage_is_of_the_items_that_an_h_carried(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path / "pairs").root
    near, psi = by_hand.rows(6, 1)[:2], np.array([[0, 1], [90, 90]], np.int8)
    natives = {
        1: Carried(pairs, Reversed(0), near, psi),  # type: ignore[arg-type]
        2: Carried(pairs, None, near, psi),
        3: Carried(pairs, Reversed(0), near[:0], psi[:0]),  # type: ignore[arg-type]
    }
    found = coverage.look(space_of(tmp_path, natives=natives))
    assert list(found) == [1] and found[1].far.tolist() == [False, True]
    (said,) = coverage.measure(found, SETTINGS)
    assert (said.subject, said.value, said.n, said.most) == ("items native to v1", 0.5, 2, True)


@pytest.mark.parametrize("side_dim", [0, 2, None])
def test_canaries_are_asked_for_the_rows_that_their_h_promises(tmp_path: Path, side_dim: int | None) -> None:
    """``None``: a first release, whose canaries are rows as they are."""
    pairs, old, side = PairsFolder(tmp_path / "pairs"), by_hand.rows(8, 11), by_hand.rows(8, 12)[:, :2]
    names = np.array([f"canary:c{one}" for one in range(8)])
    h = None if side_dim is None else Reversed(side_dim)
    new = old if h is None else h.transform(old, side if side_dim else None)[0]
    pairs.save("canaries", ids=names, old=old, side=side, new=new)
    space = space_of(tmp_path, natives={1: Carried(pairs.root, h, old[:0], side[:0])})  # type: ignore[arg-type]
    there = {"ids": np.concatenate([space.ids, names]), "rows": np.concatenate([space.rows, new])}
    good = canary.look(NewSpace(**vars(space) | there))
    assert good.result.passed and good.promise.rate == 1 and good.promise.mean_cosine == pytest.approx(1) and good.promise.others == 600
    shuffled = canary.look(NewSpace(**vars(space) | there | {"rows": np.concatenate([space.rows, new[::-1]])}))
    assert not shuffled.result.passed
    gone = canary.look(space)
    assert not gone.result.passed and set(gone.result.missing) == set(names)
    assert [(m.value, m.bound, m.n) for m in canary.measure(good, SETTINGS)] == [(1.0, 1.0, 0)]
    assert [m.value for m in canary.measure(shuffled, SETTINGS)] == [0.0]


def test_the_fingerprint_is_that_of_the_release_and_of_the_space(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    found = new_intact.look(space)
    assert found.fingerprint_ok and found.adopted and found.measured == {}
    other = new_intact.look(NewSpace(**vars(space) | {"fingerprint": "f" * 64}))
    assert not other.fingerprint_ok
    assert [m.applies for m in (*new_intact.measure(found, SETTINGS), *new_intact.measure(other, SETTINGS))] == [False, True]
