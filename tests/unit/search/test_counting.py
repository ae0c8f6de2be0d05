import numpy as np
import pytest
import torch

from fct.search import counting


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("dim", [2, 3, 65, 515])
@pytest.mark.parametrize("height", [1, 9, 40])
def test_equal_rows_differ_by_less_than_the_slack_wherever_they_stand_and_a_score_taken_twice_is_the_same_twice(metric, dim, height):
    rng = np.random.default_rng(dim)
    half = rng.normal(size=(77, dim)).astype(np.float32)
    where = rng.permutation(154)
    gallery = np.concatenate([half, half])[where]
    task = counting.Task(rng.normal(size=(height, dim)), np.zeros(height, np.int32), np.zeros(154, np.int32), [], metric)
    query = torch.zeros(48, dim, dtype=torch.float64)
    counting.prepare(task.query, query, metric)
    block, chosen = counting.Block(task, gallery, 48, 32), np.arange(height)
    found, again, slack = [], [], []
    for start in range(0, 154, 32):
        found.append(block.scores(query, chosen, start).clone())
        columns = torch.arange(found[-1].shape[1])[None]
        slack.append(block.slack(query, torch.arange(height)[:, None], columns))
    again = [block.scores(query, chosen, start).clone() for start in range(0, 154, 32)]
    first, slack = np.concatenate(found, axis=1), np.concatenate(slack, axis=1)
    np.testing.assert_array_equal(first, np.concatenate(again, axis=1))
    back = np.argsort(where)
    assert (np.abs(first[:, back[:77]] - first[:, back[77:]]) < slack[:, back[:77]]).all() and slack.max() < 1e-9
    exact = gallery.astype(float)
    if metric == "cosine":
        exact = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        wanted = (task.query / np.linalg.norm(task.query, axis=1, keepdims=True)) @ exact.T
    else:
        wanted = 2 * task.query @ exact.T - (exact**2).sum(axis=1)
    np.testing.assert_allclose(first, wanted, rtol=0, atol=1e-11)


def test_the_length_of_a_row_can_be_tiny_or_huge():
    rows = np.array([[3e-200, 4e-200], [3e200, 4e200], [3.0, 4.0]])
    out = torch.full((4, 2), 7.0, dtype=torch.float64)
    counting.prepare(rows, out, "cosine")
    np.testing.assert_allclose(out.numpy(), [[0.6, 0.8]] * 3 + [[0, 0]], rtol=1e-15)


def test_positives_are_the_pairs_of_one_label():
    of_query, of_gallery = np.array([2, 0, 3, 1]), np.array([0, 2, 0, 2, 2, 4])
    by_label = np.argsort(of_gallery, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(of_gallery, minlength=5))])
    row, column = counting.positives(of_query, by_label, starts)
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(0, 1), (0, 3), (0, 4), (1, 0), (1, 2)]
