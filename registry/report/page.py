"""The report: one HTML file that needs nothing else — no scripts, no addresses, readable in ten years, in light, dark and on paper.

Legend: N rows of the evaluation sample, R queries that count, G gallery rows, K answers shown.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fct.arrays import vectors
from fct.sample.folder import Sample
from fct.search import metrics
from registry.report import figures
from registry.report.description import consequence, decisions
from registry.report.picture import open_image
from registry.report.review import (
    HEADLINES,
    ICONS,
    NAMES,
    POPULATIONS,
    Review,
    copied,
    cost_rows,
    curve_rows,
    curves,
    duties,
    gains,
    gate_rows,
    metric_rows,
    number,
    per_class,
    plain,
)

if TYPE_CHECKING:
    from fct.datasets.walk import Walk

FLIPS = 8
ANSWERS = 5
LEAST_CERTAIN = 10
THUMBNAIL = 64  # pixels
TEMPLATE = "page.html.j2"


def answers(sample: Sample, query: np.ndarray, gallery: np.ndarray, metric: str, rows: np.ndarray, most: int = ANSWERS) -> list[np.ndarray]:
    """For each query row of the sample, the rows of its nearest items, best first, as the metrics see them.

    The query itself and its source are hidden; of tied items wrong ones come first.

    Args:
        query, gallery: (N, D) the sample in one space. rows: (R,) the query rows.
    """
    prepare = vectors.normalise if metric == "cosine" else (lambda a: np.asarray(a, dtype=np.float32))
    found = metrics.scores(torch.from_numpy(prepare(query[rows])), torch.from_numpy(prepare(gallery)), metric).numpy()
    nearest = []
    for row, score in zip(rows, found, strict=True):
        hidden = (sample.ids == sample.ids[row]) | ((sample.sources == sample.sources[row]) & (sample.sources[row] != ""))
        visible = np.flatnonzero(~hidden)
        order = np.lexsort((sample.labels[visible] == sample.labels[row], -score[visible]))
        nearest.append(visible[order[:most]])
    return nearest


def flips(review: Review) -> dict[str, Any]:
    """Queries right under old/old and wrong under new/h(old), the most harmed first, and how many there are.

    Returns:
        ``lost``, ``gained``, ``lost_by_new`` (wrong under new/new as well), ``queries``: counts; ``shown``: at most :data:`FLIPS`
        of them with row, mAP before and after, whether new/new finds it, and the rows of the answers before and after.
    """
    if review.values is None:
        return {}
    v = review.values
    before, after = v["oo_top1"] > 0, v["nh_top1"] > 0
    lost = np.flatnonzero(before & ~after)
    counts = {
        "lost": len(lost),
        "gained": int((after & ~before).sum()),
        "lost_by_new": int((v["nn_top1"][lost] == 0).sum()),
        "queries": len(before),
    }
    shown: list[dict[str, Any]] = []
    if review.sample is not None and review.carried is not None and len(lost):
        worst = lost[np.argsort(v["nh_mAP"][lost] - v["oo_mAP"][lost], kind="stable")][:FLIPS]
        rows = v["rows"][worst]
        sides = {"old": review.served or (review.sample.old, review.sample.old), "new": (review.sample.new, review.carried)}
        found = {side: answers(review.sample, query, gallery, review.metric, rows) for side, (query, gallery) in sides.items()}
        # these queries were right: first answers that are not come from other vectors than those measured, and are not shown
        if any(review.sample.labels[nearest[0]] != review.sample.labels[row] for nearest, row in zip(found["old"], rows, strict=True)):
            found["old"] = [np.empty(0, dtype=np.int64) for _ in rows]
        for place, (query_row, row) in enumerate(zip(worst, rows, strict=True)):
            shown.append(
                {
                    "row": int(row),
                    "before": float(v["oo_mAP"][query_row]),
                    "after": float(v["nh_mAP"][query_row]),
                    "new_right": bool(v["nn_top1"][query_row] > 0),
                }
                | {side: found[side][place] for side in sides}
            )
    return counts | {"shown": shown}


def thumbnail(path: Path | None, walked: Walk | None = None) -> str:
    """A small copy as a ``data:`` address (PNG if grey, else JPEG); empty where there is no readable image, or ``walked`` does not admit it."""
    image = open_image(path, THUMBNAIL, walked=walked) if path is not None else None
    if image is None:
        return ""
    kind, options = ("png", {"optimize": True}) if image.mode == "L" else ("jpeg", {"quality": 85})
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)  # type: ignore[arg-type]
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _cards(review: Review, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flips as the template wants them: every item with id, label, picture and whether it is right."""
    sample = review.sample
    assert sample is not None  # nothing is shown without a sample

    @cache
    def picture(item: str) -> str:
        return thumbnail(review.image_of(item))

    def item(row: int, label: str) -> dict[str, Any]:
        name = str(sample.ids[row])
        return {
            "id": plain(name, 200),
            "label": plain(sample.labels[row], 200),
            "picture": picture(name),
            "right": str(sample.labels[row]) == label,
        }

    cards = []
    for flip in shown:
        label = str(sample.labels[flip["row"]])
        population = str(sample.populations[flip["row"]])
        cards.append(
            {
                "query": item(flip["row"], label),
                "population": POPULATIONS.get(population, population),
                "before": number(flip["before"]),
                "after": number(flip["after"]),
                "new_right": flip["new_right"],
                "rows": [
                    ("old/old", [item(int(row), label) for row in flip["old"]]),
                    ("new/h(old)", [item(int(row), label) for row in flip["new"]]),
                ],
            }
        )
    return cards


def least_certain(review: Review) -> list[tuple[str, str, bool]]:
    """(id, σ, beyond coverage) of the gallery rows with the largest predicted σ; rows without one are not ranked."""
    if review.sigma is None:
        return []
    known = np.flatnonzero(np.isfinite(review.sigma))
    order = known[np.argsort(-review.sigma[known], kind="stable")][:LEAST_CERTAIN]
    return [
        (
            plain(review.gallery_ids[row], 200) if review.gallery_ids is not None else f"row {row}",
            number(float(review.sigma[row])),
            bool(review.far[row]) if review.far is not None else False,
        )
        for row in order
    ]


def _gallery(review: Review) -> dict[str, Any]:
    """Uncertainty and coverage of the gallery in texts and one chart."""
    out: dict[str, Any] = {"chart": "", "least": least_certain(review), "with_sigma": 0, "rows": 0, "far": None}
    if review.sigma is not None:
        out |= {
            "rows": len(review.sigma),
            "with_sigma": int(np.isfinite(review.sigma).sum()),
            "chart": figures.uncertainty(review.sigma, review.far),
        }
    if review.far is not None:
        out |= {
            "rows": len(review.far),
            "far": int(review.far.sum()),
            "far_share": number(float(review.far.mean())) if len(review.far) else "—",
        }
    return out


def _covers(review: Review) -> list[tuple[str, list[str]]]:
    def lines(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [
                f"{plain(key, 100)}: {plain(part if isinstance(part, str) else json.dumps(part, ensure_ascii=False), 200)}"
                for key, part in value.items()
            ]
        if isinstance(value, list | tuple):
            return [plain(part, 200) for part in value]
        return [plain(value, 200)]

    return [(plain(name, 100), lines(value)) for name, value in review.verdict["covers"].items()]


def _context(review: Review) -> dict[str, Any]:
    from markupsafe import Markup

    def chart(svg: str) -> str:
        return Markup(svg)  # made by figures.py, which takes no text of a user

    classes = per_class(review)
    found = flips(review)
    gallery = _gallery(review)
    backfill = curves(review)
    outcome = review.outcome if review.outcome in HEADLINES else "inconclusive"
    return {
        "name": review.name,
        "outcome": outcome,
        "icon": ICONS[outcome],
        "headline": HEADLINES[outcome],
        "origin": "a first release" if review.first else f"upgrade from version {plain(review.verdict['from'], 20)}",
        "first": review.first,
        "digest": plain(review.verdict["digest"], 64),
        "problems": [plain(text, 600) for text in review.verdict["problems"]],
        "gains": [*gains(review), *copied(review), *duties(review)],
        "shown_h": plain(next(iter(review.metrics), ""), 20),  # the per-query values are those of the oldest native version
        "metrics": metric_rows(review),
        "first_metric": next(iter(NAMES.values())),
        "metrics_each": len(NAMES),
        "recovery": [(plain(h, 20), chart(figures.recovery(tables))) for h, tables in review.metrics.items()],
        "gates": gate_rows(review),
        "scatter": chart(figures.classes(classes)) if classes else "",
        "classes": len(classes),
        "losers": [
            row | {"label": plain(row["label"], 200), "oo": number(row["oo"]), "nh": number(row["nh"])}
            for row in classes[: figures.NUMBERED]
            if row["nh"] < row["oo"]
        ],
        "losing": sum(row["nh"] < row["oo"] for row in classes),
        "backfilling": chart(figures.backfilling(backfill)),
        "curve_rows": curve_rows(backfill),
        "flips": found,
        "share": number(found["lost"] / found["queries"]) if found else "",
        "cards": _cards(review, found["shown"]) if found.get("shown") else [],
        "gallery": gallery | {"chart": chart(gallery["chart"])},
        "coverage": [row for row in gate_rows(review) if row["gate"] == "coverage"],
        "costs": cost_rows(review),
        "covers": _covers(review),
        "consequence": consequence(review),
        "decisions": decisions(review),
        "provenance": [(plain(name, 100), plain(text, 1000)) for name, text in review.provenance.items()],
    }


def _environment() -> Callable[..., str]:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    return (
        Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        .get_template(TEMPLATE)
        .render
    )


def html(review: Review) -> str:
    """The whole report; the same review gives the same bytes."""
    return _environment()(**_context(review))
