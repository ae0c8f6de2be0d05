"""The step *evaluate*: old/old, new/h(old) and new/new on the evaluation sample, by exact search.

Every query searches the whole sample (known and unseen classes in one gallery, as in production); items of its own source are
hidden from it where sources are known. Legend: N rows of the sample.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays import vectors
from fct.arrays.files import whole_folder, write_json
from fct.errors import BadInput
from fct.sample.folder import Sample
from fct.search import metrics
from fct.search.intervals import Bootstrap, Estimate, rho

NAMES = ("top1", "top5", "mAP")
ROWS = {"oo": "old/old", "nh": "new/h(old)", "nn": "new/new"}


def search(sample: Sample, query: np.ndarray, gallery: np.ndarray, metric: str) -> metrics.PerQuery:
    """The sample as query and gallery, self-matches and own sources hidden."""
    return metrics.per_query(
        query,
        gallery,
        sample.labels,
        sample.labels,
        metric=metric,
        query_ids=sample.ids,
        gallery_ids=sample.ids,
        query_sources=sample.sources,
        gallery_sources=sample.sources,
    )


def measure(sample: Sample, carried: np.ndarray, metric: str, served: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Per-query values of all rows and metrics, paired: ``oo_top1``, ``nh_mAP`` …, with ``labels``, ``populations`` and ``rows``.

    Args:
        carried: (N, E) the sample's old vectors carried over by h.
        served: query and gallery vectors of the champion as served; by default the sample's old vectors on both sides.
    """
    vectors.check("transformed sample", carried, rows=len(sample.ids), dim=sample.new.shape[1])
    found = {
        "oo": search(sample, *(served or (sample.old, sample.old)), metric),
        "nh": search(sample, sample.new, carried, metric),
        "nn": search(sample, sample.new, sample.new, metric),
    }
    rows = found["oo"].rows
    values: dict[str, np.ndarray] = {f"{row}_{name}": result.metric(name) for row, result in found.items() for name in NAMES}
    values |= {f"{row}_tied": result.tied.astype(np.float64) for row, result in found.items()}
    return values | {"rows": rows, "labels": sample.labels[rows], "populations": sample.populations[rows]}


def bootstrap(values: dict[str, np.ndarray], population: str, seed: int) -> Bootstrap:
    """The paired bootstrap over one population's queries, clustered by class."""
    chosen = values["populations"] == population
    if not chosen.any():
        raise BadInput("there is no query of this population", got=population)
    numbers = {name: value[chosen] for name, value in values.items() if value.dtype.kind == "f" and value.shape == chosen.shape}
    return Bootstrap(numbers, values["labels"][chosen], seed=seed)


def as_json(estimate: Estimate) -> dict[str, Any]:
    """Rounded for files: 6 digits, undefined as null."""

    def number(x: float) -> float | None:
        return round(x, 6) if np.isfinite(x) else None

    return {"value": number(estimate.value), "lower": number(estimate.lower), "upper": number(estimate.upper), "n": estimate.n}


def summarise(values: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Population → row → metric → estimate, with ρ of top-1 and mAP."""
    out: dict[str, Any] = {}
    for population in sorted(set(values["populations"].tolist())):
        boot = bootstrap(values, population, seed)
        table: dict[str, Any] = {row: {name: as_json(boot.mean(f"{row}_{name}")) for name in NAMES} for row in ROWS}
        table["recovered"] = {name: as_json(boot.estimate(rho(f"oo_{name}", f"nh_{name}", f"nn_{name}"))) for name in ("top1", "mAP")}
        table["tie_rate"] = {row: round(float(boot.means[f"{row}_tied"]), 6) for row in ROWS}
        out[population] = table
    return out


def write(
    sample: Sample,
    carried: np.ndarray,
    metric: str,
    out: str | Path,
    *,
    seed: int,
    served: tuple[np.ndarray, np.ndarray] | None = None,
    further: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
) -> dict[str, Any]:
    """Measure and write ``per_query.npz`` (for the gates), ``metrics.json`` (dvc metrics) and ``recovery.csv`` (dvc plots).

    Args:
        further: of the measured values, other arrays that are to lie beside them in ``per_query.npz``.
    """
    values = measure(sample, carried, metric, served)
    summary = summarise(values, seed)
    beside = further(values) if further is not None else {}
    with whole_folder(out) as part:
        np.savez(part / "per_query.npz", **(values | beside))  # type: ignore[arg-type]
        write_json(part / "metrics.json", summary)
        lines = ["population,row,metric,value"]
        lines += [
            f"{population},{label},{name},{summary[population][row][name]['value']}"
            for population in summary
            for row, label in ROWS.items()
            for name in NAMES
        ]
        vectors.save(part / "carried.npy", carried)
        (part / "recovery.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return summary


def load(folder: str | Path) -> dict[str, np.ndarray]:
    """Read ``per_query.npz``."""
    path = Path(folder) / "per_query.npz"
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput("the measurements cannot be read", got=str(error), where=path, todo="run the evaluate step") from error
