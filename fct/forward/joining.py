"""Which parts are searched at once (:mod:`fct.forward.joined`), and how they weigh: chosen on held-out rows.

Held out are whole sources and, where there are enough, whole classes, as for the choice of the method (:mod:`fct.forward.ladder`); h is
fitted again without them. The figure of a candidate is the mean of top-1 and mAP, known and unseen classes counted alike; without labels
it is the share of new/new's ten nearest neighbours that are found. (With every pair as its own class *old* alone would be perfect:
its query and its row are one vector.)

Legend: H held-out rows, Q queries that count, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch

from fct.forward import judging
from fct.forward.candidates import fit_candidate
from fct.forward.inputs import Inputs
from fct.forward.joined import CARRIED, OLD, PARTS, SIDE, Joined, unit
from fct.forward.ladder import JUDGED_STEPS, ROUNDS, judged_rounds, judged_settings
from fct.forward.material import Material
from fct.forward.rows import parts as folds
from fct.forward.settings import CLOSED, FitSettings
from fct.search.agreement import agreement, neighbours
from fct.search.intervals import FEWEST, Bootstrap, Estimate

JOINED, AUTO = "joined", "auto"
MODES = (CARRIED, JOINED, AUTO)
STEPS = 8  # weights are whole eighths
HALF = 2


@dataclass(frozen=True)
class Judged:
    """What was measured on the held-out rows of all rounds: of each query its class (or source), whether that class was known to h, and
    its figures under each candidate: metric → (K, Q)."""

    candidates: list[Joined]
    values: dict[str, np.ndarray]
    clusters: np.ndarray
    known: np.ndarray


def choose(
    mode: str, method: str, inputs: Inputs, settings: FitSettings, *, metric: str, seed: int, device: torch.device
) -> tuple[Joined | None, dict[str, Any]]:
    """The parts and weights, None for *carried* alone; and what was measured, as it goes into the manifest.

    ``auto`` takes *carried* where it is shown to be better than *old* in every figure. Otherwise, as ``joined``, it takes the fewest parts that
    are not shown to be worse than the best ones. It takes *old* alone where these are not shown to be better than *old*: their mean has to be
    above it, and no figure of theirs may be shown to be below. To be fair the weights are judged on the half of the classes that they
    were not chosen on.

    Args:
        mode: ``joined`` or ``auto``. method: of h, as it was chosen.
    """
    judged = judge(method, inputs, settings, metric=metric, seed=seed, device=device)
    if judged is None:
        reason = "There are too few sources to hold any out, so nothing shows that an upgrade is better: the old vectors are kept."
        return Joined((OLD,), (1.0,), metric), {"mode": mode, "held_out": 0, "candidates": [], "reason": reason}
    return decide(mode, judged, seed)


def judge(method: str, inputs: Inputs, settings: FitSettings, *, metric: str, seed: int, device: torch.device) -> Judged | None:
    """Fit h without the held-out rows of each round and search them with every candidate; None where nothing can be held out."""
    wanted = judged_settings(settings, method, len(inputs.pairs))
    found: list[dict[str, np.ndarray]] = []
    clusters, known = [], []
    candidates: list[Joined] = []
    # more classes to choose on, where a fit costs nothing
    whole = judged_rounds(inputs, seed, ROUNDS if method in CLOSED else 1)
    if not whole:
        return None
    by_label = all(one.by_label for *_, one in whole)
    for fitted, rows, one in whole:
        material = Material(fitted, inputs.sources[fitted.rows], rows, inputs.pool, inputs.head, seed, device)
        h = fit_candidate(method, material, wanted, f"judging {method} beside old", JUDGED_STEPS)
        old, side, new, labels = rows.gather(slice(None))
        gallery = {OLD: old, CARRIED: h.transform(old, side if side.shape[1] else None)[0]}
        query = {OLD: old, CARRIED: new}
        if side.shape[1]:
            gallery[SIDE] = query[SIDE] = side
        if not candidates:
            candidates = grid([part for part in PARTS if part in gallery], metric, gallery)
        asked, values = _values(one, candidates, query, gallery, by_label)
        found.append(values)
        clusters.append(labels[asked] if by_label else inputs.sources[rows.rows][asked])
        known.append(np.isin(labels[asked], fitted.labels[fitted.rows]) if by_label else np.ones(len(asked), dtype=bool))
    values = {name: np.concatenate([part[name] for part in found], axis=1) for name in found[0]}
    return Judged(candidates, values, np.concatenate(clusters), np.concatenate(known))


def grid(there: list[str], metric: str, gallery: dict[str, np.ndarray]) -> list[Joined]:
    """Each part alone, and all mixtures of two or three in whole eighths."""
    units = {part: unit(gallery[part]) if metric == "l2" else 1.0 for part in there}
    found = [Joined((part,), (1.0,), metric) for part in there]
    for count in (2, 3):
        for some in combinations(there, count):
            for cuts in combinations(range(1, STEPS), count - 1):
                ends = [0, *cuts, STEPS]
                weights = tuple((b - a) / STEPS for a, b in pairwise(ends))
                found.append(Joined(some, weights, metric, tuple(units[part] for part in some)))
    return found


def _values(
    one: judging.Judge, candidates: list[Joined], query: dict[str, np.ndarray], gallery: dict[str, np.ndarray], by_label: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(Q,) places of the queries that count, and metric → (K, Q)."""
    if by_label:
        results = [one.search(each.queries(query), each.rows(gallery), each.metric) for each in candidates]
        return results[0].rows, {"top1": np.stack([r.top(1) for r in results]), "mAP": np.stack([r.ap for r in results])}
    rows, ids, metric = np.arange(len(one.new)), np.arange(len(one.new)).astype(str), candidates[0].metric
    sources = one.sources.astype(str)
    wanted = neighbours(ids, sources, one.new, one.new, metric, rows)
    shares = [agreement(neighbours(ids, sources, each.queries(query), each.rows(gallery), metric, rows), wanted) for each in candidates]
    counts = np.isfinite(shares[0])
    return np.flatnonzero(counts), {"agreement": np.stack(shares)[:, counts]}


def decide(mode: str, judged: Judged, seed: int) -> tuple[Joined | None, dict[str, Any]]:
    """The choice among the candidates that were measured, and why."""
    candidates, count = judged.candidates, np.array([len(one.parts) for one in judged.candidates])
    figure = np.mean(list(judged.values.values()), axis=0)
    everyone = np.ones(len(judged.clusters), dtype=bool)

    def best_of(allowed: np.ndarray, queries: np.ndarray) -> int:
        means = _mean(figure, judged.known, queries)
        return int(np.flatnonzero(allowed)[np.argmax(means[allowed])])

    def lead(of: np.ndarray, over: np.ndarray) -> Estimate:
        return _lead(of, over, judged, seed)

    best = best_of(count > 0, everyone)
    by_count = {number: best_of(count == number, everyone) for number in sorted(set(count.tolist()))}
    chosen = next(place for place in by_count.values() if place == best or not lead(figure[best], figure[place]).lower > 0)
    half = folds(judged.clusters, HALF, seed)
    allowed = count == count[chosen]
    fair = [best_of(allowed, half != half[i]) if (half != half[i]).any() else chosen for i in (np.argmax(half == 0), np.argmax(half == 1))]
    crossed = {name: np.where(half == 0, value[fair[0]], value[fair[1]]) for name, value in judged.values.items()}
    singles = {one.parts[0]: place for place, one in enumerate(candidates) if len(one.parts) == 1}
    old, carried = singles[OLD], singles[CARRIED]
    carries = all(lead(value[carried], value[old]).lower > 0 for value in judged.values.values())
    over = lead(np.mean(list(crossed.values()), axis=0), figure[old])
    better = over.lower > 0 and all(not lead(crossed[name], value[old]).upper < 0 for name, value in judged.values.items())
    table = [_row(judged, place, old, lead) for place in _shown(candidates, figure, judged)]
    said = {"mode": mode, "held_out": len(judged.clusters), "unseen": int((~judged.known).sum()), "candidates": table}
    if mode == AUTO and carries:
        return None, said | {"reason": "The carried vectors alone are better than the old ones in every figure."}
    if not better:
        span = judging.as_text({"value": over.value, "lower": over.bounds[0], "upper": over.bounds[1]})
        reason = f"Nothing is shown to be better than the old vectors (the best: {candidates[chosen]}, {span}): they are kept."
        return candidates[old], said | {"reason": reason}
    if candidates[chosen].parts == (CARRIED,):
        return None, said | {"reason": "The carried vectors alone are not shown to be worse than any parts together."}
    span = judging.as_text({"value": over.value, "lower": over.bounds[0], "upper": over.bounds[1]})
    return candidates[chosen], said | {
        "reason": f"{candidates[chosen]}: the fewest parts that are not shown to be worse than the best; over old {span}."
    }


def _mean(figure: np.ndarray, known: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(K,) means over these queries (Q,) bool; known and unseen classes count alike."""
    parts = [figure[:, queries & some].mean(axis=1) for some in (known, ~known) if (queries & some).any()]
    return np.asarray(np.mean(parts, axis=0))


def _lead(of: np.ndarray, over: np.ndarray, judged: Judged, seed: int) -> Estimate:
    """How far one candidate's figures (Q,) lie above another's, with bounds over the classes; known and unseen classes count alike."""
    clusters = judged.clusters if len(np.unique(judged.clusters)) >= FEWEST else np.arange(len(judged.clusters))
    share = np.where(judged.known, judged.known.mean(), 1 - judged.known.mean())
    boot = Bootstrap({"lead": (of - over) / share, "weight": 1 / share}, clusters, seed=seed)
    return boot.estimate(lambda m: m["lead"] / m["weight"])


def _shown(candidates: list[Joined], figure: np.ndarray, judged: Judged) -> list[int]:
    """The best weights of each set of parts."""
    means = _mean(figure, judged.known, np.ones(len(judged.clusters), dtype=bool))
    found: dict[tuple[str, ...], int] = {}
    for place, one in enumerate(candidates):
        if one.parts not in found or means[place] > means[found[one.parts]]:
            found[one.parts] = place
    return list(found.values())


def _row(judged: Judged, place: int, old: int, lead: Any) -> dict[str, Any]:
    one, everyone = judged.candidates[place], np.ones(len(judged.clusters), dtype=bool)
    row: dict[str, Any] = {"parts": list(one.parts), "weights": list(one.weights)}
    for name, value in judged.values.items():
        row[name] = round(float(_mean(value[place : place + 1], judged.known, everyone)[0]), 6)
        over = lead(value[place], value[old])
        row[f"{name}_over_old"] = {"value": round(over.value, 6)} | dict(zip(("lower", "upper"), over.bounds, strict=True))
    return row
