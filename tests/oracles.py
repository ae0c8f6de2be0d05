"""Naive implementations the fast ones are judged by: loops over rows, exact arithmetic where the input is integer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def _key(query: Sequence[int], row: Sequence[int], metric: str) -> Fraction:
    """Grows with the similarity of integer vectors, exactly: −|q − g|², or sign · (q·g)² / |g|² (|q| is the same for all rows)."""
    if metric == "l2":
        return Fraction(-sum((int(a) - int(b)) ** 2 for a, b in zip(query, row, strict=True)))
    dot = sum(int(a) * int(b) for a, b in zip(query, row, strict=True))
    return Fraction(dot * abs(dot), sum(int(b) ** 2 for b in row))


def per_query(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    *,
    metric: str,
    query_ids: Sequence[str] | None = None,
    gallery_ids: Sequence[str] | None = None,
    query_sources: Sequence[str] | None = None,
    gallery_sources: Sequence[str] | None = None,
) -> list[tuple[int, int, float, bool]]:
    """(row, rank, AP, tied) of every query that sees a positive: sort the visible rows, wrong before right among equals, and walk."""
    found = []
    for i in range(len(query)):
        visible = []
        for j in range(len(gallery)):
            if query_ids is not None and gallery_ids is not None and query_ids[i] == gallery_ids[j]:
                continue
            if (
                query_sources is not None
                and gallery_sources is not None
                and query_sources[i] != ""
                and query_sources[i] == gallery_sources[j]
            ):
                continue
            visible.append((_key(query[i], gallery[j], metric), query_labels[i] == gallery_labels[j]))
        right = [key for key, same in visible if same]
        wrong = [key for key, same in visible if not same]
        if not right:
            continue
        walked = sorted(visible, key=lambda pair: (-pair[0], pair[1]))
        precisions = []
        for place, (_, same) in enumerate(walked, start=1):
            if same:
                precisions.append((len(precisions) + 1, place))
        rank = precisions[0][1]
        ap = math.fsum(hits / place for hits, place in precisions) / len(right)
        found.append((i, rank, ap, any(key in right for key in wrong)))
    return found


def plain_per_query(
    query: np.ndarray, gallery: np.ndarray, query_labels: Sequence[object], gallery_labels: Sequence[object], *, metric: str = "cosine"
) -> list[tuple[int, int, float, bool]]:
    """As :func:`per_query`, for real numbers: float64 scores one pair at a time, nothing hidden."""
    found = []
    rows = [np.asarray(row, dtype=np.float64) for row in gallery]
    for i, one in enumerate(np.asarray(query, dtype=np.float64)):
        if metric == "l2":
            scores = [-float(((one - row) ** 2).sum()) for row in rows]
        else:
            scores = [float((one * row).sum() / math.sqrt((one * one).sum()) / math.sqrt((row * row).sum())) for row in rows]
        same = [bool(label == query_labels[i]) for label in gallery_labels]
        if not any(same):
            continue
        places = [
            place
            for place, (_, right) in enumerate(sorted(zip(scores, same, strict=True), key=lambda pair: (-pair[0], pair[1])), start=1)
            if right
        ]
        ap = math.fsum(hits / place for hits, place in enumerate(places, start=1)) / len(places)
        right = {score for score, is_right in zip(scores, same, strict=True) if is_right}
        tied = any(score in right for score, is_right in zip(scores, same, strict=True) if not is_right)
        found.append((i, places[0], ap, tied))
    return found


def nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """SimCLR, equation 1, averaged over the 2N views."""
    views = [row / np.sqrt((row**2).sum()) for row in np.concatenate([first, second]).astype(np.float64)]
    n = len(first)
    total = 0.0
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        below = 0.0
        for k in range(2 * n):
            if k != i:
                below += math.exp(float(views[i] @ views[k]) / temperature)
        total -= math.log(math.exp(float(views[i] @ views[partner]) / temperature) / below)
    return total / (2 * n)


def subset_means(values: Sequence[float], clusters: Sequence[str]) -> list[float]:
    """The mean over the members of every set of clusters but the empty one, sorted."""
    members = {name: [value for value, cluster in zip(values, clusters, strict=True) if cluster == name] for name in sorted(set(clusters))}
    found = []
    for count in range(1, len(members) + 1):
        for chosen in itertools.combinations(members, count):
            rows = [value for name in chosen for value in members[name]]
            found.append(sum(rows) / len(rows))
    return sorted(found)


def typical_value(ordered: Sequence[float], chance: float) -> float:
    """The number below which the true value lies with this chance (Hartigan 1969): of M sorted values, the chance · (M + 1)-th.

    Nothing ties; between two values it moves evenly, between the least two with the root.
    """
    place = chance * (len(ordered) + 1)
    k = int(place)
    part = (place - k) ** 0.5 if k == 1 else place - k
    return ordered[k - 1] + part * (ordered[k] - ordered[k - 1])


def sign_flips(effects: Sequence[float], sizes: Sequence[float], value: float) -> float:
    """One-sided p-value of H0: the effects lie evenly around ``value``, by all ways to flip their signs."""
    parts = [size * (effect - value) for effect, size in zip(effects, sizes, strict=True)]
    seen = sum(parts)
    flips = list(itertools.product((1, -1), repeat=len(parts)))
    return sum(sum(s * p for s, p in zip(signs, parts, strict=True)) >= seen - 1e-12 for signs in flips) / len(flips)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values by definition: the largest of (m − k + 1)·p₍ₖ₎ over all p₍ₖ₎ at or below it, at most 1."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    for place, i in enumerate(order):
        adjusted[i] = max(min(1.0, (len(p) - k) * p[order[k]]) for k in range(place + 1))
    return adjusted


def coverage(fitting: np.ndarray, gallery: np.ndarray) -> tuple[float, list[bool], list[float]]:
    """Radius, far and distance: nearest neighbours by loops, in float64, on columns scaled to unit variance."""
    scale = fitting.std(axis=0)
    scale[scale < 1e-6] = 1e-6
    f, g = fitting / scale, gallery / scale

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    own = [min(distance(f[i], f[j]) for j in range(len(f)) if j != i) for i in range(len(f))]
    radius = float(np.percentile(own, 99))
    nearest = [min(distance(row, other) for other in f) for row in g]
    return radius, [d > radius for d in nearest], nearest


def forward_loss(
    predicted: np.ndarray,
    log_variance: np.ndarray,
    target: np.ndarray,
    restored: np.ndarray,
    labels: Sequence[int],
    head: tuple[np.ndarray, np.ndarray] | None,
    *,
    uncertainty: bool,
    head_weight: float,
    smoothing: float = 0.1,
) -> float:
    """MSE per row, weighted as in FastFill's equation 3, plus smoothed cross-entropy of the labelled rows through the head."""
    total = 0.0
    for row in range(len(predicted)):
        error = sum((float(a) - float(b)) ** 2 for a, b in zip(predicted[row], target[row], strict=True)) / predicted.shape[1]
        s = float(log_variance[row])
        total += 0.5 * math.exp(-s) * error + 0.5 * s if uncertainty else error
    total /= len(predicted)
    rows = [row for row in range(len(predicted)) if labels[row] >= 0]
    if head is None or head_weight == 0 or not rows:
        return total
    weight, bias = head
    entropy = 0.0
    for row in rows:
        logits = [float(weight[k] @ restored[row] + bias[k]) for k in range(len(weight))]
        log_sum = math.log(sum(math.exp(x) for x in logits))
        wanted = [smoothing / len(logits) + (1 - smoothing) * (k == labels[row]) for k in range(len(logits))]
        entropy -= sum(w * (x - log_sum) for w, x in zip(wanted, logits, strict=True))
    return total + head_weight * entropy / len(rows)
