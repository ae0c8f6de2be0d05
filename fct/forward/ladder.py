"""``auto``: the ladder of candidates, and the simplest one that no other is shown to beat.

Candidates climb from closed forms to learned ones; each is fitted without the held-out rows and judged on them by retrieval. Held out
are whole sources and, where there are enough, whole classes: on classes that h saw labelled every learned method looks better than it
is. Legend: N pairs, H held-out rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fct.forward import judging
from fct.forward.candidates import fit_candidate
from fct.forward.inputs import Inputs
from fct.forward.material import Material
from fct.forward.methods import KNOWN
from fct.forward.rows import Pairs, held_out, parts
from fct.forward.settings import CLOSED, FitSettings, adapted
from fct.forward.spec import Closed
from fct.search.intervals import difference

HELD_OUT = 0.05  # what a fit keeps aside for its own numbers
JUDGED_ROWS = 1000  # rows wanted for the decision; small inputs are judged in several rounds
ROUNDS = 5
JUDGED_STEPS = 600
FEWEST_ITEMS = 1000  # sources, without labels, from which a network is a candidate
FEWEST_CLASSES = 20  # from so many classes on, a tenth of them is held out whole


@dataclass(frozen=True)
class Choice:
    """The chosen method, its settings, and ``validation`` as it goes into the JSON."""

    settings: FitSettings
    validation: dict[str, Any]


def choose(inputs: Inputs, settings: FitSettings, *, seed: int, device: torch.device) -> Choice:
    """Fit and judge every candidate that the inputs allow, in order of simplicity.

    The decision is a paired bootstrap of the main metric (mAP with labels, else the centred cosine with the native vector) over
    classes, or sources: a candidate is beaten when the one-sided 95 % lower bound of another one's lead is above 0. Learned
    candidates are judged as single networks of at most 600 steps.

    Args:
        settings: of the learned candidates; the method is replaced.
    """
    whole = judged_rounds(inputs, seed)
    if not whole:
        reason = "There are too few sources to hold any out: ridge, which is regularised, is shipped unjudged."
        return Choice(replace(settings, method="ridge"), {"held_out": 0, "candidates": [], "chosen": "ridge", "reason": reason})
    by_label = all(judge.by_label for *_, judge in whole)
    metric = "mAP" if by_label else "cosine"
    methods = _methods(inputs)
    found: dict[str, list[dict[str, np.ndarray]]] = {method: [] for method in methods}
    seconds = dict.fromkeys(methods, 0.0)
    clusters = []
    for fitted, judged, judge in whole:
        material = Material(fitted, inputs.sources[fitted.rows], judged, inputs.pool, inputs.head, seed, device)
        for method in methods:
            started = time.perf_counter()
            h = fit_candidate(method, material, judged_settings(settings, method, len(fitted)), f"judging {method}", JUDGED_STEPS)
            values, cluster = judge.values(_carried(h, judged), by_label)
            found[method].append(values)
            seconds[method] += time.perf_counter() - started
        clusters.append(cluster)
    joined = {method: {name: np.concatenate([part[name] for part in rows]) for name in rows[0]} for method, rows in found.items()}
    validation = {"held_out": int(sum(len(judge.new) for *_, judge in whole)), "metric": metric}
    chosen, more = decide(joined, np.concatenate(clusters), metric, seconds, seed)
    final = replace(adapted(settings, len(inputs.pairs)), method=chosen)
    return Choice(final, validation | more)


def decide(
    values: dict[str, dict[str, np.ndarray]], clusters: np.ndarray, metric: str, seconds: dict[str, float], seed: int
) -> tuple[str, dict[str, Any]]:
    """The simplest candidate that none beats, and the table of all.

    Args:
        values: method → metric → (Q,) paired per-query values, in order of simplicity. clusters: (Q,).
    """
    boot = judging.compare(values, clusters, metric, seed)
    methods = list(values)
    best = max(methods, key=lambda method: boot.means[method])

    def beaten_by(method: str) -> str | None:
        leads = {other: boot.estimate(difference(other, method)).lower for other in methods if other != method}
        worst = max(leads, key=lambda other: leads[other], default=None)
        return worst if worst is not None and leads[worst] > 0 else None

    beaten = {method: beaten_by(method) for method in methods}
    chosen = next(method for method in methods if beaten[method] is None)
    table = [
        {
            "method": method,
            **judging.means(values[method]),
            "difference_to_best": judging.interval(boot, method, best),
            "difference_to_chosen": judging.interval(boot, method, chosen),
            "beaten_by": beaten[method],
            "seconds": round(seconds[method], 3),
        }
        for method in methods
    ]
    return chosen, {"candidates": table, "best": best, "chosen": chosen, "reason": _reason(chosen, best, metric, boot, beaten)}


def _reason(chosen: str, best: str, metric: str, boot: judging.Bootstrap, beaten: dict[str, str | None]) -> str:
    simpler = list(list(beaten)[: list(beaten).index(chosen)])
    lost = f" Simpler ones are beaten: {', '.join(f'{m} by {beaten[m]}' for m in simpler)}." if simpler else ""
    value = f"{metric} {boot.means[chosen]:.3f} on held-out rows"
    if chosen == best:
        return f"{chosen} has the best {value}.{lost}"
    lead = judging.interval(boot, best, chosen)
    span = judging.as_text(lead)
    return (
        f"{chosen} is the simplest method that no other is shown to beat, with {value}; the lead of {best}, {span}, is not certain.{lost}"
    )


def beside_best_closed(
    h: Any, material: Material, settings: FitSettings, labels_of: np.ndarray, sources: np.ndarray, *, seconds: float, seed: int
) -> dict[str, Any]:
    """``validation`` of a method asked for by name: its metrics on the held-out rows beside those of the best closed form.

    Args:
        h: the fitted one. labels_of, sources: (H,) of ``material.rest``.
    """
    rest = material.rest
    judge = judging.Judge(rest.gather(slice(None))[2], labels_of, sources)
    by_label = judge.by_label
    metric = "mAP" if by_label else "cosine"
    values, clusters = judge.values(_carried(h, rest), by_label)
    closed: dict[str, tuple[dict[str, np.ndarray], float]] = {}
    for method in CLOSED:
        if KNOWN[method].fits(h.old_dim, h.new_dim) and method != h.method:
            started = time.perf_counter()
            found, _ = judge.values(_carried(fit_candidate(method, material, settings, method), rest), by_label)
            closed[method] = found, time.perf_counter() - started
    best = max(closed, key=lambda method: float(closed[method][0][metric].mean()))
    both = {best: closed[best][0], h.method: values}
    boot = judging.compare(both, clusters, metric, seed)
    table = [
        {
            "method": method,
            **judging.means(value),
            "difference_to_chosen": judging.interval(boot, method, h.method),
            "seconds": round(seconds if method == h.method else closed[best][1], 3),
        }
        for method, value in both.items()
    ]
    return {
        "held_out": len(rest),
        "metric": metric,
        "candidates": table,
        "chosen": h.method,
        "reason": f"{h.method} was asked for; {best} is the best closed form beside it.",
    }


def _methods(inputs: Inputs) -> list[str]:
    """The candidates that the inputs allow, simplest first."""
    old, new = inputs.pairs.old.shape[1], inputs.pairs.new.shape[1]
    labels = bool((inputs.pairs.labels >= 0).any())
    there = {"labels": labels, "head": inputs.head is not None, "pool": inputs.pool is not None, "side": inputs.pairs.side.shape[1] > 0}
    # without labels no class can be held out, so nothing shows what a network does to others: then on enough items alone
    enough = labels or len(np.unique(inputs.sources)) >= FEWEST_ITEMS
    networks = enough and not inputs.fewer_than_dimensions
    return [
        name
        for name, method in KNOWN.items()
        if method.auto and method.fits(old, new) and all(there[need] for need in method.needs) and (networks or isinstance(method, Closed))
    ]


def judged_settings(settings: FitSettings, method: str, rows: int) -> FitSettings:
    """One network of the shipped size, whatever the method: candidates differ in the loss alone, and the time stays bounded."""
    return replace(adapted(settings, rows), method=method, members=1)


def _carried(h: Any, rows: Pairs) -> np.ndarray:
    old, side, _, _ = rows.gather(slice(None))
    return np.asarray(h.transform(old, side if side.shape[1] else None)[0])


def judged_rounds(inputs: Inputs, seed: int, least: int = 1) -> list[tuple[Pairs, Pairs, judging.Judge]]:
    """:func:`rounds`, each with the judge of its held-out rows; none where there are too few sources to hold any out."""
    whole = [
        (fitted, rows, judging.Judge(rows.gather(slice(None))[2], rows.labels[rows.rows], inputs.sources[rows.rows]))
        for fitted, rows in rounds(inputs, seed, least)
    ]
    return whole if all(len(judge.new) > 1 for *_, judge in whole) else []


def rounds(inputs: Inputs, seed: int, least: int = 1) -> list[tuple[Pairs, Pairs]]:
    """(fitted, judged) pairs of every round, at least so many; no source, and in the part held out by class no class, is in both."""
    sources, labels, count = inputs.sources, inputs.pairs.labels, len(inputs.pairs)
    classes = np.unique(labels[labels >= 0])
    by_class = len(classes) >= FEWEST_CLASSES
    share, most = (0.1, judging.MOST_ROWS // 2) if by_class else (0.2, judging.MOST_ROWS)
    if len(np.unique(sources)) < 2:
        return []
    wanted = min(int(np.clip(-(-JUDGED_ROWS // max(1, round(0.2 * count))), least, ROUNDS)), len(np.unique(sources)))
    source_part = parts(sources, min(round(1 / share), len(np.unique(sources))), seed)
    class_part = np.full(count, -1)
    if by_class:
        class_part[labels >= 0] = parts(labels[labels >= 0], 10, seed + 1)
    found = []
    for number in range(wanted):
        by_source = source_part == number if wanted > 1 else held_out(sources, share, most, seed)
        held_class = class_part == number
        rng = np.random.default_rng(seed + number)
        judged = np.union1d(_some(np.flatnonzero(by_source), most, rng), _some(np.flatnonzero(held_class), most, rng))
        fitted = ~(by_source | held_class)
        if fitted.sum() >= 2:
            found.append((inputs.pairs.take(fitted), inputs.pairs.take(judged)))
    return found


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else rng.choice(rows, most, replace=False)
