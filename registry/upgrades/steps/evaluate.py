"""The step *evaluate*: old/old, new/h(old) and new/new on the evaluation sample, of each h and of their mix."""

from __future__ import annotations

from typing import Any

import numpy as np

from fct import forward
from fct.sample import evaluation
from fct.sample.folder import PairsFolder
from registry.revisions import history
from registry.steps import once
from registry.upgrades.champion import as_served
from registry.upgrades.upgrade import Upgrade
from registry.verdicts import checks

MIX = "mix"  # of native versions, as the live gallery has them


def mixed(counts: dict[int, int], rows: int, seed: int) -> np.ndarray:
    """(rows,) int: a native version for each row, in the proportions of ``counts``, drawn with ``seed``."""
    ends = np.rint(np.cumsum(list(counts.values())) / max(1, sum(counts.values())) * rows).astype(int)
    versions = np.repeat(list(counts), np.diff(ends, prepend=0))
    return np.asarray(np.random.default_rng(seed).permutation(versions))


def evaluate(upgrade: Upgrade) -> dict[str, Any]:
    """Exact search on the evaluation sample: the champion as served, new/h(old), new/new, for each h."""
    forwards = upgrade.forwards()
    out = {f"v{m}→v{upgrade.version}": _evaluate(upgrade, m, h) for m, h in forwards.items()}
    return out | ({MIX: _evaluate_mix(upgrade)} if len(forwards) > 1 else {})


def _evaluate(upgrade: Upgrade, m: int, h: forward.Forward) -> dict[str, Any]:
    """The same for the h from version ``m``, once."""
    settings, sample, target = upgrade.workspace.settings, PairsFolder(upgrade.pairs_folder(m)).sample(), upgrade.step(f"evaluation-v{m}")
    closed = None if h.closed else forward.load(upgrade.closed_folder(m))
    seen, bounds, seed = _seen(upgrade, m), settings.validate, settings.evaluate.seed
    inputs = {
        "h": h.digest,
        "closed": closed and closed.digest,
        "pairs": upgrade.pairs_digest(m),
        "champion": _champion_identity(upgrade),
        "seed": seed,
        "seen": seen,
        "further": [bounds.random_orders, bounds.score_threshold, bounds.false_positives],
    }

    def make() -> dict[str, Any]:
        carried = h.transform(sample.old, sample.side if h.side_dim else None, device=settings.device)
        served = as_served(upgrade, m, sample)

        def further(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return checks.further(values, sample, h, carried, closed, upgrade.new.metric, bounds, seed=seed, seen=seen, served=served)

        return evaluation.write(sample, carried[0], upgrade.new.metric, target, seed=seed, served=served, further=further)

    return dict(once("evaluate", target, inputs, make)[0])


def _seen(upgrade: Upgrade, m: int) -> list[str] | None:
    """The classes that version m was trained on; None where nobody knows."""
    release = upgrade.release_of(m)
    return None if release.adopted else release.classes


def _evaluate_mix(upgrade: Upgrade) -> dict[str, Any]:
    """The same on a gallery side that is mixed as the live gallery is: each row of the sample as if native to one of its versions."""
    settings, forwards, gallery = upgrade.workspace.settings, upgrade.forwards(), upgrade.workspace.gallery
    counts = {m: len(gallery.item_ids(role="item", native_version=m)) for m in [*forwards, upgrade.version]}
    samples = {m: PairsFolder(upgrade.pairs_folder(m)).sample() for m in forwards}
    first, target = samples[min(samples)], upgrade.step(f"evaluation-{MIX}")
    inputs = {
        "h": {str(m): h.digest for m, h in forwards.items()},
        "counts": {str(m): count for m, count in counts.items()},
        "pairs": [upgrade.pairs_digest(m) for m in forwards],
        "champion": _champion_identity(upgrade),
        "seed": settings.evaluate.seed,
        "further": [settings.validate.random_orders, settings.validate.score_threshold, settings.validate.false_positives],
    }

    def make() -> dict[str, Any]:
        chosen = mixed(counts, len(first.ids), settings.evaluate.seed)
        carried, sigma = first.new.astype(np.float32), np.zeros(len(first.ids), dtype=np.float32)
        served = {m: as_served(upgrade, m, sample) or (sample.old, sample.old) for m, sample in samples.items()}
        query = next(iter(served.values()))[0]  # of the champion, whatever the row is native to
        champion = np.array(query)  # of a row native to n itself it serves what it embedded
        for m, h in forwards.items():
            rows = chosen == m
            if not rows.any():  # canaries alone are native to m
                continue
            vectors_, doubt = h.transform(samples[m].old[rows], samples[m].side[rows] if h.side_dim else None, device=settings.device)
            carried[rows], sigma[rows], champion[rows] = vectors_, np.nan_to_num(doubt, nan=0.0), served[m][1][rows]

        def further(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            h, seen = forwards[min(forwards)], _seen(upgrade, upgrade.champion or min(forwards))
            found = checks.further(
                values, first, h, (carried, sigma), None, upgrade.new.metric, settings.validate,
                seed=settings.evaluate.seed, seen=seen, served=(query, champion),
            )  # fmt: skip
            return {name: value for name, value in found.items() if not name.startswith("curve_")}  # curves are judged h by h

        return evaluation.write(
            first, carried, upgrade.new.metric, target, seed=settings.evaluate.seed, served=(query, champion), further=further
        )

    return dict(once("evaluate", target, inputs, make)[0])


def _champion_identity(upgrade: Upgrade) -> dict[str, Any]:
    now = history.serving(upgrade.workspace.ledger)
    if now is None:
        return {}
    return {"release": now.release, "fingerprint": now.fingerprint, "forward": now.carried, "space": now.space}
