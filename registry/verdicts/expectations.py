"""The door to Great Expectations: suites on gallery batches and on the measurement table.

The core of a verdict is a suite with one expectation per measurement; its JSON travels with the verdict, so that anyone can run
it again on the measurement table.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from typing import Any

import numpy as np

from fct.errors import BadInput
from registry.verdicts.measurement import Measurement

NORM_SPREAD = 100.0  # a norm so many times off the median is a broken vector, not an unusual image


def _context() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.ERROR)
        context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    return context


def _validate(name: str, frame: Any, expectations: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Results (one an expectation, in order) and the suite as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        context = _context()
        suite = context.suites.add(gx.ExpectationSuite(name=name))
        for expectation in expectations:
            suite.add_expectation(expectation)
        batch = (
            context.data_sources.add_pandas("batches")
            .add_dataframe_asset(name=name)
            .add_batch_definition_whole_dataframe("all")
            .get_batch({"dataframe": frame})
        )
        result = batch.validate(suite)
    as_json = json.loads(json.dumps(suite.to_json_dict(), default=str))
    for expectation in as_json["expectations"]:
        expectation.pop("id", None)  # random, and a verdict has the same digest when it says the same
    return [json.loads(json.dumps(r.to_json_dict(), default=str)) for r in result.results], {
        "name": name,
        "expectations": as_json["expectations"],
    }


def check_measurements(measurements: list[Measurement]) -> tuple[dict[str, bool], dict[str, Any]]:
    """One expectation per applicable measurement on the tested number.

    Returns:
        key → kept its bound, and the suite's JSON.
    """
    import great_expectations as gx
    import pandas as pd

    asked = [m for m in measurements if m.applies and np.isfinite(m.tested)]
    frame = pd.DataFrame({m.key: [m.tested] for m in asked})
    expectations = []
    for m in asked:
        bound: dict[str, Any] = {"max_value": m.bound, "strict_max": m.strict} if m.most else {"min_value": m.bound, "strict_min": m.strict}
        expectations.append(
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=m.key, meta={"gate": m.gate, "subject": m.subject, "tested": m.test}, **bound
            )
        )
    results, suite = _validate("gates", frame, expectations)
    kept = {r["expectation_config"]["kwargs"]["column"]: bool(r["success"]) for r in results}
    return {m.key: kept.get(m.key, False) for m in measurements}, suite


def check_batch(name: str, ids: np.ndarray, phi: np.ndarray, *, dim: int, fingerprint: str, found_fingerprint: str) -> dict[str, Any]:
    """A batch of gallery vectors: ids unique and not null, dimension, finite values, norms in one range, the right embedder.

    Args:
        ids: (N,); phi: (N, D); fingerprint: of the embedder that should have made them; found_fingerprint: of the table.

    Returns:
        the suite's JSON with statistics.

    Raises:
        BadInput: an expectation failed; all that failed are named.
    """
    import great_expectations as gx
    import pandas as pd

    norms = np.linalg.norm(phi.astype(np.float64), axis=1)
    finite = norms[np.isfinite(norms)]
    median = (float(np.median(finite)) if len(finite) else 0.0) or 1.0  # where no row has a norm, every bound fails as it should
    named = [None if one is None or one != one else str(one) for one in ids.tolist()]  # NaN is a missing id too
    frame = pd.DataFrame(
        {
            "id": named,
            "dimension": np.full(len(ids), phi.shape[1]),
            "finite": np.isfinite(phi).all(axis=1),
            "norm": norms,
            "fingerprint": found_fingerprint,
        }
    )
    e = gx.expectations
    expectations = [
        e.ExpectColumnValuesToNotBeNull(column="id"),
        e.ExpectColumnValuesToBeUnique(column="id"),
        e.ExpectColumnValuesToBeInSet(column="dimension", value_set=[dim]),
        e.ExpectColumnValuesToBeInSet(column="finite", value_set=[True]),
        e.ExpectColumnValuesToBeBetween(column="norm", min_value=median / NORM_SPREAD, max_value=median * NORM_SPREAD, strict_min=True),
        e.ExpectColumnValuesToBeInSet(column="fingerprint", value_set=[fingerprint]),
    ]
    results, suite = _validate(name, frame, expectations)
    failed = [
        f"{r['expectation_config']['type']} on {r['expectation_config']['kwargs']['column']} ({r['result'].get('unexpected_count', '?')} rows)"
        for r in results
        if not r["success"]
    ]
    if failed:
        raise BadInput(
            "a batch of gallery vectors failed its checks: " + ", ".join(failed),
            where=name,
            todo="nothing was written; look at the embedder that made them",
        )
    return suite | {"rows": len(ids), "median_norm": round(median, 4)}
