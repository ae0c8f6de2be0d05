"""A trial of an upgrade on vectors alone: is the new model better here, and how much of that comes back without re-embedding?

The rows are split once. h is fitted on the *fitting* rows and never sees the *evaluation* rows, which serve as query and gallery,
self-matches and own sources hidden. Rows of one source, and copies (:mod:`fct.search.copies`), are never on both sides; with labels some classes are kept from h entirely
(unseen classes). Without labels nothing can say which model is better; what is measured then is neighbourhood agreement: how many of the
ten nearest items that new/new finds are found.

Legend: N rows given, F fitting rows, V evaluation rows, R queries that count, D old, P side, E new dimensions, S steps of a curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fct.forward import Forward
from fct.sample.folder import Sample
from fct.sample.splitting import Split
from fct.search.intervals import FEWEST, Bootstrap, Estimate, difference, rho

ORDERS = ("shipped", "random", "oracle")
RETRIEVAL, AGREEMENT = ("top1", "mAP"), ("agreement",)


@dataclass(frozen=True)
class Backfill:
    """Backfilling curves of :mod:`fct.sample.backfilling`: per-query values (S, C) of ``shipped_mAP``, ``random_mAP`` (the mean of several random
    orders), ``oracle_mAP`` …, S equally spaced β with both ends; ``clusters`` (C,) what the bootstrap draws."""

    values: dict[str, np.ndarray]
    clusters: np.ndarray
    seed: int

    @property
    def beta(self) -> np.ndarray:
        return np.linspace(0, 1, len(next(iter(self.values.values()))))

    def means(self, name: str) -> np.ndarray:
        """(S,) M(β) of ``shipped_mAP`` …"""
        return np.asarray(self.values[name].mean(axis=1))

    def at(self, name: str, share: float) -> float:
        """M where the share ``share`` of the items is native."""
        return float(np.interp(share, self.beta, self.means(name)))

    def dip(self, name: str) -> float:
        """min over β of M(β) − min(M(0), M(1)): 0, or below where the curve dips under both of its ends."""
        m = self.means(name)
        return float(m.min() - min(m[0], m[-1]))

    def adds(self, metric: str, share: float | None, name: str = "shipped") -> Estimate:
        """What an order adds over random orders at the share ``share``; without a share, in AUC (the mean over β)."""
        step = slice(None) if share is None else [round(share * (len(self.beta) - 1))]
        per_query = {of: self.values[f"{of}_{metric}"][step].mean(axis=0) for of in (name, "random")}
        return Bootstrap(per_query, self.clusters, seed=self.seed).estimate(difference(name, "random"))


@dataclass(frozen=True)
class Trial:
    """Everything that was measured.

    ``sample``: the V evaluation rows. ``values``: per-query values (R,) named ``oo_top1`` … for the rows oo (old/old), nh (new/h(old)),
    nn (new/new) and, with side-information, ph (new/h(old) of an h fitted by the same method on the same pairs without it). ``queries``: (R,) their places in
    the sample. ``metrics``: what is measured. ``own``: share of new queries whose own carried-over row comes first. ``plain``: the h
    without side-information. ``given``: counts, dimensions and digests of what was given.
    """

    sample: Sample
    split: Split
    metric: str
    metrics: tuple[str, ...]
    queries: np.ndarray
    values: dict[str, np.ndarray]
    h: Forward
    plain: Forward | None
    carried: np.ndarray
    own: float
    backfill: Backfill | None
    given: dict[str, Any]
    seconds: dict[str, float]
    seed: int

    @property
    def labelled(self) -> bool:
        return self.metrics == RETRIEVAL

    @property
    def populations(self) -> tuple[str, ...]:
        """``all``, and ``known`` and ``unseen`` where classes were held out."""
        return ("all", "known", "unseen") if len(set(self.sample.populations[self.queries].tolist())) == 2 else ("all",)

    @property
    def honest(self) -> str:
        """The population whose ρ is the headline: the classes that h never saw, where there are some."""
        return self.populations[-1]

    def few(self, population: str) -> int | None:
        """How many classes a population has, where they are too few to be drawn: its intervals then say nothing of other classes."""
        count = len(np.unique(self.sample.labels[self.queries[self.of(population)]]))
        return count if self.labelled and count < FEWEST else None

    def of(self, population: str) -> np.ndarray:
        """(R,) bool: the queries of a population."""
        return (self.sample.populations[self.queries] == population) | (population == "all")


def _clusters(sample: Sample, rows: np.ndarray, labelled: bool) -> np.ndarray:
    """What the bootstrap draws: classes; where they are too few for bounds, sources; else items."""
    for names in ((sample.labels[rows],) if labelled else ()) + (sample.sources[rows],):
        if len(np.unique(names)) >= FEWEST:
            return np.asarray(names)
    return np.asarray(sample.ids[rows])


def estimates(trial: Trial, population: str = "all") -> dict[str, Estimate]:
    """Means and differences over a population's queries, each with its interval from one paired bootstrap clustered by class.

    For every metric: ``oo_``, ``nh_``, ``nn_`` (and ``ph_``), ``short_`` (nh − nn), with side-information ``side_`` (nh − ph), with
    labels ``gain_`` (nn − oo), ``compatible_`` (nh − oo) and ``rho_``.
    """
    inside = trial.of(population)
    boot = Bootstrap(
        {name: value[inside] for name, value in trial.values.items()},
        _clusters(trial.sample, trial.queries[inside], trial.labelled),
        seed=trial.seed,
    )
    found = {name: boot.mean(name) for name in trial.values}
    for m in trial.metrics:
        oo, nh, nn, ph = (f"{row}_{m}" for row in ("oo", "nh", "nn", "ph"))
        found[f"short_{m}"] = boot.estimate(difference(nh, nn))
        if trial.plain is not None:
            found[f"side_{m}"] = boot.estimate(difference(nh, ph))
        if trial.labelled:  # agreement has no gain: new/new agrees with itself
            found[f"gain_{m}"] = boot.estimate(difference(nn, oo))
            found[f"compatible_{m}"] = boot.estimate(difference(nh, oo))
            found[f"rho_{m}"] = boot.estimate(rho(oo, nh, nn))
    return found


def flips(trial: Trial) -> dict[str, np.ndarray]:
    """Places in ``trial.queries`` of the queries that are ``lost`` (right under old/old, wrong under new/h(old)) and ``gained`` (the other
    way), those that change most first; without labels ``lost`` are those that agree least with new/new."""
    v = trial.values
    if not trial.labelled:
        return {"lost": np.argsort(v["nh_agreement"], kind="stable"), "gained": np.zeros(0, dtype=np.int64)}
    change = v["nh_mAP"] - v["oo_mAP"]
    before, after = v["oo_top1"] > 0, v["nh_top1"] > 0
    lost, gained = np.flatnonzero(before & ~after), np.flatnonzero(after & ~before)
    return {"lost": lost[np.argsort(change[lost], kind="stable")], "gained": gained[np.argsort(-change[gained], kind="stable")]}
