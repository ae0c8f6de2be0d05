"""The mix of native versions that the gates are measured on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from registry.upgrades.steps.evaluate import mixed


@given(
    st.dictionaries(st.integers(1, 9), st.integers(0, 10_000), min_size=1).filter(lambda counts: sum(counts.values())), st.integers(1, 500)
)
def test_every_version_has_its_share_of_the_rows(counts: dict[int, int], rows: int) -> None:
    chosen = mixed(counts, rows, 0)
    assert len(chosen) == rows and set(chosen.tolist()) <= {m for m, count in counts.items() if count}
    total = sum(counts.values())
    for m, count in counts.items():
        assert abs((chosen == m).sum() - rows * count / total) <= 1
    assert np.array_equal(chosen, mixed(counts, rows, 0))


def test_the_rows_of_a_version_are_not_those_that_stand_together() -> None:
    chosen = mixed({1: 500, 2: 500}, 1000, 0)
    assert 400 < (chosen[1:] != chosen[:-1]).sum() < 600
