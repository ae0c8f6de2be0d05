"""What a trial found, in answers for people: seven questions in the order in which they are asked.

Fractions are 0–1; brackets hold the one-sided 95 % bounds. An answer that its interval leaves open says so and how many more queries
would settle it. The page is drawn by :mod:`registry.report.trial_page`.
"""

from __future__ import annotations

from typing import Any

from fct.sample import trial as trials
from fct.sample.evaluation import as_json
from fct.sample.trial import Trial
from fct.sample.trying import RANDOM_ORDERS
from fct.search import copies
from fct.search.intervals import FEWEST
from registry.report.trial_answers import (
    POPULATIONS,
    SHARES,
    Answer,
    Costs,
    answer_backfill,
    answer_open,
    answer_queries,
    answer_recovered,
    answer_saves,
    answer_side,
    answer_upgrade,
    counts,
    savings,
    unsettled,
)

QUESTIONS = {
    "upgrade": "Should you upgrade at all?",
    "recovered": "What comes back without re-embedding?",
    "side": "What does side-information add?",
    "queries": "Which queries get better or worse?",
    "backfill": "What does backfilling a part add?",
    "saves": "What does it save?",
    "open": "What would settle what is open?",
}
TONES = {
    "yes": "passed",
    "no": "refused",
    "inconclusive": "inconclusive",
    "labels needed": "inconclusive",
    "better than today": "passed",
    "no better than today": "refused",
    "it helps": "passed",
    "it does not help": "not-applicable",
    "the order helps": "passed",
    "no better than random": "not-applicable",
    "": "not-applicable",
}


def answers(trial: Trial, costs: Costs) -> list[Answer]:
    """One answer for each of :data:`QUESTIONS`, in that order."""
    found = {population: trials.estimates(trial, population) for population in trial.populations}
    return [
        answer_upgrade(trial, found["all"]),
        answer_recovered(trial, found),
        answer_side(trial, found),
        answer_queries(trial),
        answer_backfill(trial),
        answer_saves(trial, costs),
        answer_open(trial, found),
    ]


def done(trial: Trial) -> str:
    """What was done, in one paragraph: counts, seed, seconds."""
    s, g = trial.split, trial.given
    unseen = f", {int(s.unseen.sum()):,} of them of classes kept from h" if s.unseen.any() else ""
    left = f"; {s.left_out:,} rows were used for neither" if s.left_out else ""
    same = f" {g['copies']:.1%} of the rows are copies of others and were kept together with them." if g["copies"] else ""
    same += "".join(f" {sentence}." for sentence in copies.warnings(0.0, doubtful=g["doubtful"]))
    units = f" {g['sources']:,} sources were never split, and a query's own source is hidden from it." if g["sources"] else ""
    curve = (
        f" Backfilling curves: {trial.backfill.values[f'shipped_{trial.metrics[-1]}'].shape[1]:,} queries, {RANDOM_ORDERS} random orders."
        if trial.backfill
        else ""
    )
    judged = "labelled queries" if trial.labelled else "queries without labels"
    few = "".join(
        f" The intervals of {POPULATIONS[population]} hold for these {count} classes alone: {FEWEST} are needed to speak for others."
        for population in trial.populations
        if (count := trial.few(population)) is not None
    )
    return (
        f"{g['rows']:,} rows, {g['old_dim']} → {g['new_dim']} dimensions, side-information {g['side_dim']}. h was fitted on {len(s.fitting):,} rows and judged on {len(s.evaluation):,} it never saw{unseen}{left}."
        f"{same}{units} {len(trial.queries):,} {judged} searched the whole evaluation part by exact {trial.metric} search, themselves hidden.{curve}{few}"
        f" Seed {trial.seed}; {sum(trial.seconds.values()):.1f} s, of them {sum(v for k, v in trial.seconds.items() if k.startswith('fit')):.1f} s fitting. h {trial.h.digest[:12]}."
    )


def summary(trial: Trial, found: list[Answer], page: str) -> list[str]:
    """Ten lines for a terminal."""
    g = trial.given
    heads = ("Upgrade?", "Comes back:", "Side-information:", "Queries:", "Backfill:", "Saves:", "Open:")
    lines = [
        f"{g['rows']:,} rows, {g['old_dim']} → {g['new_dim']} dimensions; h ({trial.h.method}) fitted on {len(trial.split.fitting):,}, judged on {len(trial.split.evaluation):,} it never saw; copies: {g['copies']:.1%}"
    ]
    for head, answer in zip(heads, found, strict=True):
        said = f"{answer.outcome.upper() if answer.key == 'upgrade' else answer.outcome}: " if answer.outcome else ""
        lines.append(f"{head:<18}{said}{answer.short}")
    few = trial.few(trial.honest)
    alone = "" if few is None else f" for these {few} classes alone"
    lines.append(f"{'Done in:':<18}{sum(trial.seconds.values()):.1f} s, seed {trial.seed}; brackets: one-sided 95 % bounds{alone}")
    return [*lines, f"{'Page:':<18}{page}"]


def to_json(trial: Trial, costs: Costs, page: str) -> dict[str, Any]:
    """Everything the page says, as numbers; the same object for ``--json``."""
    found = answers(trial, costs)
    tables = {population: trials.estimates(trial, population) for population in trial.populations}
    flipped = trials.flips(trial) if trial.labelled else {}
    rows = trial.split.evaluation[trial.queries]
    b = trial.backfill
    return {
        "answers": {a.key: {"outcome": a.outcome, "text": a.short, "more": list(a.more)} for a in found},
        "metrics": {population: {name: as_json(e) for name, e in table.items()} for population, table in tables.items()},
        "queries": counts(trial) | {f"{name}_rows": rows[places].tolist() for name, places in flipped.items()},
        "backfill": None
        if b is None
        else {"beta": b.beta.tolist()}
        | {name: {m: b.means(f"{name}_{m}").round(6).tolist() for m in trial.metrics} for name in trials.ORDERS}
        | {
            "over_random": {m: {f"{share}": as_json(b.adds(m, share)) for share in SHARES} for m in trial.metrics},
            "auc_gain": {m: as_json(b.adds(m, None)) for m in trial.metrics},
            "dip": {m: round(b.dip(f"shipped_{m}"), 6) for m in trial.metrics},
        },
        "savings": savings(trial, costs),
        "more_queries": unsettled(trial, tables),
        "forward": {"method": trial.h.method, "digest": trial.h.digest, "validation": trial.h.about.get("validation", {})},
        "own_row_first": round(trial.own, 6),
        "given": trial.given,
        "rows": {
            "fitting": len(trial.split.fitting),
            "evaluation": len(trial.split.evaluation),
            "unseen": int(trial.split.unseen.sum()),
            "left_out": trial.split.left_out,
        },
        "seed": trial.seed,
        "seconds": trial.seconds,
        "page": page,
        "summary": summary(trial, found, page),
    }
