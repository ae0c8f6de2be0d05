"""Whether the gallery stays as good as at both ends at every step of a backfill."""

from __future__ import annotations

import numpy as np

from fct.search.intervals import Bootstrap
from registry.verdicts import curves
from registry.verdicts.declaration import OfSample, Values
from registry.verdicts.measurement import LABELS, Measurement, absent
from registry.verdicts.settings import GateSettings

ROUNDING = 1e-9  # one query lost is 1/C only up to the last bits of two means


def measure(values: Values, settings: GateSettings, seed: int) -> list[Measurement]:
    """min over β of M(β) ≥ min(M(0), M(1)) − ε in the shipped order; ε is at least one query.

    The least of many noisy means lies low by itself. So it is refused only where a dip of more than ε at some β is shown:
    p below 0.05, of all β between the ends together. Short of that, mAP is tested by its
    value, freed of that bias, and is inconclusive where it breaks the bound; top-1, which moves by whole queries, passes.
    """
    if not curves.ordered(values):
        return [absent(curves.NO_ORDER)]
    found = []
    for population, drawn in curves.of_populations(values).items():
        bound = -max(settings.dip_tolerance, 1 / len(drawn["labels"])) - ROUNDING
        for name, label in LABELS.items():
            found.append(_dip(f"{population} {label}", drawn[f"shipped_{name}"], drawn["labels"], bound, seed, name == "top1"))
    return found


def _dip(subject: str, steps: np.ndarray, labels: np.ndarray, bound: float, seed: int, by_query: bool) -> Measurement:
    """One curve, ``steps`` (S, C): each β against the lower of the two ends. ``by_query``: passes unless a dip is shown.

    The value is freed of the bias of a least of many, by the bootstrap: 2 · the least − its mean in the subsets, at most 0
    (Efron and Tibshirani 1993, equation 10.41).
    """
    means, last = steps.mean(axis=1), len(steps) - 1
    end, least = (0 if means[0] <= means[last] else last), int(means.argmin())
    boot = Bootstrap({str(s): row - steps[end] for s, row in enumerate(steps)}, labels, seed=seed)
    estimate = boot.mean(str(least))
    shown = boot.chance([str(s) for s in range(1, last)], bound)
    again = float(np.min(list(boot.draws.values()), axis=0).mean())
    value = estimate.value if by_query or shown < 0.05 else min(0.0, 2 * estimate.value - again)
    upper = value if shown < 0.05 else max(estimate.upper, value, bound)
    note = (
        f"M(0) {means[0]:.3f}, M(1) {means[last]:.3f}, least {means[least]:.3f} at β = {least / last:.1f} ({estimate.value:+.4f}); "
        f"p of more dip at any β {shown:.2f}"
    )
    test = "upper" if by_query else "value"
    lower = min(estimate.lower, value)
    return Measurement(subject, value, lower, upper, estimate.n, bound, test=test, note=note, classes=estimate.clusters)


GATE = OfSample(
    title="backfilling never makes it worse on the way",
    question="Does the gallery stay at least as good at every step of a backfill?",
    measured="smallest M(β) of a backfill in the shipped order, minus min(M(0), M(1)); known and unseen, top-1 and mAP",
    passes="mAP: value ≥ −{dip_tolerance}, or one query where that is more; top-1: no deeper dip is significant",
    keys=("dip_tolerance",),
    place=8,
    needs=curves.needs,
    measure=measure,
)
