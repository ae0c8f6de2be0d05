"""The canaries of a release: what they promise outside of any table, and what they answer in a space."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fct.arrays.files import read_object
from fct.errors import BadInput
from fct.forward import Forward
from fct.gallery import canary
from fct.gallery.canary import CanaryPromise, CanaryResult
from fct.sample.folder import PairsFolder

CANARY_DEPTH = 5


@dataclass(frozen=True)
class Answered:
    """What the canaries promised, and what they showed."""

    promise: CanaryPromise
    result: CanaryResult


def promised(h: Forward | None, pairs: Path, carried_sample: np.ndarray, metric: str) -> tuple[CanaryPromise, np.ndarray]:
    """What the canaries reach outside of any table, among (N, E) others; and their native new vectors (K, E). Without an h these are the rows."""
    folder = PairsFolder(pairs)
    native = np.array(folder.load("canaries", "new"))
    carried = native
    if h is not None:
        carried, _ = h.transform(folder.load("canaries", "old"), folder.load("canaries", "side") if h.side_dim else None)
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


def as_json(found: Answered) -> dict[str, Any]:
    """The canaries.json of a verdict."""
    result = found.result
    return {
        "promised": asdict(found.promise),
        "measured": {
            "rate": result.rate,
            "mean_cosine": result.mean_cosine,
            "scale": result.scale,
            "missing": list(result.missing),
            "passed": result.passed,
            "why": result.why,
        },
    }
