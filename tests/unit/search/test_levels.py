import numpy as np
import pytest
import torch

from fct.search import levels as module


def rows_of_levels(seed, rows, count, kind):
    rng = np.random.default_rng(seed)
    if kind == "normal":
        found = rng.normal(size=(rows, count))
    elif kind == "equal":
        found = np.repeat(rng.normal(size=(rows, 1)), count, axis=1)
    elif kind == "few":
        found = rng.integers(-2, 3, (rows, count)).astype(float)
    elif kind == "neighbours":
        found = np.nextafter(rng.integers(-2, 3, (rows, count)).astype(float), rng.choice([-9.0, 9.0], (rows, count)))
    else:  # one far off: nearly all in one cell
        found = np.concatenate([np.full((rows, 1), -1e6), rng.normal(size=(rows, count - 1)) * 1e-3], axis=1)[:, :count]
    return torch.from_numpy(np.sort(found, axis=1))


@pytest.mark.parametrize("kind", ["normal", "equal", "few", "neighbours", "far"])
@pytest.mark.parametrize("count", [1, 2, 31, 300])
def test_scores_are_placed_as_a_search_of_each_would(kind, count, monkeypatch):
    monkeypatch.setattr(module, "CACHED", 1000)
    for seed in range(3):
        levels = rows_of_levels(seed, 7, count, kind)
        rng = np.random.default_rng(seed)
        picked = levels[:, rng.integers(0, count, 200)]
        found = torch.cat(
            [
                torch.from_numpy(rng.normal(size=(7, 150))),
                picked,  # the very levels …
                torch.nextafter(picked, torch.tensor(torch.inf, dtype=torch.float64)),  # … and their neighbours
                torch.nextafter(picked, torch.tensor(-torch.inf, dtype=torch.float64)),
                torch.full((7, 2), -torch.inf, dtype=torch.float64),
                torch.full((7, 1), 1e300, dtype=torch.float64),
            ],
            dim=1,
        )
        found = found[:, torch.from_numpy(rng.permutation(found.shape[1]))][:, :601]  # a view: rows are not contiguous
        wanted = torch.searchsorted(levels, found.contiguous(), right=True)
        assert torch.equal(module.Levels(levels).reach(found).long(), wanted)


@pytest.mark.parametrize("shift", [-4, 0, 4])
def test_most_scores_are_placed_by_their_cell_alone_those_beyond_all_levels_too(shift):
    levels = rows_of_levels(0, 4, 100, "normal")
    found = torch.from_numpy(np.random.default_rng(1).normal(shift, 1, size=(4, 5000)))
    ladder = module.Levels(levels)
    assert float((ladder.place[ladder.cell(found)] < 0).double().mean()) < 0.1
