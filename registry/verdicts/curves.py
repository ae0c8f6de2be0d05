"""Backfilling curves on the evaluation sample: what *no_dip* and *order_helps* judge. Legend: R queries that count, S steps of β."""

from __future__ import annotations

from fct.sample import backfilling
from registry.verdicts.declaration import OnSample, Values

POPULATIONS = ("known", "unseen")
NO_ORDER = "h predicts no uncertainty: there is no shipped order"


def needs(asked: OnSample) -> Values:
    """``curve_…`` of :func:`fct.sample.backfilling.sample_curves`; nothing where no uncertainty is predicted."""
    rows, orders = asked.values["rows"], asked.settings.random_orders
    found = backfilling.sample_curves(asked.sample, *asked.carried, asked.metric, rows, random_orders=orders, seed=asked.seed)
    return {f"curve_{name}": value for name, value in found.items()}


def of_populations(values: Values) -> dict[str, Values]:
    """Population → its curves (S, C) with ``labels`` (C,); those without a query are left out."""
    names = [name for name in values if name.startswith("curve_") and values[name].ndim == 2]
    found = {}
    for population in POPULATIONS:
        chosen = values["curve_populations"] == population
        if chosen.any():
            curves: Values = {name.removeprefix("curve_"): values[name][:, chosen] for name in names}
            found[population] = curves | {"labels": values["curve_labels"][chosen]}
    return found


def ordered(values: Values) -> bool:
    """Whether there is a shipped order, and so a curve."""
    return "curve_rows" in values
