"""Running a trial: the split, the fit, the measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fct import forward
from fct.arrays import digests, vectors
from fct.arrays import given as seeds
from fct.errors import BadInput
from fct.forward import METHODS, FitSettings, Forward
from fct.forward.settings import AUTO
from fct.sample import backfilling, evaluation
from fct.sample.folder import Sample
from fct.sample.splitting import class_numbers, split, unsplit
from fct.sample.trial import AGREEMENT, RETRIEVAL, Backfill, Trial, _clusters
from fct.search import copies, metrics, order
from fct.search.agreement import agreement, neighbours

CURVE_QUERIES, RANDOM_ORDERS = 1000, 5


def _measure(sample: Sample, carried: dict[str, np.ndarray], metric: str, labelled: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(R,) places of the queries that count and their values; ``carried``: nh, and ph if there is one."""
    sides = {"oo": (sample.old, sample.old), **{name: (sample.new, rows) for name, rows in carried.items()}, "nn": (sample.new, sample.new)}
    if labelled:
        results = {row: evaluation.search(sample, query, gallery, metric) for row, (query, gallery) in sides.items()}
        return results["nn"].rows, {f"{row}_{name}": result.metric(name) for row, result in results.items() for name in RETRIEVAL}
    everyone = np.arange(len(sample.ids))
    near = {row: neighbours(sample.ids, sample.sources, query, gallery, metric, everyone) for row, (query, gallery) in sides.items()}
    values = {f"{row}_agreement": agreement(found, near["nn"]) for row, found in near.items()}
    rows = np.flatnonzero(np.isfinite(values["nn_agreement"]))
    if len(rows) == 0:
        raise BadInput("no query has an item that it can see", todo="check ids and sources")
    return rows, {name: value[rows] for name, value in values.items()}


def _agreement_curves(
    sample: Sample, carried: np.ndarray, sigma: np.ndarray, metric: str, rows: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """What :func:`fct.sample.backfilling.sample_curves` gives, for agreement with new/new."""
    if not np.isfinite(sigma).all():
        return {}
    wanted = neighbours(sample.ids, sample.sources, sample.new, sample.new, metric, rows)

    def along(path: np.ndarray) -> np.ndarray:
        found = []
        for share in np.linspace(0, 1, backfilling.STEPS):
            native = path[: round(share * len(path))]
            mixed = carried.copy()
            mixed[native] = sample.new[native]
            found.append(agreement(neighbours(sample.ids, sample.sources, sample.new, mixed, metric, rows), wanted))
        return np.stack(found)

    drawn = [along(path) for path in order.random_orders(len(carried), RANDOM_ORDERS, seed)]
    oracle = order.oracle_order(carried, sample.new, metric)
    found = {"shipped": along(order.by_uncertainty(sigma)), "oracle": along(oracle), "random": np.mean(drawn, axis=0)}
    return {"rows": rows} | {f"{name}_agreement": value for name, value in found.items()}


def backfill(
    sample: Sample, carried: np.ndarray, sigma: np.ndarray, rows: np.ndarray, metric: str, labelled: bool, seed: int
) -> Backfill | None:
    """The backfilling curves on at most 1,000 of the queries ``rows``; None where h predicts no uncertainty: there is no shipped order."""
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:CURVE_QUERIES])
    if labelled:
        found = backfilling.sample_curves(sample, carried, sigma, metric, rows, random_orders=RANDOM_ORDERS, seed=seed)
    else:
        found = _agreement_curves(sample, carried, sigma, metric, rows, seed)
    if not found:
        return None
    return Backfill({name: value for name, value in found.items() if value.ndim == 2}, _clusters(sample, found["rows"], labelled), seed)


def _own(sample: Sample, carried: np.ndarray, metric: str) -> float:
    """Share of new queries that come nearest to their own carried-over row (or to one of equal id); ties count against it."""
    places = np.arange(len(sample.ids)).astype(str)
    found = metrics.per_query(sample.new, carried, places, places, metric=metric)
    return float(found.top(1).mean())


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 3)


def _sample(rows: np.ndarray, unseen: np.ndarray, arrays: dict[str, np.ndarray | None], classes: np.ndarray | None) -> Sample:
    """The evaluation rows. Without ids a row is an item; an unlabelled row is a class of its own: it answers no query rightly."""
    names = rows.astype(str)

    def text(name: str, otherwise: np.ndarray) -> np.ndarray:
        array = arrays[name]
        return otherwise if array is None else np.asarray(array[rows]).astype(str)

    labels = text("labels", names)
    if classes is not None:
        labels = np.where(classes[rows] < 0, np.char.add("unlabelled row ", names), labels)
    old, new, side = arrays["old"], arrays["new"], arrays["side"]
    assert old is not None and new is not None  # checked by the caller
    return Sample(
        ids=text("ids", names),
        labels=labels,
        sources=text("sources", np.full(len(rows), "")),
        populations=np.where(unseen, "unseen", "known"),
        old=np.asarray(old[rows], dtype=np.float32),
        side=np.zeros((len(rows), 0), dtype=np.int8) if side is None else np.asarray(side[rows]),
        new=np.asarray(new[rows], dtype=np.float32),
    )


def _check(
    old: np.ndarray,
    new: np.ndarray,
    side: np.ndarray | None,
    labels: np.ndarray | None,
    ids: np.ndarray | None,
    head: tuple[np.ndarray, np.ndarray] | None,
    metric: str,
    method: str,
) -> None:
    """BadInput where what :func:`run` is given cannot be used."""
    vectors.check("old", old, alike=True, ids=ids)
    vectors.check("new", new, rows=len(old), alike=True, ids=ids)
    if side is not None:
        vectors.check("side", side, rows=len(old), allow_zero=True, ids=ids)
    if method not in (AUTO, *METHODS):
        raise BadInput("unknown method", wanted=", ".join((AUTO, *METHODS)), got=method)
    if metric not in metrics.METRICS:
        raise BadInput("unknown metric", wanted=" or ".join(metrics.METRICS), got=metric)
    if labels is not None and head is not None and np.asarray(labels).dtype.kind not in "iu":
        raise BadInput(
            "labels beside a head must be the numbers of its rows", wanted="integers, −1 = unknown", got=np.asarray(labels).dtype
        )


def _given(arrays: dict[str, Any], sample: Sample, classes: np.ndarray | None, items: np.ndarray) -> dict[str, Any]:
    """What the trial was given, in numbers."""
    side = sample.side
    given: dict[str, Any] = {"rows": len(items), "old_dim": sample.old.shape[1], "new_dim": sample.new.shape[1], "side_dim": side.shape[1]}
    given["side_bytes"] = int(side.dtype.itemsize * side.shape[1])
    given["classes"] = 0 if classes is None else len(np.unique(classes[classes >= 0]))
    given["sources"] = 0 if arrays["sources"] is None else len(np.unique(items))
    return given


def _digests(pairs: dict[str, np.ndarray], sample: Sample) -> dict[str, str]:
    """Of every array that h is fitted or judged on."""
    parts = {"fitting": pairs, "evaluation": {"old": sample.old, "new": sample.new, "side": sample.side}}
    return {
        f"{part} {name}": digests.of_array(arrays[name])
        for part, arrays in parts.items()
        for name in ("old", "new", "side")
        if name in arrays and arrays[name].shape[1]
    }


def run(
    old: np.ndarray,
    new: np.ndarray,
    *,
    side: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    sources: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    head: tuple[np.ndarray, np.ndarray] | None = None,
    metric: str = "cosine",
    method: str = "auto",
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], None] = lambda words: None,
) -> Trial:
    """Split, fit (with side-information a second time without it: same method, same pairs) and measure.

    Args:
        old: (N, D), new: (N, E): row by row of the same items; any float dtype, memory-mapped files too.
        side: (N, P) side-information. labels: (N,) of any kind; negative or "" = unknown. With ``head`` they are the numbers of its rows.
        sources: (N,) rows of one source are never split and are hidden from each other. ids: (N,) equal ids are one item.
        head: weight (K, E) and bias (K,) of the new model's head, used frozen.
        progress: told what begins.

    Raises:
        BadInput: arrays that do not correspond or cannot be used, too few rows or sources.
    """
    seeds.seed(seed)
    seconds: dict[str, float] = {}
    arrays = {"old": old, "new": new, "side": side, "labels": labels, "sources": sources, "ids": ids}
    labelled = labels is not None
    with _timed(seconds, "read_s"):
        _check(old, new, side, labels, ids, head, metric, method)
        classes = class_numbers(labels, len(old))
        items = unsplit(sources, ids, len(old))
        same, doubtful = copies.look(old, new, classes)
        units = copies.together(same, items)
        parted = split(len(old), classes, units, seed=seed)
        sample = _sample(parted.evaluation, parted.unseen, arrays, classes)
        if head is None and classes is not None:
            arrays["labels"] = classes
        pairs = {name: np.asarray(array[parted.fitting]) for name, array in arrays.items() if array is not None}
        pairs["sources"] = units[parted.fitting]
        if "labels" in pairs and len(np.unique(pairs["labels"])) == 1:
            del pairs["labels"]  # the other classes are all among the evaluation rows: h has nothing to tell apart
        given = _given(arrays, sample, classes, items)
        given |= {"copies": round(copies.share(same), 6), "doubtful": round(doubtful, 6)}
        given["digests"] = _digests(pairs, sample)
    fits: dict[str, Forward] = {}
    carried: dict[str, np.ndarray] = {}
    sigmas: dict[str, np.ndarray] = {}
    for name in ("nh", "ph") if side is not None else ("nh",):
        with_side = side is not None and name == "nh"
        progress("fitting h" if side is None else f"fitting h {'with' if with_side else 'without'} side-information")
        with _timed(seconds, f"fit_{name}_s"):
            fits[name] = forward.fit(
                pairs["old"],
                pairs["new"],
                side=pairs["side"] if with_side else None,
                labels=pairs.get("labels"),
                sources=pairs["sources"],
                head=head,
                method=method if name == "nh" else fits["nh"].method,  # the same map and recipe: only the side-information changes
                settings=None if name == "nh" else FitSettings(**fits["nh"].about["settings"]),
                seed=seed,
                device=device,
            )
        with _timed(seconds, f"transform_{name}_s"):
            carried[name], sigmas[name] = fits[name].transform(sample.old, sample.side if with_side else None)
    progress("searching: old/old, new/h(old), new/new")
    with _timed(seconds, "search_s"):
        queries, values = _measure(sample, carried, metric, labelled)
        own = _own(sample, carried["nh"], metric)
    progress("backfilling curves")
    with _timed(seconds, "backfill_s"):
        curves = backfill(sample, carried["nh"], sigmas["nh"], queries, metric, labelled, seed)
    measured = RETRIEVAL if labelled else AGREEMENT
    return Trial(
        sample, parted, metric, measured, queries, values, fits["nh"], fits.get("ph"), carried["nh"], own, curves, given, seconds, seed
    )
