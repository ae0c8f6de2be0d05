"""Vectors from elsewhere: reading them, telling embedders apart, dividing given pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct import release
from fct.arrays import vectors
from fct.errors import BadInput
from fct.sample import adopted, delivered
from fct.sample.folder import PairsFolder


def embedded(rows: int, seed: int, images: int = 0, dim: int = 16) -> np.ndarray:
    """Vectors of images (drawn by ``images``) under an embedder (drawn by ``seed``)."""
    hidden = np.random.default_rng(1000 + images).normal(size=(rows, 6))
    return np.tanh(hidden @ np.random.default_rng(seed).normal(size=(6, dim))).astype(np.float32)


def test_vectors_of_another_embedder_are_strangers_and_other_images_are_not() -> None:
    known = embedded(2000, seed=1)
    assert adopted.strangers(known, embedded(500, seed=1, images=5)) < 0.05
    assert adopted.strangers(known, embedded(500, seed=2, images=5)) > 0.9


def test_two_scales_are_seen_and_one_is_not() -> None:
    phi = embedded(300, seed=1)
    assert adopted.two_scales(phi) is None
    phi[::3] *= 40
    assert adopted.two_scales(phi) == pytest.approx(1 / 3)
    assert adopted.two_scales(phi[:1]) is None


def test_normalised_is_said_of_unit_rows_alone() -> None:
    phi = embedded(50, seed=1)
    assert not adopted.normalised(phi) and adopted.normalised(vectors.normalise(phi))


@settings(deadline=None, max_examples=60)
@given(st.integers(12, 60), st.integers(20, 40), st.integers(0, 400), st.integers(0, 10))
def test_parts_of_given_pairs_are_disjoint_and_whole_classes_are_unseen(classes: int, each: int, unlabelled: int, seed: int) -> None:
    labels = np.array([f"c{i}" for i in range(classes) for _ in range(each)] + [""] * unlabelled)
    parts = adopted.divide(labels, seed)
    rows = np.concatenate(list(vars(parts).values()))
    assert len(np.unique(rows)) == len(rows) <= len(labels)
    assert set(labels[parts.pool]) <= {""} and "" not in labels[np.concatenate([parts.fitting, parts.known, parts.unseen])]
    hidden = set(labels[parts.unseen])
    assert len(hidden) == (0 if classes < 20 else max(5, int(0.15 * classes))) and not hidden & set(
        labels[np.concatenate([parts.fitting, parts.known])]
    )
    assert (adopted.divide(labels, seed).canaries == parts.canaries).all() and len(parts.canaries)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 30), st.integers(20, 40), st.integers(1, 6), st.integers(0, 10))
def test_a_unit_never_fits_and_judges(classes: int, each: int, size: int, seed: int) -> None:
    """Units of any classes, unlabelled rows among them: what shares a unit with an evaluated row is evaluated, or in the canaries."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([f"c{i % classes}" for i in range(classes * each)] + [""] * 60)
    units = rng.permutation(len(labels)) // size
    if size > 2:  # copies mostly share their label
        units = np.unique(np.char.add(labels, (np.arange(len(labels)) % (len(labels) // size)).astype(str)), return_inverse=True)[1]
    try:
        parts = adopted.divide(labels, seed, units)
    except BadInput:
        return
    rows = np.concatenate(list(vars(parts).values()))
    assert len(np.unique(rows)) == len(rows)
    judging = set(units[np.concatenate([parts.known, parts.unseen])])
    assert not judging & set(units[np.concatenate([parts.fitting, parts.pool])])
    if classes < 10:  # no class is hidden: every row has a part
        assert len(rows) == len(labels)


def test_equal_pairs_are_one_canary() -> None:
    ids = np.array(["b", "a", "b", "c", "a"])
    assert adopted.distinct(ids, np.array([3, 4, 7, 8, 9])).tolist() == [3, 4, 8]


def test_without_labels_nothing_can_be_judged() -> None:
    with pytest.raises(BadInput, match="too few of the pairs have labels"):
        adopted.divide(np.full(500, ""), 0)
    with pytest.raises(BadInput, match="too few of the pairs have labels"):
        adopted.divide(np.full(500, "one"), 0)


def test_the_files_are_those_of_the_step_embed(tmp_path: Path) -> None:
    labels = np.array([f"c{i % 24}" for i in range(480)] + [""] * 100)
    old, new = embedded(580, 1), embedded(580, 2, dim=20)
    given_ = adopted.given_pairs(old, new, np.zeros((580, 0), np.int8), labels)
    given_.save(tmp_path / "given")
    again = adopted.load_given(tmp_path / "given")
    counts = adopted.write_pairs(again, tmp_path / "out", classes=["c3", "c5"], seed=0, about={"metric": "cosine"})
    parts = adopted.divide(labels, 0, given_.units)
    sample = PairsFolder(tmp_path / "out").sample()
    rows = np.array([int(one.removeprefix("pair-")) for one in sample.ids])
    assert (sample.new == new[rows]).all() and (sample.labels == labels[rows]).all() and set(sample.populations) == {"known", "unseen"}
    fitted = np.array(vectors.load(tmp_path / "out/fitting/labels.npy"))
    assert set(fitted[labels[parts.fitting] == "c5"]) <= {1} and set(fitted[labels[parts.fitting] == "c7"]) <= {-1}
    assert counts == {"fitting": len(parts.fitting), "pool": len(parts.pool), "sample": len(rows), "canaries": len(parts.canaries)}
    assert (np.array(vectors.load(tmp_path / "out/canaries/new.npy")) == new[parts.canaries]).all()


def test_a_gallery_is_read_from_npy_and_from_parquet(tmp_path: Path) -> None:
    phi, psi = embedded(30, 1), np.arange(90, dtype=np.int8).reshape(30, 3) % 4
    np.save(tmp_path / "v.npy", phi.astype(np.float64))
    np.save(tmp_path / "s.npy", psi)
    (tmp_path / "ids.txt").write_text("\n".join(f"item {i}" for i in range(30)), encoding="utf-8")
    bare = delivered.read_rows(tmp_path / "v.npy")
    assert bare.ids[[0, 29]].tolist() == ["00", "29"] and bare.psi.shape == (30, 0) and bare.phi.dtype == np.float32
    table = {"id": [f"item {i}" for i in range(30)], "vector": list(phi), "side": list(psi), "label": ["x"] * 30}
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    for rows in (
        delivered.read_rows(tmp_path / "v.npy", ids=tmp_path / "ids.txt", side=tmp_path / "s.npy"),
        delivered.read_rows(tmp_path / "v.parquet"),
    ):
        assert rows.ids[3] == "item 3" and (rows.phi == phi).all() and (rows.psi == psi).all()
    assert rows.labels[0] == "x" and rows.uris[0] == ""


def test_other_pairs_have_other_canaries_and_stand_ins_are_no_item() -> None:
    phi, psi = embedded(200, 1), np.random.default_rng(0).integers(-8, 8, (200, 5)).astype(np.int8)
    assert (adopted.canary_ids(phi[:9]) == adopted.canary_ids(phi[:9].copy())).all()
    assert not set(adopted.canary_ids(phi[:64])) & set(adopted.canary_ids(embedded(64, 1, images=3)))
    one, two = adopted.stand_ins(phi, psi, 0)
    assert one.shape == (64, 16) and one.dtype == phi.dtype and two.dtype == np.int8
    assert not {row.tobytes() for row in one} & {row.tobytes() for row in phi}
    assert np.linalg.norm(one, axis=1).min() > 0.5 * np.linalg.norm(phi, axis=1).min()


@pytest.mark.parametrize("one", ["a\0b", "canary:x", ""])
def test_ids_that_cannot_be_stored_are_refused_before_anything_is_registered(tmp_path: Path, one: str) -> None:
    pq.write_table(pa.table({"id": [one, "b"], "vector": list(embedded(2, 1))}), tmp_path / "v.parquet")
    with pytest.raises(BadInput, match="id"):
        delivered.read_rows(tmp_path / "v.parquet")


def test_an_adopted_release_is_whole_without_a_program_and_one_that_was_altered_is_not(tmp_path: Path) -> None:
    made = release.write_adopted(
        tmp_path / "r", dim=8, side_bits=[], metric="cosine", normalised=True, content="abc", canary_ids=["canary:pair-1"]
    )
    assert made.adopted and made.dim == 8 and made.side_bytes == 0 and release.problems(tmp_path / "r") == []
    with pytest.raises(BadInput, match="adopted without its embedder"):
        made.program()
    path = tmp_path / "r/release.json"
    path.write_text(path.read_text().replace('"abc"', '"abd"'))
    assert release.problems(tmp_path / "r")
    with pytest.raises(BadInput, match="unknown metric"):
        release.write_adopted(tmp_path / "q", dim=8, side_bits=[], metric="dot", normalised=False, content="abc", canary_ids=[])


def test_sources_of_pairs_are_kept_and_an_old_folder_without_them_is_read(tmp_path: Path) -> None:
    old, new = embedded(240, 1), embedded(240, 2, dim=20)
    for name, array in (("old", old), ("new", new)):
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "labels.txt").write_text("".join(f"c{i % 12}\n" for i in range(240)), encoding="utf-8")
    (tmp_path / "sources.txt").write_text("".join(f"{'' if i < 40 else i // 6}\n" for i in range(240)), encoding="utf-8")
    files = (tmp_path / "old.npy", tmp_path / "new.npy", tmp_path / "labels.txt")
    given_ = delivered.read_given(*files, sources=tmp_path / "sources.txt")
    assert len(np.unique(given_.units[42:])) == 33 and len(np.unique(given_.units[:40])) == 40
    given_.save(tmp_path / "given")
    assert (adopted.load_given(tmp_path / "given").units == given_.units).all()
    for name in ("sources", "copies"):
        (tmp_path / f"given/{name}.npy").unlink()
    assert (adopted.load_given(tmp_path / "given").copies == given_.copies).all()
    (tmp_path / "sources.txt").write_text("a\n", encoding="utf-8")
    with pytest.raises(BadInput, match="the pairs' sources do not correspond to their old vectors; wanted 240 rows; got 1"):
        delivered.read_given(*files, sources=tmp_path / "sources.txt")
