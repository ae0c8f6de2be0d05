"""A rehearsed rollback on a real index: what a candidate written beside it may not change."""

from dataclasses import replace

import numpy as np
import pytest

from fct.errors import BadInput, NotPermitted
from fct.gallery import index as indexes
from fct.gallery import indexing
from fct.gallery.settings import IndexSettings
from registry.revisions.serving import Serving
from registry.upgrades import rehearsal
from tests.by_hand import revision_of

FLAT = IndexSettings("flat", 1000, 8, 40, 32, 8, 4, "cpu", 0)
REVISION = revision_of(1)


class Shelf:
    """A gallery of 300 items with its index on disk; ``open`` is what a rollback does: the index is checked, then searched."""

    def __init__(self, folder, seed=0):
        rng = np.random.default_rng(seed)
        self.folder = folder
        self.rows = rng.normal(size=(300, 8)).astype(np.float32)
        self.ids = np.array([f"item-{i:03}" for i in range(300)])
        self.labels = np.array([f"class-{i % 7}" for i in range(300)])
        self.queries = rng.normal(size=(250, 8)).astype(np.float32)
        self.write(self.rows)

    def write(self, rows):
        indexing.save(indexing.build(rows, "cosine", FLAT), self.ids, self.folder, "content", FLAT, "cosine")

    def open(self, revision):
        searcher = indexes.open_index(self.folder, "cosine", "content")
        columns = {"id": self.ids, "label": self.labels, "image_uri": np.full(300, ""), "origin": np.full(300, "native")}
        return Serving(revision, None, None, searcher, columns, self.ids != "item-000")


@pytest.fixture
def shelf(tmp_path):
    found = Shelf(tmp_path / "index")
    rehearsal.record(found.open, REVISION, found.queries, tmp_path / "rehearsal")
    return found


def again(shelf):
    return rehearsal.repeat(shelf.open, shelf.folder.parent / "rehearsal")


def test_what_was_left_alone_answers_the_same(shelf):
    found = again(shelf)
    assert found.same == 1.0 and found.queries == rehearsal.QUERIES and "release 1" in found.note
    first, second = found.note.split("answers ")[1].split(" and ")
    assert first == second


def test_the_answers_are_those_of_a_naive_search(shelf):
    found = rehearsal.answers(shelf.open(REVISION), shelf.queries[:20])
    unit = shelf.rows / np.linalg.norm(shelf.rows, axis=1, keepdims=True)
    for query, hits in zip(shelf.queries, found, strict=False):
        order = [i for i in np.argsort(-(unit @ query)) if i != 0][: rehearsal.DEPTH]
        assert [one for one, *_ in hits] == shelf.ids[order].tolist() and [label for *_, label in hits] == shelf.labels[order].tolist()


def test_one_changed_item_is_noticed_by_the_queries_that_find_it(shelf):
    rows = shelf.rows.copy()
    rows[17] = -rows[17]
    shelf.write(rows)
    found = again(shelf)
    assert 0.5 < found.same < 1.0


def test_scores_and_labels_are_compared_too(shelf):
    shelf.write(2 * shelf.rows + 1e-3)  # nearly the same directions: other scores
    assert again(shelf).same < 1.0
    shelf.write(shelf.rows)
    assert again(shelf).same == 1.0
    shelf.labels = np.roll(shelf.labels, 1)
    assert again(shelf).same == 0.0


def test_what_cannot_be_opened_any_more_is_a_result_not_an_error(shelf):
    (shelf.folder / "index.faiss").write_bytes(b"overwritten")
    found = again(shelf)
    assert found.same == 0.0 and "cannot be returned to" in found.note and "altered" in found.note


@pytest.mark.parametrize("error", [NotPermitted("the index was altered"), BadInput("a table is gone")])
def test_what_could_not_be_opened_before_either_is_refused_with_the_reason(tmp_path, error):
    def closed(revision):
        raise error

    rehearsal.record(closed, REVISION, np.ones((3, 8), np.float32), tmp_path / "rehearsal")
    found = rehearsal.repeat(closed, tmp_path / "rehearsal")
    assert found.same == 0.0 and found.queries == 3 and str(error) in found.note


def test_a_rehearsal_is_written_whole_or_not_at_all(shelf, tmp_path):
    def broken(revision):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearsal.record(broken, REVISION, shelf.queries, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "rehearsal"]


def test_the_same_answers_whatever_block_they_are_asked_in(shelf):
    serving = shelf.open(REVISION)
    assert rehearsal.answers(serving, shelf.queries[:40]) == [rehearsal.answers(serving, q[None])[0] for q in shelf.queries[:40]]
    assert replace(serving).search_vectors(shelf.queries[:1], 3)
