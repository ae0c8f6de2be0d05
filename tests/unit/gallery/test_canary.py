"""Canaries must tell a broken space from an honest one by what its rows mean: no digest is looked at here.

The world: images have latent vectors; the old and the new embedder are two random nonlinear maps of them, and h is fitted on pairs.
"""

import numpy as np
import pytest

from fct.errors import BadInput
from fct.gallery.canary import check, promise

K, N, D = 48, 1500, 32
SEEDS = range(5)


def embedder(rng, latent):
    first, second = rng.normal(size=(latent, 3 * D)) / latent**0.5, rng.normal(size=(3 * D, D)) / (3 * D) ** 0.5
    shift = rng.normal(size=D) * 0.3
    return lambda images: np.tanh(1.2 * images @ first) @ second * 6 + shift


def fit(old, new, nonlinear):
    """Ridge regression on old vectors with a constant and, for the nonlinear h, random features."""
    rng = np.random.default_rng(7)
    weights, spread = rng.normal(size=(old.shape[1], 128)) / old.shape[1] ** 0.5, old.std()

    def expand(x):
        wide = np.tanh(x @ weights / spread) * spread
        return np.hstack([x, *([wide] if nonlinear else []), np.full((len(x), 1), spread)])

    wide = expand(old)
    solved = np.linalg.solve(wide.T @ wide + 3.0 * np.eye(wide.shape[1]), wide.T @ new)
    return lambda x: (expand(x) @ solved).astype(np.float32)


class World:
    """Canaries and gallery in the old and new space, an honest h, and its promise."""

    def __init__(self, seed, metric="cosine", nonlinear=True, k=5):
        rng = np.random.default_rng(seed)
        latent = 20
        images = rng.normal(size=(N + K + 3000, latent))
        self.old = embedder(rng, latent)(images) + rng.normal(size=(len(images), D)) * 0.9
        self.new = (embedder(rng, latent)(images)).astype(np.float32)
        self.h = fit(self.old[N + K :], self.new[N + K :], nonlinear)
        self.metric, self.k = metric, k
        self.ids = np.array([f"row {i:05d}" for i in rng.permutation(N + K)])
        self.native, self.names = self.new[:K], self.ids[:K]
        honest = self.h(self.old[: N + K])
        elsewhere = self.h(self.old[N + K : N + K + 1000])
        self.honest, self.promise = honest, promise(self.native, honest[:K], elsewhere, metric=metric, k=k)

    def check(self, vectors, ids=None, margin=0.05, **more):
        promised = {"promised_rate": self.promise.rate, "promised_cosine": self.promise.mean_cosine, "promised_scale": self.promise.scale}
        more = {"others": self.promise.others} | more
        ids = self.ids if ids is None else ids
        return check(self.native, self.names, ids, vectors, metric=self.metric, k=self.k, margin=margin, **promised, **more)


@pytest.fixture(scope="module")
def worlds():
    return {(seed, metric): World(seed, metric) for seed in SEEDS for metric in ("cosine", "l2")}


def every(test):
    return pytest.mark.parametrize("metric", ["cosine", "l2"])(pytest.mark.parametrize("seed", SEEDS)(test))


@every
def test_an_honest_space_passes_at_real_life_quality(worlds, seed, metric):
    world = worlds[seed, metric]
    assert 0.85 < world.promise.mean_cosine < 0.95 and world.promise.rate > 0.6
    result = world.check(world.honest)
    assert result.passed and result.missing == () and "as promised" in result.why
    order = np.random.default_rng(seed).permutation(N + K)
    assert world.check(world.honest[order], world.ids[order]) == result


@every
def test_shuffled_rows_are_caught(worlds, seed, metric):
    world = worlds[seed, metric]
    rng = np.random.default_rng(seed)
    assert not world.check(world.honest[rng.permutation(N + K)]).passed
    assert not world.check(np.roll(world.honest, 1, axis=0)).passed
    part = world.honest.copy()
    third = rng.permutation(N + K)[: (N + K) // 3]
    part[third] = part[np.roll(third, 1)]
    result = world.check(part)
    assert not result.passed and "promised" in result.why


@every
def test_a_map_applied_the_wrong_way_round_is_caught(worlds, seed, metric):
    world = worlds[seed, metric]
    backward = fit(world.new[N + K :], world.old[N + K :], True)
    result = world.check(backward(world.old[: N + K]))
    assert not result.passed and result.rate < 0.2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_transpose_of_an_orthogonal_map_is_caught(seed, noise):
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(N + K, D))
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    new = (old @ turn + noise * rng.normal(size=old.shape)).astype(np.float32)
    ids = np.array([f"{i}" for i in range(N + K)])
    promised = promise(new[:K], (old @ turn)[:K], (old @ turn)[K:], metric="cosine", k=5)
    settings = {"metric": "cosine", "k": 5, "promised_rate": promised.rate, "promised_cosine": promised.mean_cosine, "margin": 0.05}
    assert check(new[:K], ids[:K], ids, old @ turn, **settings).passed
    assert not check(new[:K], ids[:K], ids, old @ turn.T, **settings).passed


@every
def test_the_normalisation_of_another_version_is_caught(worlds, seed, metric):
    world = worlds[seed, metric]
    old = world.old[: N + K]
    stale = world.h(old / np.linalg.norm(old, axis=1, keepdims=True))
    assert not world.check(stale).passed
    assert not world.check(stale * 20).passed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pure_scale_means_nothing_to_a_cosine_and_is_caught_by_a_distance(worlds, seed):
    assert worlds[seed, "cosine"].check(worlds[seed, "cosine"].honest * 3).passed
    result = worlds[seed, "l2"].check(worlds[seed, "l2"].honest * np.float32(0.8))
    assert not result.passed and "norm" in result.why


@every
def test_a_half_written_table_is_caught(worlds, seed, metric):
    world = worlds[seed, metric]
    half = np.random.default_rng(seed).permutation(N + K)[: (N + K) // 2]
    result = world.check(world.honest[half], world.ids[half])
    absent = set(world.names) - set(world.ids[half])
    assert not result.passed and set(result.missing) == absent and "have no row" in result.why
    for filling in (0.0, np.nan):
        partly = world.honest.copy()
        partly[half] = filling
        result = world.check(partly)
        assert not result.passed and f"{len(half)} rows are zero or not finite" in result.why


@every
def test_rows_left_in_the_old_space_are_caught(worlds, seed, metric):
    world = worlds[seed, metric]
    mixed = world.honest.copy()
    mixed[::2] = world.old[: N + K][::2]
    assert not world.check(mixed).passed


def test_a_repeated_id_is_caught(worlds):
    world = worlds[0, "cosine"]
    for extra in (0, K + 3):
        result = world.check(np.vstack([world.honest, world.honest[extra]]), np.append(world.ids, world.ids[extra]))
        assert not result.passed and f"repeat an id, the first is {world.ids[extra]}" in result.why


def test_an_empty_space_is_a_result(worlds):
    world = worlds[0, "cosine"]
    result = world.check(world.honest[:0], world.ids[:0])
    assert not result.passed and result.rate == 0 and len(result.missing) == K


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_rate_is_what_a_loop_counts(worlds, metric):
    world = worlds[1, metric]
    found = 0
    for i in range(K):
        query = world.native[i].astype(np.float64)
        rows = world.honest.astype(np.float64)
        if metric == "cosine":
            scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        else:
            scores = -((rows - query) ** 2).sum(axis=1)
        found += sum(score >= scores[i] for j, score in enumerate(scores) if j != i) < world.k
    assert world.check(world.honest, others=None).rate == found / K


def test_ties_count_against_a_canary():
    native = np.eye(4, dtype=np.float32)
    ids = np.array(list("abcd"))
    same = {"metric": "cosine", "promised_rate": 1.0, "promised_cosine": 1.0, "margin": 0.1}
    crowd = np.vstack([native, native[0]])
    assert check(native, ids, np.append(ids, "e"), crowd, k=2, **same).rate == 1
    assert check(native, ids, np.append(ids, "e"), crowd, k=1, **same).rate == 0.75
    assert check(native, ids, ids, np.ones((4, 4), dtype=np.float32), k=3, **same).rate == 0


def test_rate_and_cosine_each_catch_what_the_other_does_not_see():
    rng = np.random.default_rng(0)
    vectors, common = rng.normal(size=(400, D)), np.zeros(D)
    common[0] = 40
    ids = np.array([f"{i:03d}" for i in range(400)])
    told = {"metric": "cosine", "k": 3, "promised_rate": 1.0, "promised_cosine": 1.0, "margin": 0.05}
    narrow = vectors + common  # all vectors of an anisotropic embedder point the same way, so shuffled rows still look alike
    shuffled = check(narrow[:K], ids[:K], ids, np.roll(narrow, 1, axis=0), **told)
    assert (
        not shuffled.passed and shuffled.mean_cosine > 0.95 and "find their own row" in shuffled.why and "mean cosine" not in shuffled.why
    )
    vectors[:, 0] = 0
    moved = check(vectors[:K], ids[:K], ids, vectors + common / 2, **told | {"k": 20})
    assert not moved.passed and moved.rate > 0.95 and "mean cosine" in moved.why and "find their own row" not in moved.why


def test_a_promise_that_chance_would_keep_protects_nothing(worlds):
    world = worlds[0, "cosine"]
    result = check(
        world.native, world.names, world.ids, world.honest, metric="cosine", k=5, promised_rate=0.04, promised_cosine=0.5, margin=0.05
    )
    assert not result.passed and "chance" in result.why


def test_canaries_that_do_not_fit_are_refused(worlds):
    world = worlds[0, "cosine"]
    for native, names, vectors in (
        (world.native[:, :5], world.names, world.honest),
        (world.native[:5], world.names, world.honest),
        (world.native * np.nan, world.names, world.honest),
        (world.native, np.full(K, "same"), world.honest),
        (world.native, world.names, world.honest[:-1]),
    ):
        with pytest.raises(BadInput):
            check(native, names, world.ids, vectors, metric="cosine", k=5, promised_rate=0.9, promised_cosine=0.9, margin=0.05)
    with pytest.raises(BadInput, match="metric"):
        promise(world.native, world.native, world.honest, metric="dot", k=5)
