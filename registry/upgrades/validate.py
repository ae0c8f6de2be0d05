"""The gates in the development pipeline: the evaluation sample stands in for the live gallery."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fct import forward
from fct.arrays import digests, vectors
from fct.arrays.files import read_json, whole_folder, write_json
from fct.gallery import index as indexes
from fct.release.examining import open_release
from fct.sample import evaluation
from fct.sample.folder import PairsFolder
from registry.settings import Settings
from registry.upgrade_files import PROMISE, VERDICT
from registry.upgrades.fitting import copies_of, fit_closed
from registry.verdicts import checks, verdict


def validate_sample(
    pairs_folder: Path,
    h_folder: Path,
    transformed: Path,
    index: Path,
    evaluated: Path,
    new: Path,
    data: Path,
    out: Path,
    settings: Settings,
) -> dict[str, Any]:
    """Reach a verdict on files alone, with the functions that the upgrade uses on the live gallery.

    Returns:
        the verdict, also written to ``out`` with a table of gates for ``dvc metrics``.
    """
    release = open_release(new, check=False)
    h = forward.load(h_folder)
    pairs = PairsFolder(pairs_folder)
    sample = pairs.sample()
    ids, rows = np.array(pairs.load("gallery", "ids")), np.array(vectors.load(transformed))
    order = np.argsort(ids)
    content = read_json(index / "index.json")["content"]
    searcher = indexes.open_index(index, release.metric, content)
    psi = np.array(pairs.load("sample", "psi"))
    natives = {1: checks.Carried(pairs_folder, h, sample.old, psi)}
    live, canaries, _ = checks.measure(
        natives,
        ids[order],
        rows[order],
        searcher,
        release,
        data,
        settings.validate,
        device=settings.device,
        space_fingerprint=release.fingerprint,
    )
    values = evaluation.load(evaluated)
    carried = h.transform(sample.old, sample.side if h.side_dim else None, device=settings.device)
    closed = None if h.closed else fit_closed(pairs_folder, settings.fit, seed=settings.seed)
    seed, seen = settings.evaluate.seed, pairs.about()["old_classes"]
    values |= checks.further(values, sample, h, carried, closed, release.metric, settings.validate, seed=seed, seen=seen)
    covers = {
        "release": release.digest(),
        "forward": h.digest,
        "rows": digests.of_array(rows),
        "copies": {"v1→v2": copies_of(pairs_folder)},
        "bounds": digests.of_json(asdict(settings.validate)),
    }
    reached = verdict.reach(
        model=settings.model,
        version=2,
        champion=1,
        per_forward={"v1→v2": values},
        live=live,
        metrics=read_json(evaluated / "metrics.json"),
        covers=covers,
        settings=settings.validate,
        seed=seed,
    )
    with whole_folder(out) as part:
        write_json(part / Path(VERDICT).name, reached)
        write_json(part / Path(PROMISE).name, canaries)
        write_json(
            part / "gates.json",
            {"outcome": reached["outcome"]}
            | {f"{g['gate']} {g['subject']}": {"value": g["value"], "outcome": g["outcome"]} for g in reached["gates"]},
        )
    return reached
