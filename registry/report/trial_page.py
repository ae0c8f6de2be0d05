"""The page of a trial: one HTML file that needs nothing else, in light, dark and on paper.

Legend: N rows given, V evaluation rows, R queries that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fct.datasets.walk import OUTSIDE, Walk, walk
from fct.errors import BadInput
from fct.sample import trial as trials
from fct.sample.trial import Trial
from fct.search import agreement
from fct.search.intervals import Estimate
from registry.report import figures, page, trial_answers
from registry.report import trial as words
from registry.report.figures import CARRIED, GRID, INK, NEW, OLD, PAPER, SOFT, WARM
from registry.report.review import number, plain
from registry.report.trial_answers import NAMES, POPULATIONS, SHARES, Costs, shown

TEMPLATE = "trial.html.j2"
CARDS, LISTED, ANSWERS = 8, 12, 5
ROWS = {"oo": ("old/old", OLD), "nh": ("new/h(old)", CARRIED), "nn": ("new/new", NEW)}


def recovery(tables: dict[str, dict[str, Estimate]], metrics: tuple[str, ...]) -> str:
    """For each population and metric the way from old/old to new/new, how far h comes on it, and all three intervals."""
    lines = [(population, name) for population in tables for name in metrics]
    figure = figures._figure(9.6, 0.6 + 0.82 * len(lines))
    axes = figure.subplots()
    figures._bare(axes, grid="x")
    shown_there = [tables[population][f"{row}_{name}"] for population, name in lines for row in ROWS]
    ends = [end for e in shown_there for end in (e.value, *e.bounds) if end is not None]
    low, high = min(ends), max(ends)
    room = max(0.02, 0.04 * (high - low))
    for y, (population, name) in enumerate(lines):
        found = {row: tables[population][f"{row}_{name}"] for row in ROWS}
        start, reached, end = (found[row].value for row in ROWS)
        axes.barh(y, end - start, left=start, height=0.74, color=GRID, linewidth=0)
        axes.barh(y, reached - start, left=start, height=0.74, color=CARRIED if reached >= start else WARM, alpha=0.25, linewidth=0)
        for place, (row, (_, colour)) in enumerate(ROWS.items()):
            e, at = found[row], y + 0.24 * (place - 1)
            if None not in e.bounds:
                axes.plot([e.lower, e.upper], [at, at], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot([e.value], [at], marker="o", markersize=7, color=colour, markeredgecolor=PAPER, markeredgewidth=1.4, clip_on=False)
        rho = tables[population].get(f"rho_{name}")
        text = "" if rho is None else f"ρ {shown(rho, 2)}" if np.isfinite(rho.value) else "ρ undefined: no gain"
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", ha="left", fontsize=9.5, color=INK)
    axes.set_yticks(range(len(lines)), [f"{POPULATIONS[population]}\n{NAMES[name]}" for population, name in lines])
    axes.tick_params(axis="y", labelcolor=INK, pad=8)
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.set_xlim(max(0.0, low - room), min(1.0, high + room))
    aloud = "; ".join(
        f"{POPULATIONS[p]}, {NAMES[m]}: " + ", ".join(f"{label} {shown(tables[p][f'{row}_{m}'])}" for row, (label, _) in ROWS.items())
        for p, m in lines
    )
    return figures._svg(figure, "trial-recovery", f"Recovery. {aloud}")


def curves(trial: Trial) -> str:
    """The backfilling curves, one panel a metric: shipped, random and oracle order. Empty without a shipped order."""
    b = trial.backfill
    if b is None:
        return ""
    figure = figures._figure(9.6, 3.1)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(trial.metrics))), trial.metrics, strict=True):
        figures._bare(axes, grid="y")
        ends = b.means(f"shipped_{name}")[[0, -1]]
        axes.axhspan(0, ends.min(), color=GRID, alpha=0.45, linewidth=0)
        axes.plot(b.beta, b.means(f"oracle_{name}"), color=NEW, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.plot(b.beta, b.means(f"random_{name}"), color=SOFT, linewidth=1.6, linestyle=(0, (4, 3)))
        axes.plot(b.beta, b.means(f"shipped_{name}"), color=CARRIED, linewidth=2.4)
        for share in SHARES:
            axes.plot([share], [b.at(f"shipped_{name}", share)], marker="o", markersize=6, color=CARRIED, markeredgecolor=PAPER)
        values = np.concatenate([b.means(f"{order}_{name}") for order in trials.ORDERS])
        room = max(0.005, 0.08 * float(values.max() - values.min()))
        axes.set_ylim(float(values.min()) - room, float(values.max()) + room)
        axes.set_xlim(-0.015, 1.015)
        axes.set_xticks([0, 0.1, 0.2, 0.5, 1.0], ["0", "0.1", "0.2", "0.5", "1"])
        axes.set_xlabel("share of the items embedded natively, β", color=SOFT, fontsize=9.5)
        axes.set_title(NAMES[name], loc="left", fontsize=10.5, color=INK, pad=8)
    start = ", ".join(f"{NAMES[m]} from {number(b.at(f'shipped_{m}', 0))} to {number(b.at(f'shipped_{m}', 1))}" for m in trial.metrics)
    return figures._svg(figure, "trial-backfill", f"Backfilling curves in the shipped order, in random ones and in the oracle's: {start}")


def admitted(spec: Path, roots: Sequence[Path] = ()) -> Walk:
    """Which images may be read: those below the folder, or below that of the list, in DVC's cache, and in further ``roots``."""
    return walk(spec.parent if spec.is_file() else spec, Path.cwd(), roots)


def pictures(spec: Path, rows: int, ids: np.ndarray | None, walked: Walk | None = None) -> list[Path | None]:
    """The image file of each row, None where it has none: a text file of one path a line, or a folder.

    In a folder an id is a path below it or a file name without its ending; without ids the files, sorted by path, belong to the rows in turn.

    Args:
        walked: of :func:`admitted`, which also looks when one of them is drawn.

    Raises:
        BadInput: as many files as rows are not there, no id has one, or a list names what may not be read.
    """
    walked = walked or admitted(spec)
    if spec.is_file():
        try:
            lines = [line.strip() for line in spec.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise BadInput("the list of images is not a text file", where=spec) from error
        if len(lines) != rows:
            raise BadInput("the list of images has the wrong number of lines", wanted=rows, got=len(lines), where=spec)
        outside = [line for line in lines if walked.problem(spec.parent / line) == OUTSIDE]
        if outside:
            raise BadInput(
                "the list of images leads to a place that is no declared root",
                wanted="paths below its own folder",
                got=outside[0],
                where=spec,
                todo="if it is meant to be read, name that place with --root",
            )
        return [spec.parent / line for line in lines]
    if not spec.is_dir():
        raise BadInput("images: there is no such folder or list", where=spec)
    files = sorted(walked.below(spec))
    if ids is None:
        if len(files) != rows:
            raise BadInput(
                "the folder of images does not match the rows",
                wanted=f"{rows} image files",
                got="; ".join([str(len(files)), *walked.left.sentences()]),
                where=spec,
                todo="give --ids, or a text file with one path a line",
            )
        return [*files]
    by_name = {path.stem: path for path in reversed(files)} | {path.relative_to(spec).as_posix(): path for path in files}
    missing = [str(name) for name in ids if str(name) not in by_name]
    if len(missing) == len(ids):
        raise BadInput(
            "no image has the name of an id",
            got=plain(missing[0], 80),
            where=spec,
            todo="ids are paths below the folder or file names without their ending",
        )
    return [by_name.get(str(name)) for name in ids]


def _cards(trial: Trial, places: np.ndarray, images: Sequence[Path | None] | None, walked: Walk | None) -> list[dict[str, Any]]:
    """Queries with their first answers under old/old and new/h(old) (without labels: new/new and new/h(old)), as the template wants them."""
    sample = trial.sample
    rows = trial.queries[places]
    if len(rows) == 0:
        return []
    if trial.labelled:
        before = page.answers(sample, sample.old, sample.old, trial.metric, rows, ANSWERS)
        after = page.answers(sample, sample.new, trial.carried, trial.metric, rows, ANSWERS)
        wanted = [np.flatnonzero(sample.labels == sample.labels[row]) for row in rows]
    else:
        near = agreement.neighbours(sample.ids, sample.sources, sample.new, sample.new, trial.metric, rows)
        found = agreement.neighbours(sample.ids, sample.sources, sample.new, trial.carried, trial.metric, rows)
        before, after = ([line[line >= 0][:ANSWERS] for line in lines] for lines in (near, found))
        wanted = list(near)

    @cache
    def picture(row: int) -> str:
        return page.thumbnail(images[trial.split.evaluation[row]], walked) if images is not None else ""

    def item(row: int, right: bool) -> dict[str, Any]:
        label = sample.labels[row] if trial.labelled else sample.ids[row]
        return {"id": plain(sample.ids[row], 200), "label": plain(label, 200), "picture": picture(row), "right": right}

    metric = trial.metrics[-1]
    return [
        {
            "query": item(int(row), True),
            "population": POPULATIONS[str(sample.populations[row])] if len(trial.populations) > 1 else "",
            "before": number(float(trial.values[f"oo_{metric}"][place])),
            "after": number(float(trial.values[f"nh_{metric}"][place])),
            "new_right": bool(trial.values["nn_top1"][place] > 0) if trial.labelled else True,
            "rows": [
                (title, [item(int(answer), bool(np.isin(answer, right))) for answer in answers])
                for title, answers in ((("old/old" if trial.labelled else "new/new"), first), ("new/h(old)", second))
            ],
        }
        for place, row, first, second, right in zip(places, rows, before, after, wanted, strict=True)
    ]


def html(trial: Trial, costs: Costs, images: Sequence[Path | None] | None = None, walked: Walk | None = None) -> str:
    """The whole page; ``images``: the file of each of the N rows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    found = words.answers(trial, costs)
    tables = {population: trials.estimates(trial, population) for population in trial.populations}
    flipped = trials.flips(trial)
    most = CARDS if images is not None else LISTED
    loader = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(
        TEMPLATE
    )
    return template.render(
        questions=words.QUESTIONS,
        answers={a.key: a for a in found},
        tones=words.TONES,
        labelled=trial.labelled,
        pictures=images is not None,
        done=words.done(trial),
        recovery=Markup(recovery(tables, trial.metrics)),  # drawn from numbers, no text of a user
        curves=Markup(curves(trial)),
        metrics=[
            {"population": POPULATIONS[p], "n": tables[p][f"nn_{m}"].n, "metric": NAMES[m]}
            | ({"rho": shown(tables[p][f"rho_{m}"], 2)} if trial.labelled else {})
            | {row: shown(tables[p][f"{row}_{m}"]) for row in ROWS}
            | ({"ph": shown(tables[p][f"ph_{m}"]), "side": trial_answers.signed(tables[p][f"side_{m}"])} if trial.plain is not None else {})
            for p in trial.populations
            for m in trial.metrics
        ],
        each=len(trial.metrics),
        has_plain=trial.plain is not None,
        counts=trial_answers.counts(trial),
        lost=_cards(trial, flipped["lost"][:most], images, walked),
        gained=_cards(trial, flipped["gained"][: most // 2], images, walked),
        backfill=[
            {"order": order, "metric": NAMES[m], "start": number(b.at(f"{order}_{m}", 0))}
            | {"at": [number(b.at(f"{order}_{m}", share)) for share in (*SHARES, 1.0)], "dip": number(b.dip(f"{order}_{m}"), 4)}
            for b in [trial.backfill]
            if b is not None
            for m in trial.metrics
            for order in trials.ORDERS
        ],
        digests=trial.given["digests"],
        seconds=trial.seconds,
    )
