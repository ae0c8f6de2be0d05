"""What is measured for the gates: on a gallery in its new space coverage, index against exact search and canaries; on the evaluation
sample what recovery does not say (:func:`further`).

The upgrade calls this with the live gallery, the development pipeline with the evaluation sample in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fct import device as devices
from fct.arrays import vectors
from fct.arrays.files import read_object
from fct.datasets import manifest as manifests
from fct.errors import BadInput
from fct.forward import Forward
from fct.gallery import canary
from fct.gallery import index as indexes
from fct.gallery.canary import CanaryPromise, CanaryResult
from fct.program import programs
from fct.release.folder import Release
from fct.sample import backfilling, evaluation, thresholds
from fct.sample.making import measure as measure_release
from fct.sample.pairs import Sample, load_sample
from fct.search import coverage
from fct.search.coverage import Coverage
from registry.verdicts.gates import LiveChecks
from registry.verdicts.settings import GateSettings

CANARY_DEPTH = 5
QUERIES = 500
FILTERED = 300  # queries of each kind with a filter: fewer that all find everything do not show a recall of 0.99
SHARES = (0.5, 0.05, 0.02, 0.005, 0.001)
LABELS = 5


def fitting_rows(pairs: Path, limit: int = 20000) -> np.ndarray:
    """(N, D + P) φ and ψ of the clean views of fitting images and pool, one row an image (at most ``limit`` of each)."""
    parts = []
    for name in ("fitting", "pool"):
        if (pairs / name).is_dir():
            sources = vectors.load(pairs / name / "sources.npy")
            images = len(np.unique(sources))  # views follow each other, the image itself first
            rows = slice(0, min(images, limit))
            parts.append(
                np.concatenate([vectors.load(pairs / name / "old.npy")[rows], vectors.load(pairs / name / "psi.npy")[rows]], axis=1).astype(
                    np.float32
                )
            )
    return np.concatenate(parts)


def covered(pairs: Path, phi: np.ndarray, psi: np.ndarray) -> Coverage:
    """Coverage of items by what their h was fitted on. phi (G, D), psi (G, P)."""
    return coverage.measure(fitting_rows(pairs), np.concatenate([phi, psi], axis=1).astype(np.float32))


def promised(h: Forward, pairs: Path, carried_sample: np.ndarray, metric: str) -> tuple[CanaryPromise, np.ndarray]:
    """What the canaries reach outside of any table; and their native new vectors (K, E)."""
    folder = pairs / "canaries"
    native = np.array(vectors.load(folder / "new.npy"))
    carried, _ = h.transform(vectors.load(folder / "old.npy"), vectors.load(folder / "side.npy") if h.side_dim else None)
    return canary.promise(native, carried, carried_sample, metric=metric, k=CANARY_DEPTH), native


def read_promise(path: Path) -> CanaryPromise:
    """What the canaries promised, from the canaries.json of a verdict. BadInput where the file says something else."""
    said, names = read_object(path, "promised")["promised"], [one.name for one in fields(CanaryPromise)]
    if not isinstance(said, dict) or sorted(said) != sorted(names) or not all(type(number) in (int, float) for number in said.values()):
        raise BadInput("a file holds no promise of canaries", wanted=", ".join(names), where=path)
    return CanaryPromise(**said)


def ask(
    promise: CanaryPromise, native: np.ndarray, canary_ids: np.ndarray, ids: np.ndarray, rows: np.ndarray, metric: str, margin: float
) -> CanaryResult:
    """Ask the canaries for their rows in a space: ids (M,), rows (M, E)."""
    return canary.check(
        native,
        canary_ids,
        ids,
        rows,
        metric=metric,
        k=promise.k,
        promised_rate=promise.rate,
        promised_cosine=promise.mean_cosine,
        margin=margin,
        promised_scale=promise.scale,
        others=promise.others,
    )


def index_recall(
    searcher: indexes.Searcher, rows: np.ndarray, sample: Sample, labels: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    """Kind of question → (Q,) recall@10 of the index against exact search, for native new queries of the evaluation sample; and the kinds
    for which the index compares every row.

    Asked as a search asks: without a filter, within some labels, and where by lot a share of the rows may be answers, as filters and deleted
    rows leave it.

    Args:
        rows: (N, E) in the order of the index. labels: (N,) of its rows, where they are known.
    """
    rng = np.random.default_rng(0)
    queries = sample.new[rng.permutation(len(sample.new))[:QUERIES]]
    found, exact = {"without a filter": indexes.recall(searcher, rows, queries, 10)}, {"without a filter"} if searcher.exact() else set()
    some = queries[:FILTERED]
    for share in SHARES:
        if round(share * len(rows)) >= 1:
            keep = np.zeros(len(rows), dtype=bool)
            keep[rng.permutation(len(rows))[: round(share * len(rows))]] = True
            kind = f"where {100 * share:g} % may be answers"
            found[kind] = indexes.recall(searcher, rows, some, 10, keep)
            exact |= {kind} if searcher.exact(int(keep.sum())) else set()
    names = np.unique(labels) if labels is not None else np.empty(0, dtype=str)
    chosen = rng.permutation(names[names != ""])[:LABELS]
    within = [indexes.recall(searcher, rows, some, 10, labels == name) for name in chosen]
    if all(searcher.exact(int((labels == name).sum())) for name in chosen):
        exact.add("within one label")
    return found | ({"within one label": np.concatenate(within)} if within else {}), frozenset(exact)


def canary_json(promise: CanaryPromise, result: CanaryResult) -> dict[str, Any]:
    return {
        "promised": asdict(promise),
        "measured": {
            "rate": result.rate,
            "mean_cosine": result.mean_cosine,
            "scale": result.scale,
            "missing": list(result.missing),
            "passed": result.passed,
            "why": result.why,
        },
    }


def further(
    values: dict[str, np.ndarray],
    sample: Sample,
    h: Forward,
    carried: tuple[np.ndarray, np.ndarray],
    closed: Forward | None,
    metric: str,
    settings: GateSettings,
    *,
    seed: int,
    seen: Sequence[str] | None,
    served: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What the gates of :mod:`registry.verdicts.sample_gates` need beside the per-query values of an h.

    Args:
        values: of :func:`fct.sample.evaluation.measure`, R queries that count. carried: the sample's vectors (N, E) and σ (N,) by ``h``.
        closed: the closed form on the same pairs; None where h is one itself.
        seen: the classes that the old release was trained on; None where nobody knows (it was adopted).
        served: as for :func:`fct.sample.evaluation.measure`.

    Returns:
        ``h_is_closed``; ``closed_top1``, ``closed_mAP`` (R,); ``seen_by_old`` (R,) bool, or ``seen_unknown``, and ``source`` (R,); ``curve_…`` of
        :func:`fct.sample.backfilling.sample_curves`; ``threshold_…`` of :class:`fct.sample.thresholds.Shift`, each with its ``labels``. What could
        not be measured is left out.
    """
    rows = values["rows"]
    out: dict[str, np.ndarray] = {"h_is_closed": np.array(h.closed), "source": sample.sources[rows]}
    if seen is None:
        out["seen_unknown"] = np.array(True)
    else:
        out["seen_by_old"] = np.isin(sample.labels[rows], np.asarray(list(seen), dtype=str))
    if closed is not None:
        straight, _ = closed.transform(sample.old, sample.side if closed.side_dim else None)
        found = evaluation.search(sample, sample.new, straight, metric)
        out |= {f"closed_{name}": found.metric(name) for name in ("top1", "mAP")}
    curves = backfilling.sample_curves(sample, *carried, metric, rows, random_orders=settings.random_orders, seed=seed)
    out |= {f"curve_{name}": value for name, value in curves.items()}
    old, new = served or (sample.old, sample.old), (sample.new, carried[0])
    moved = thresholds.shift(sample, old, new, metric, rows, threshold=settings.score_threshold, share=settings.false_positives, seed=seed)
    if moved is not None:
        out |= {f"threshold_{name}": np.asarray(value) for name, value in vars(moved).items()}
        out["threshold_labels"] = sample.labels[moved.rows]
    return out


@dataclass(frozen=True)
class Carried:
    """What an h is judged on: its pairs, and (G, D) φ and (G, P) ψ of the gallery items it carried over. No h in a first release."""

    pairs: Path
    h: Forward | None
    phi: np.ndarray
    psi: np.ndarray


def measure(
    natives: dict[int, Carried],
    ids: np.ndarray,
    rows: np.ndarray,
    searcher: indexes.Searcher,
    new: Release,
    data: Path,
    settings: GateSettings,
    *,
    device: str,
    space_fingerprint: str,
    labels: np.ndarray | None = None,
) -> tuple[LiveChecks, dict[str, Any], dict[int, Coverage]]:
    """Measure a gallery in its new space.

    Args:
        natives: native version → what its h is judged on.
        ids: (M,) sorted ids of the space; rows: (M, E) their vectors. searcher: the index of them.
        data: folder with the evaluation sample's images, for new/new. device: ``auto``, ``cpu`` or ``cuda``, for the new embedder.
        space_fingerprint: of the embedder that the space says its vectors belong to. labels: (M,) of the rows, where they are known.

    Returns:
        the checks, the canaries' promise and answers as JSON, coverage by native version.
    """
    first = next(iter(natives.values()))
    sample = load_sample(first.pairs / "sample")
    canary_ids = np.array(vectors.load(first.pairs / "canaries" / "ids.npy"))
    if first.h is not None:
        background, _ = first.h.transform(sample.old, sample.side if first.h.side_dim else None)
        promise, native = promised(first.h, first.pairs, background, new.metric)
    else:
        native = np.array(vectors.load(first.pairs / "canaries" / "new.npy"))
        promise = canary.promise(native, native, sample.new, metric=new.metric, k=CANARY_DEPTH)
    result = ask(promise, native, canary_ids, ids, rows, new.metric, settings.canary_margin)
    coverage_of = {m: covered(c.pairs, c.phi, c.psi) for m, c in natives.items() if c.h is not None and len(c.phi)}
    on = devices.pick(device)
    measured, fingerprint = {}, new.fingerprint
    if not new.adopted:
        fingerprint = programs.fingerprint(new.folder / "program.pt2", new.about["preprocessing"])
        if (data / manifests.FILE).exists():  # given pairs need no images
            measured = measure_release(new.program(on), data, size=new.size, mode=new.mode, device=on, metric=new.metric)
    aligned = rows[np.searchsorted(ids, searcher.ids)]
    intact = fingerprint == new.fingerprint == space_fingerprint
    recall, exact = index_recall(searcher, aligned, sample, None if labels is None else labels[np.searchsorted(ids, searcher.ids)])
    live = LiveChecks(
        coverage_of,
        recall,
        result,
        promise.rate,
        intact,
        measured,
        new.about["measurements"],
        adopted=new.adopted,
        exact=exact,
    )
    return live, canary_json(promise, result), coverage_of
