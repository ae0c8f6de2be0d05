"""What a trial says, question by question: is the new model better, how much comes back, what it saves, what is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fct.sample import trial as trials
from fct.sample.evaluation import as_json
from fct.sample.trial import Trial
from fct.search import agreement
from fct.search.intervals import Estimate
from registry.report.review import INFINITE, interval, number
from registry.verdicts.deciding import more_queries

NAMES = {"top1": "top-1", "mAP": "mAP", "agreement": "agreement"}
POPULATIONS = {"all": "all queries", "known": "known classes", "unseen": "unseen classes"}
SHARES = (0.1, 0.2, 0.5)
KIN = 0.8  # median cosine of an item's old and new vectors above which they are called alike
DIP = -0.002  # a curve this far below both of its ends is said to dip


@dataclass(frozen=True)
class Costs:
    """What embedding costs, as the user says: ``gallery_rows`` in the real gallery (by default the rows given), ``seconds_per_million``
    and ``price_per_million`` of embedding a million items natively (0 = not said; any currency)."""

    gallery_rows: int | None = None
    seconds_per_million: float = 0.0
    price_per_million: float = 0.0


@dataclass(frozen=True)
class Answer:
    """``outcome``: one of :data:`TONES` (empty: nothing to decide); ``short``: for the summary; ``more``: further sentences."""

    key: str
    outcome: str
    short: str
    more: tuple[str, ...] = ()


def signed(estimate: Estimate, digits: int = 3) -> str:
    """``+0.109 [+0.080, +0.130]``."""
    value, *ends = (f"{'+' if x > 0 else ''}{number(x, digits)}" for x in (estimate.value, estimate.lower, estimate.upper))
    lower, upper = (
        end if np.isfinite(x) else named for end, x, named in zip(ends, (estimate.lower, estimate.upper), INFINITE, strict=True)
    )
    return f"{value} [{lower}, {upper}]"


def shown(estimate: Estimate, digits: int = 3) -> str:
    return interval(as_json(estimate), digits)


def _settles(estimate: Estimate, bound: float = 0.0) -> str:
    more = more_queries(estimate.value, estimate.lower, estimate.upper, bound, estimate.n)
    return f"about {more:,} more labelled queries" if more is not None else "no number of queries (it lies on its bound)"


def decided(estimate: Estimate) -> str:
    """yes above 0, no at or below it, inconclusive where the interval straddles it."""
    return "yes" if estimate.lower > 0 else "no" if estimate.upper <= 0 else "inconclusive"


def overall(found: dict[str, Estimate], key: str, metrics: tuple[str, ...]) -> str:
    """Of the differences ``gain_top1``, ``gain_mAP`` …: *no* if any metric says no, *yes* if all say yes, else *inconclusive*."""
    each = {decided(found[f"{key}_{name}"]) for name in metrics}
    return "no" if "no" in each else "yes" if each == {"yes"} else "inconclusive"


def answer_upgrade(trial: Trial, found: dict[str, Estimate]) -> Answer:
    if not trial.labelled:
        return Answer(
            "upgrade",
            "labels needed",
            "labels are needed: from vectors alone nobody can tell which model is better",
            (
                "What can be said without labels is how faithfully h's gallery stands in for one embedded again; if the new model is worse on your data, h carries that over as faithfully.",
                f"The two models disagree on {number(1 - found['oo_agreement'].value)} of the ten nearest items. Label a few hundred items (--labels, one class an item) and run this again.",
            ),
        )
    outcome, kin = overall(found, "gain", trial.metrics), agreement.kinship(trial.sample.old, trial.sample.new)
    gains = ", ".join(
        f"{NAMES[m]} {number(found[f'oo_{m}'].value)} → {number(found[f'nn_{m}'].value)}, {signed(found[f'gain_{m}'])}"
        for m in reversed(trial.metrics)
    )
    more: tuple[str, ...] = ()
    if outcome == "no":
        h = ", ".join(f"{NAMES[m]} {shown(found[f'nh_{m}'])}" for m in reversed(trial.metrics))
        more = (
            f"The new model is not better here, and h carries that over faithfully: new/h(old) reaches {h}. Keep the old model, or train a better one.",
        )
    if outcome == "inconclusive":
        open_ = [m for m in trial.metrics if decided(found[f"gain_{m}"]) == "inconclusive"]
        more = (f"{' and '.join(NAMES[m] for m in open_)} could go either way: {_settles(found[f'gain_{open_[0]}'])} would settle it.",)
    if kin > KIN:
        more += (
            f"An item's old and new vectors are alike (median cosine {number(kin)}): one network whose images were prepared otherwise, or one"
            " tuned from the other. They rank otherwise all the same: keep them in one gallery only through an h.",
        )
    return Answer("upgrade", outcome, gains, more)


def answer_recovered(trial: Trial, found: dict[str, dict[str, Estimate]]) -> Answer:
    here = found[trial.honest]
    of = POPULATIONS[trial.honest]
    reason = str(trial.h.about.get("validation", {}).get("reason", ""))
    missing = [
        sentence for sentence in trial.h.about.get("inputs_missing", []) if "--side" not in sentence
    ]  # that has a question of its own
    chose = (f"Method: {trial.h.method}. {reason}".strip(), *([" ".join(missing)] if missing else []))
    if not trial.labelled:
        e = here["nh_agreement"]
        text = f"{shown(e)} of the ten nearest items under new/new are found with h's gallery (old/old finds {number(here['oo_agreement'].value)})"
        own = f"A new query comes nearest to its own carried-over row in {number(trial.own)} of the cases; that tells whether h keeps items apart, not whether to upgrade."
        return Answer("recovered", "", text, (own, *chose))
    undefined = [m for m in trial.metrics if not np.isfinite(here[f"rho_{m}"].value)]
    if undefined or overall(found["all"], "gain", trial.metrics) == "no":
        text = "; ".join(f"new/h(old) − new/new {NAMES[m]} {signed(here[f'short_{m}'])}" for m in reversed(trial.metrics))
        return Answer("recovered", "", f"there is no gain to share out (ρ is undefined): {text} on {of}", chose)
    text = ", ".join(f"ρ {NAMES[m]} {shown(here[f'rho_{m}'], 2)}" for m in reversed(trial.metrics)) + f" on {of}"
    more = []
    if trial.honest == "unseen":
        known = ", ".join(f"ρ {NAMES[m]} {shown(found['known'][f'rho_{m}'], 2)}" for m in reversed(trial.metrics))
        more = [
            f"On known classes {known}. Known classes flatter h: it was fitted on them. Unseen ones are classes that no fitting row has; whether the models saw them is not known here."
        ]
    if any(here[f"rho_{m}"].lower > 1 for m in trial.metrics):
        more.append(
            "A ρ above 1 means that h pulls the items of a class closer together than the new model does; full backfill would take that away again."
        )
    worse = [NAMES[m] for m in trial.metrics if here[f"compatible_{m}"].upper < 0]
    if worse:
        more.append(
            f"Carried over by this h the gallery answers worse than today's ({' and '.join(worse)}, {of}): do not serve it as it is."
        )
    return Answer(
        "recovered",
        {"yes": "better than today", "no": "no better than today"}.get(overall(here, "compatible", trial.metrics), "inconclusive"),
        text,
        (*more, *chose),
    )


def answer_side(trial: Trial, found: dict[str, dict[str, Estimate]]) -> Answer:
    here, of = found[trial.honest], POPULATIONS[trial.honest]
    if trial.plain is None:
        short = {m: here[f"short_{m}"] for m in reversed(trial.metrics)}
        left = ", ".join(f"{NAMES[m]} {signed(Estimate(-e.value, -e.upper, -e.lower, e.n))}" for m, e in short.items())
        return Answer(
            "side",
            "",
            f"not measured, none was given; between h and embedding again lie {left} ({of})",
            (
                "That is about what side-information could win, no more. To know, store a few dozen to a few hundred bytes beside each old vector (a second encoder's output, or the same network's feature map with its layout kept) for these same rows and run again with --side.",
            ),
        )
    text = (
        ", ".join(f"{NAMES[m]} {signed(here[f'side_{m}'])}" for m in reversed(trial.metrics))
        + f" on {of}, for {trial.given['side_bytes']} bytes an item"
    )
    outcome = {"yes": "it helps", "no": "it does not help"}.get(overall(here, "side", trial.metrics), "inconclusive")
    without = ", ".join(f"{NAMES[m]} {shown(here[f'ph_{m}'])}" for m in reversed(trial.metrics))
    return Answer("side", outcome, text, (f"Without it, the same method ({trial.plain.method}) on the same pairs: {without}.",))


def counts(trial: Trial) -> dict[str, int]:
    """Queries, those lost (of them wrong under new/new, too) and gained; without labels only the queries."""
    lost, gained = (trials.flips(trial)[name] for name in ("lost", "gained"))
    if not trial.labelled:
        return {"queries": len(trial.queries)}
    too = int((trial.values["nn_top1"][lost] == 0).sum())
    return {"queries": len(trial.queries), "lost": len(lost), "lost_by_new": too, "gained": len(gained)}


def answer_queries(trial: Trial) -> Answer:
    n = counts(trial)
    if not trial.labelled:
        agree = trial.values["nh_agreement"]
        return Answer(
            "queries",
            "",
            f"{int((agree < 0.5).sum()):,} of {n['queries']:,} queries keep fewer than half of new/new's ten nearest; which of them get worse, only labels tell",
        )
    text = f"{n['lost']:,} of {n['queries']:,} right today and wrong with h ({n['lost_by_new']:,} of them wrong under new/new, too); {n['gained']:,} the other way"
    return Answer("queries", "", text)


def answer_backfill(trial: Trial) -> Answer:
    b, m = trial.backfill, trial.metrics[-1]
    if b is None:
        return Answer("backfill", "", f"no order to ship: {trial.h.method} predicts no uncertainty")
    start = {name: b.means(f"{name}_{m}")[0] for name in ("shipped", "random")}

    def added(name: str) -> str:
        return "/".join(f"{'+' if (gain := b.at(f'{name}_{m}', share) - start[name]) > 0 else ''}{number(gain)}" for share in SHARES)

    helps = b.adds(m, None)
    dips = b.dip(f"shipped_{m}")
    text = f"10/20/50 % add {NAMES[m]} {added('shipped')} in the shipped order, {added('random')} at random; {f'a dip of {number(-dips)} on the way' if dips < DIP else 'no dip'}"
    more = [f"Over the whole curve the shipped order is worth {signed(helps, 4)} {NAMES[m]} more than random ones (AUC)."]
    more.append(
        f"There is a dip: on the way the gallery falls {number(-dips, 4)} below its own ends; do not stop there."
        if dips < DIP
        else f"No dip beyond {-DIP} (shipped {number(dips, 4)}, random {number(b.dip(f'random_{m}'), 4)})."
    )
    outcome = {"yes": "the order helps", "no": "no better than random"}.get(decided(helps), "inconclusive")
    return Answer("backfill", outcome, text, tuple(more))


def savings(trial: Trial, costs: Costs) -> dict[str, float | int]:
    """Rows not re-embedded, seconds and price of that by the user's figures, and what h needs for them instead (measured here)."""
    rows = costs.gallery_rows if costs.gallery_rows is not None else int(trial.given["rows"])
    h_s = trial.seconds["transform_nh_s"] / len(trial.sample.ids)
    out: dict[str, float | int] = {"rows": rows, "h_s": round(h_s * rows, 3), "h_us_per_item": round(h_s * 1e6, 2)}
    out |= {"side_bytes": int(trial.given["side_bytes"]) * rows}
    for name in ("seconds_per_million", "price_per_million"):
        if getattr(costs, name):
            out[name.removesuffix("_per_million")] = round(getattr(costs, name) * rows / 1e6, 6)
    return out


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 0.001 else "less than 1 ms"


def answer_saves(trial: Trial, costs: Costs) -> Answer:
    s = savings(trial, costs)
    text = f"{s['rows']:,} rows not re-embedded; h takes {_duration(s['h_s'])} for them here"
    if "seconds" in s:
        text += f" instead of {_duration(s['seconds'])}"
    if "price" in s:
        text += f", and {s['price']:,.2f} is not spent"
    more = (
        []
        if "seconds" in s and "price" in s
        else [
            "Say what embedding costs you with --seconds-per-million and --price-per-million, and how many rows there are with --gallery-rows."
        ]
    )
    if s["side_bytes"]:
        more.append(f"Side-information takes {s['side_bytes'] / 2**20:,.1f} MiB for them.")
    return Answer("saves", "", text, tuple(more))


def unsettled(trial: Trial, found: dict[str, dict[str, Estimate]]) -> dict[str, int | None]:
    """What its interval leaves open → how many more queries of the same kind would settle it (None: no number would)."""
    wanted = {
        f"{words}, {NAMES[m]}{f', {POPULATIONS[population]}' if population != 'all' else ''}": found[population][f"{key}_{m}"]
        for key, words, population in (
            ("gain", "is new/new better than old/old", "all"),
            ("compatible", "is new/h(old) better than old/old", trial.honest),
            ("side", "does side-information help", trial.honest),
        )
        for m in trial.metrics
        if f"{key}_{m}" in found[population]
    }
    if trial.backfill is not None:
        wanted |= {f"is the shipped order better than random ones, {NAMES[m]}": trial.backfill.adds(m, None) for m in trial.metrics}
    return {words: more_queries(e.value, e.lower, e.upper, 0.0, e.n) for words, e in wanted.items() if decided(e) == "inconclusive"}


def answer_open(trial: Trial, found: dict[str, dict[str, Estimate]]) -> Answer:
    left = unsettled(trial, found)
    if not left:
        return Answer(
            "open",
            "",
            "nothing that more queries would change" if trial.labelled else "labels: a few hundred items are enough for a first answer",
        )
    kind = "labelled queries" if trial.labelled else "queries"
    lines = [
        f"{words}? {f'about {more:,} more {kind}' if more is not None else 'no number of queries is known to settle it'}"
        for words, more in left.items()
    ]
    return Answer(
        "open",
        "",
        f"{lines[0]}{f' (and {len(lines) - 1} more on the page)' if len(lines) > 1 else ''}",
        tuple(f"{line}." for line in lines),
    )
