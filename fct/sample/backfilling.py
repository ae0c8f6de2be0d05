"""Backfilling curves of the evaluation sample: the shipped order beside random orders and the oracle.

A backfilling curve is M as the fraction β of natively recomputed items goes from 0 to 1 (FastFill, ICLR 2023, arXiv 2303.04766).
Known and unseen classes lie in one gallery, as in production; one order covers both.
Legend: N rows of the sample, C queries, S steps of β.
"""

from __future__ import annotations

import numpy as np

from fct.sample.folder import Sample
from fct.search import order

QUERIES = 2000
STEPS = 11
METRICS = ("top1", "mAP")


def sample_curves(
    sample: Sample, carried: np.ndarray, sigma: np.ndarray, metric: str, rows: np.ndarray, *, random_orders: int, seed: int
) -> dict[str, np.ndarray]:
    """The curves of a sample in the shipped order, in random orders (their mean) and in the oracle's.

    Args:
        carried: (N, E) the sample carried over by h; sigma: (N,) its uncertainty, larger = backfill first.
        rows: queries of the sample that count; at most :data:`QUERIES` of them, drawn with ``seed``, are asked.
        random_orders: how many random orders are averaged.

    Returns:
        ``rows`` (C,) of the sample, ``populations`` and ``labels`` of these, and for each of :data:`METRICS` the per-query values
        ``shipped_mAP``, ``random_mAP`` and ``oracle_mAP`` … (S, C) float64, β equally spaced with both ends included.
        Empty where a row has no uncertainty: then there is no shipped order.
    """
    if not np.isfinite(sigma).all():
        return {}
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:QUERIES])

    orders = [order.by_uncertainty(sigma), order.oracle_order(carried, sample.new, metric)]
    found = order.curves(
        sample.new[rows],
        carried,
        sample.new,
        orders + order.random_orders(len(sample.ids), random_orders, seed),
        sample.labels[rows],
        sample.labels,
        steps=STEPS,
        query_ids=sample.ids[rows],
        gallery_ids=sample.ids,
        query_sources=sample.sources[rows],
        gallery_sources=sample.sources,
        metric=metric,
        title="backfilling curves",
    )
    shipped, oracle, many = found[0], found[1], found[2:]
    kept = rows[shipped.rows]  # the same in every order: whether a query has a positive depends on labels, ids and sources alone
    out = {"rows": kept, "populations": sample.populations[kept], "labels": sample.labels[kept]}
    for name in METRICS:
        drawn = np.mean([curve.values[name] for curve in many], axis=0)
        out |= {f"shipped_{name}": shipped.values[name], f"oracle_{name}": oracle.values[name], f"random_{name}": drawn}
    return out
