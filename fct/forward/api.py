"""``fct.fit``: fit a forward transformation h on pairs of vectors.

Legend: N pairs, M pool pairs, D old, P side, E new dimensions, K classes.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fct import device as devices
from fct.arrays import given as seeds
from fct.arrays import vectors
from fct.errors import BadInput
from fct.forward import inputs as checked
from fct.forward import joining, judging, ladder
from fct.forward.candidates import fit_candidate
from fct.forward.joined import METRICS
from fct.forward.material import Material
from fct.forward.rows import held_out
from fct.forward.settings import AUTO, LEARNED, METHODS, FitSettings, recipe
from fct.forward.transformation import Forward


def fit(
    old: np.ndarray,
    new: np.ndarray,
    *,
    side: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    sources: np.ndarray | None = None,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    pool_old: np.ndarray | None = None,
    pool_side: np.ndarray | None = None,
    pool_new: np.ndarray | None = None,
    method: str | None = None,
    mode: str = joining.CARRIED,
    metric: str = "cosine",
    settings: FitSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    title: str = "fitting h",
) -> Forward:
    """Fit h on pairs of vectors of the same items.

    Args:
        old: (N, D) φ of the old model. Memory maps are read in blocks.
        new: (N, E) φ of the new model, the scale it gives them.
        side: (N, P) side-information ψ of the old release, numbers of any dtype.
        labels: (N,) integers or strings, −1 or "" where unknown; with a head, the numbers of its rows.
        sources: (N,) rows of one source (views of an image, drawings of a pack), and copies, are never split between fitting and validation.
        head: weight (K, E) and bias (K,) of the new model's classification head; used frozen.
        pool_old, pool_side, pool_new: (M, …) unlabelled pairs of other classes.
        method: one of METHODS or ``auto``; by default what ``settings`` say, else ``auto``.
        mode: what the gallery is to hold. ``carried``: h(old, side) alone. ``joined``: the best of old vectors, carried vectors and ψ, searched at
            once (:mod:`fct.forward.joining`). ``auto``: carried if it is shown to be better than the old vectors, else joined, else the old vectors.
        metric: ``cosine`` or ``l2``, by which a joined gallery is searched.
        settings: of the training; by default the recipe of the method.

    Returns:
        the h. ``about`` has its settings, seed, input digests, seconds, ``validation`` (what was measured on held-out rows, and why
        this method), ``inputs_missing`` and ``warnings``.

    Raises:
        BadInput: unknown method, a seed below 0, rows or dimensions that do not correspond, labels outside of the head, NaN or infinity.

    Examples:
        Here the new model is a linear map of the old one, so that a closed form carries rows over exactly.

        >>> import numpy as np, fct
        >>> rng = np.random.default_rng(0)
        >>> old = rng.normal(size=(200, 8)).astype("float32")
        >>> new = old @ rng.normal(size=(8, 12)).astype("float32")
        >>> h = fct.fit(old, new, method="ridge")
        >>> h.old_dim, h.side_dim, h.new_dim
        (8, 0, 12)
        >>> round(h.about["validation"]["mean_cosine"], 3)  # on pairs that were held out
        1.0
        >>> carried, sigma = h.transform(old)
        >>> carried.shape, sigma.shape
        ((200, 12), (200,))
    """
    started = time.perf_counter()
    seeds.seed(seed)
    name = method or (settings.method if settings is not None else AUTO)
    if name not in (AUTO, *METHODS):
        raise BadInput("unknown method", wanted=", ".join((AUTO, *METHODS)), got=name)
    if mode not in joining.MODES:
        raise BadInput("unknown mode", wanted=", ".join(joining.MODES), got=mode)
    if metric not in METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(METRICS), got=metric)
    given = checked.check(old, new, side, labels, sources, head, pool_old, pool_side, pool_new)
    wanted = replace(settings, method=name) if settings is not None else recipe(name, len(old))
    for sentence in given.warnings:
        warnings.warn(sentence, stacklevel=2)
    chosen = devices.pick(device)
    wanted = replace(wanted, precision=devices.precision(wanted.precision, chosen))  # the manifest says what was used
    validation: dict[str, Any] | None = None
    if name == AUTO:
        choice = ladder.choose(given, wanted, seed=seed, device=chosen)
        wanted, validation = choice.settings, choice.validation
    elif name in LEARNED and given.fewer_than_dimensions:
        wanted = replace(wanted, method="ridge")
        given.warnings.append(f"{name} was asked for; ridge is fitted in its place")
    held = held_out(given.sources, ladder.HELD_OUT, judging.MOST_ROWS, seed)
    pairs, rest = given.pairs.take(~held), given.pairs.take(held)
    if len(pairs) < 2:
        raise BadInput("there are too few pairs to fit h on", wanted="at least 2 beside those held out", got=len(pairs))
    if len(rest) > judging.MOST_ROWS:
        rest = rest.take(np.sort(np.random.default_rng(seed).choice(len(rest), judging.MOST_ROWS, replace=False)))
    material = Material(pairs, given.sources[~held], rest, given.pool, given.head, seed, chosen)
    before = time.perf_counter()
    h = fit_candidate(wanted.method, material, wanted, title)
    seconds = time.perf_counter() - before
    if validation is None:
        validation = {"held_out": len(rest), "candidates": [], "chosen": h.method, "reason": f"{h.method} was asked for."}
        if len(rest) > 1:
            validation = ladder.beside_best_closed(
                h, material, wanted, rest.labels[rest.rows], given.sources[rest.rows], seconds=seconds, seed=seed
            )
    if len(rest):
        old_rows, side_rows, new_rows, _ = rest.gather(slice(None))
        carried, _ = h.transform(old_rows, side_rows if h.side_dim else None)
        validation["mean_cosine"] = round(float((vectors.normalise(carried) * vectors.normalise(new_rows)).sum(axis=1).mean()), 6)
    about = h.about | {
        "settings": asdict(wanted),
        "seed": seed,
        "pairs": len(pairs),
        "pool": 0 if given.pool is None else len(given.pool),
        "inputs": given.digests,
        "inputs_missing": given.missing,
        "warnings": given.warnings,
        "validation": validation,
        "seconds": round(time.perf_counter() - started, 3),
    }
    if mode == joining.CARRIED:
        return replace(h, about=about)
    parts, said = joining.choose(mode, h.method, given, wanted, metric=metric, seed=seed, device=chosen)
    about |= {"joining": said, "seconds": round(time.perf_counter() - started, 3)}
    return replace(h, about=about, joined=parts)
