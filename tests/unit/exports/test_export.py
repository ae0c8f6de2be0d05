"""What is compared with another engine, and what a delta holds; naive loops as oracles."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct.errors import BadInput, NotPermitted
from registry.exports import base, pgvector
from registry.exports.base import COLUMNS, DEPTH, Rows, Store, compare, digests_of, name_of, searched, store_of
from registry.exports.parquet import _difference


def rows(ids: list[str], seed: int = 0, *, metric: str = "cosine", dim: int = 5, **columns: Any) -> Rows:
    made = {name: np.array([f"{name} of {one}" for one in ids], dtype=str) for name in COLUMNS}
    made |= {"native_version": np.ones(len(ids), dtype=np.int32)} | columns
    vectors = np.stack([np.random.default_rng([seed, *map(ord, one)]).normal(size=dim) for one in ids]).astype(np.float32)
    return Rows(np.array(ids), vectors, np.zeros(len(ids), dtype=np.float32), made, 2, 1, 3, metric, "f", {})


def engine(held: Rows) -> Any:
    """An engine that sorts all rows for each query."""
    vectors = searched(held)

    def ask(query: np.ndarray) -> list[str]:
        score = -(vectors @ query) if held.metric == "cosine" else ((vectors - query) ** 2).sum(axis=1)
        return [str(held.ids[row]) for row in np.argsort(score, kind="stable")[:DEPTH]]

    return ask


NAMES = [f"item-{number:03}" for number in range(60)]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_an_engine_that_holds_the_same_rows_passes_and_one_that_lost_some_does_not(metric: str) -> None:
    now = rows(NAMES, metric=metric)
    assert compare(now, searched(now), engine(now), "it") == 32
    with pytest.raises(NotPermitted, match="it gives other answers to the query"):
        compare(now, searched(now), engine(rows(NAMES[:-6], metric=metric)), "it")
    with pytest.raises(NotPermitted):
        compare(now, searched(now), engine(rows(NAMES, seed=1, metric=metric)), "it")
    with pytest.raises(NotPermitted):
        compare(now, searched(now), lambda query: [NAMES[0]] * DEPTH, "it")


def test_rows_with_the_same_vector_may_be_told_in_any_order() -> None:
    now = rows(NAMES)
    now.vectors[:40] = now.vectors[0]
    backwards = engine(Rows(now.ids[::-1], now.vectors[::-1], now.uncertainty, now.columns, 2, 1, 3, "cosine", "f", {}))
    assert compare(now, searched(now), backwards, "it") == 32


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(NAMES), min_size=1), st.sets(st.sampled_from(NAMES), min_size=1), st.sets(st.sampled_from(NAMES)))
def test_a_delta_is_what_a_loop_over_both_finds(first: set[str], second: set[str], moved: set[str]) -> None:
    before, now = rows(sorted(first)), rows(sorted(second))
    for row, one in enumerate(now.ids.tolist()):
        if one in moved:
            now.columns["label"][row] = "x"
    changed, gone = _difference(now, before)
    assert set(now.ids[changed]) == {one for one in second if one not in first or one in moved}
    assert set(gone) == first - second


def test_every_column_is_part_of_a_rows_digest() -> None:
    one = rows(NAMES[:1])
    seen = {digests_of(one, one.vectors)[0], digests_of(one, one.vectors + 1)[0]}
    for name in COLUMNS:
        other = np.array([7], dtype=np.int32) if name == "native_version" else np.array(["other"])
        seen.add(digests_of(rows(NAMES[:1], **{name: other}), one.vectors)[0])
    assert len(seen) == 2 + len(COLUMNS)


def test_names_in_other_engines_are_plain_and_of_one_model_alone() -> None:
    models = ["icons", "Icons", "icons!", "icons ü", "tiny <b>*x*", "a" * 90, "a" * 91, "x_y", "x y", "x-y", "日本"]
    names = [name_of(one) for one in models]
    assert len(set(names)) == len(models) and names[0] == "fct_icons"
    assert all(name.isascii() and name.replace("_", "").isalnum() and len(name) < 60 and name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("dim", "words"),
    [(2000, None), (2001, "halfvec(2001)) halfvec_cosine_ops"), (3072, "halfvec(3072)"), (4000, "halfvec(4000)"), (4001, "every row")],
)
def test_what_an_index_of_pgvector_cannot_take_is_said_with_the_cast(dim: int, words: str | None) -> None:
    found = pgvector.advice(dim, "fct_icons.release_2", "cosine")
    assert found is None if words is None else found is not None and words in found


def test_what_pgvector_cannot_hold_is_refused() -> None:
    with pytest.raises(BadInput, match="at most 16000 dimensions; got 16001"):
        pgvector.advice(16_001, "t", "l2")


FOLDER = Path(base.__file__).parent
EXTRAS = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_every_file_is_a_store_and_one_takes_files() -> None:
    assert len(base.stores()) == len(list(FOLDER.glob("*.py"))) - 2  # what is shared, and the room
    assert [store.address for store in base.stores() if not store.schemes] == ["release-2.parquet"]
    schemes = [scheme for store in base.stores() for scheme in store.schemes]
    assert not [(one, other) for one in schemes for other in schemes if one != other and one.startswith(other)]


@pytest.mark.parametrize("store", base.stores(), ids=lambda store: store.address)
def test_a_store_answers_to_its_address_and_says_what_it_needs(store: Store) -> None:
    assert store_of(store.address) is store
    assert all(store_of(f"{scheme}somewhere") is store for scheme in store.schemes)
    assert store.help[0].isupper() and store.help.endswith(".") and "|" not in store.help
    assert not store.extra or store.extra in EXTRAS


@pytest.mark.parametrize("address", ["mysql://x/y", "qdrant+ftp:x", "s3://bucket/release.parquet"])
def test_an_address_that_no_store_has_is_refused_with_those_there_are(address: str) -> None:
    with pytest.raises(BadInput, match="names no known engine.*a file, or .*postgresql://.*qdrant"):
        store_of(address)


@pytest.mark.parametrize("address", ["release.parquet", "/a/folder/of: mine.parquet", "postgresql.parquet", "C:\\x.parquet"])
def test_anything_else_is_a_file(address: str) -> None:
    assert store_of(address).parts
