"""Measure retrieval: files of vectors in, numbers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import DEFAULT, VECTORS, Json, give, say
from flows.cli.inputs import SkipBad, read, warn

QueryLabels = Annotated[
    str | None, typer.Option(help="QL.npy: labels of the queries, integers or strings. A negative number or an empty string means unknown.")
]
GalleryLabels = Annotated[str | None, typer.Option(help="GL.npy: labels of the gallery.")]
QueryIds = Annotated[
    str | None,
    typer.Option(
        help="QI.npy: ids of the queries. A query never finds an item with its own id. Give ids if the same items are on both sides."
    ),
]
GalleryIds = Annotated[str | None, typer.Option(help="GI.npy: ids of the gallery.")]
QuerySources = Annotated[str | None, typer.Option(help="QS.npy: sources of the queries. A query never finds an item of its own source.")]
GallerySources = Annotated[str | None, typer.Option(help="GS.npy: sources of the gallery.")]
Metric = Annotated[str, typer.Option(help="Distance metric: cosine or l2.")]
MaxQueries = Annotated[int | None, typer.Option(help="Use at most this many queries, drawn at random.")]
Seed = Annotated[int, typer.Option(help="Seed of the drawn queries, the random orders and the intervals.")]


def evaluate(
    query: Annotated[
        str | None,
        typer.Option(help="Q.npy: vectors of the queries. Every input can also be table.parquet::column or table.lance::column."),
    ] = None,
    gallery: Annotated[str | None, typer.Option(help="G.npy: vectors of the gallery. The file may be larger than memory.")] = None,
    query_labels: QueryLabels = None,
    gallery_labels: GalleryLabels = None,
    query_ids: QueryIds = None,
    gallery_ids: GalleryIds = None,
    query_sources: QuerySources = None,
    gallery_sources: GallerySources = None,
    metric: Metric = "cosine",
    top_k: Annotated[str, typer.Option(help="Values of k for top-k accuracy, separated by commas.")] = "1,5",
    max_queries: MaxQueries = None,
    skip_bad: SkipBad = False,
    seed: Seed = 0,
    pairs: Annotated[Path | None, typer.Option(help="Folder that `fct embed` wrote. It replaces --query and --gallery.")] = None,
    transformed: Annotated[
        Path | None,
        typer.Option(
            help="With --pairs: that folder's gallery, carried over by h, the sample first. The table compares old/old, new/h(old) and new/new."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --pairs: folder for metrics.json, the values of each query and the plots.")] = None,
    params: Annotated[Path | None, typer.Option(help="With --pairs: path of params.yaml.")] = None,
    json: Json = False,
) -> None:
    """Measure retrieval by exact search. Ties count as errors.

    Example: fct evaluate --query new.npy --gallery carried.npy --query-labels l.npy --gallery-labels l.npy --query-ids i.npy --gallery-ids i.npy
    """
    if pairs is not None:
        _pairs(pairs, transformed, metric, out, params, json)
        return
    from fct.errors import BadInput
    from fct.search import retrieval

    depths = _depths(top_k)
    sides = {"query_ids": query_ids, "gallery_ids": gallery_ids, "query_sources": query_sources, "gallery_sources": gallery_sources}
    needed = {"query": query, "gallery": gallery, "query_labels": query_labels, "gallery_labels": gallery_labels}
    if None in needed.values():
        raise BadInput(f"{_option(needed)} is missing", wanted="--query --gallery --query-labels --gallery-labels, or --pairs")
    arrays, left = _read(needed | sides, skip_bad)
    measured = retrieval.evaluate(**arrays, metric=metric, top_k=depths, max_queries=max_queries, seed=seed, title="evaluate")
    result = measured.to_dict()
    result |= {"left_out": left} if skip_bad else {}
    warn(result["warnings"])
    _say_drawn(result)
    alone = result.get("max_queries", len(arrays["query"])) - result["n_queries"]
    if alone:
        say(f"not counted: {alone} of the queries, because they can find no item of their class in the gallery")
    if result["classes_of_one"]:
        say(f"classes with one item in the gallery: {result['classes_of_one']}")
    give(result, json, *str(measured).split("\n"))


def curve(
    query: Annotated[
        str | None,
        typer.Option(
            help="Q_NEW.npy: queries embedded by the new model. Every input can also be table.parquet::column or table.lance::column."
        ),
    ] = None,
    transformed: Annotated[str | None, typer.Option(help="T.npy: the gallery, carried over by h.")] = None,
    native: Annotated[str | None, typer.Option(help="N.npy: the same rows, embedded by the new model.")] = None,
    sigma: Annotated[
        str | None, typer.Option(help="SIGMA.npy: uncertainty of every gallery row. The row with the largest value is backfilled first.")
    ] = None,
    query_labels: QueryLabels = None,
    gallery_labels: GalleryLabels = None,
    query_ids: QueryIds = None,
    gallery_ids: GalleryIds = None,
    query_sources: QuerySources = None,
    gallery_sources: GallerySources = None,
    metric: Metric = "cosine",
    steps: Annotated[int, typer.Option(help="Number of shares β to measure, equally spaced from 0 to 1.")] = 11,
    random: Annotated[int, typer.Option(help="Number of random orders to compare with.")] = 5,
    max_queries: MaxQueries = None,
    skip_bad: SkipBad = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure what a partial backfill adds. Row by row, native vectors replace the transformed ones, starting with the most uncertain row.

    Example: fct curve --query new.npy --transformed carried.npy --native new.npy --sigma sigma.npy --query-labels l.npy --gallery-labels l.npy
    """
    import time

    import numpy as np

    from fct.arrays import given as seeds
    from fct.errors import BadInput
    from fct.search import order, retrieval

    started = time.perf_counter()
    needed = {"query": query, "transformed": transformed, "native": native, "query_labels": query_labels, "gallery_labels": gallery_labels}
    if None in needed.values() or sigma is None:
        wanted = "--query --transformed --native --sigma --query-labels --gallery-labels"
        raise BadInput(f"{_option(needed | {'sigma': sigma})} is missing", wanted=wanted)
    seeds.seed(seed)
    if random < 1:
        raise BadInput("--random must be at least 1", got=random)
    sides = {"query_ids": query_ids, "gallery_ids": gallery_ids, "query_sources": query_sources, "gallery_sources": gallery_sources}
    arrays, left = _read(needed | sides | {"sigma": sigma}, skip_bad)
    spread = arrays.pop("sigma")
    given, chosen = len(arrays["query"]), retrieval.sample(len(arrays["query"]), max_queries, seed)
    if chosen is not None:
        for name in [name for name in arrays if name.startswith("query")]:
            if len(arrays[name]) != given:
                raise BadInput(f"{name} and the queries differ in length", wanted=given, got=len(arrays[name]))
            arrays[name] = arrays[name][chosen]
    retrieval.differ(arrays["query_labels"], arrays["gallery_labels"])
    warn(retrieval.odd(**{("gallery" if name == "native" else name): array for name, array in arrays.items() if name != "transformed"})[1])
    shipped = order.by_uncertainty(spread)
    if not np.isfinite(spread).all():
        raise BadInput("sigma contains NaN or infinity", where=f"row {int(np.argmin(np.isfinite(spread)))}")
    rows = len(arrays["native"])
    if len(shipped) != rows:
        raise BadInput("sigma has the wrong number of rows", wanted=rows, got=len(shipped), todo="rows must correspond one to one")
    first, *others = order.curves(
        **arrays, orders=[shipped, *order.random_orders(rows, random, seed)], steps=steps, metric=metric, title="curve"
    )
    result = order.against_random(first, others, arrays["query_labels"][first.rows], seed=seed)
    result |= {"n_queries": len(first.rows), "n_gallery": rows, "seconds": round(time.perf_counter() - started, 3)}
    result |= {"left_out": left} if skip_bad else {}
    result |= {} if chosen is None else {"max_queries": max_queries, "n_queries_given": given}
    _say_drawn(result)
    give(result, json, *_table(result))


def _option(values: dict[str, str | None]) -> str:
    """The first of ``values`` that is not given, as it is typed."""
    return "--" + next(name for name, value in values.items() if value is None).replace("_", "-")


def _read(specs: dict[str, str | None], skip_bad: bool) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The columns of those that are given, queries and gallery each together; and the rows that were left out."""
    arrays, left = read({name: spec for name, spec in specs.items() if name.startswith("query")}, skip_bad, between=" ")
    more, further = read({name: spec for name, spec in specs.items() if not name.startswith("query")}, skip_bad, between=" ")
    return arrays | more, left + further


def _depths(top_k: str) -> list[int]:
    from fct.errors import BadInput

    try:
        depths = list(dict.fromkeys(int(k) for k in top_k.split(",")))
        if min(depths) < 1:
            raise ValueError
    except ValueError as error:
        raise BadInput("--top-k cannot be read", wanted="whole numbers from 1, such as 1,5", got=top_k) from error
    return depths


def _say_drawn(result: dict[str, Any]) -> None:
    if "max_queries" in result:
        say(f"measured on {result['max_queries']} of {result['n_queries_given']} queries, drawn at random (--max-queries)")


def _table(result: dict[str, Any]) -> list[str]:
    """A row a share β, then what the order is worth."""
    from fct.search.intervals import said

    rows, other = [f"{'β':>6}{'top-1':>9}{'mAP':>9}{'random top-1':>15}{'random mAP':>12}"], result["random"]
    columns = zip(result["beta"], result["top1"], result["mAP"], other["top1"], other["mAP"], strict=True)
    rows += [f"{beta:6.2f}{top1:9.4f}{mean:9.4f}{of_top1:15.4f}{of_mean:12.4f}" for beta, top1, mean, of_top1, of_mean in columns]
    rows.append(f"{'AUC':>6}{result['auc_top1']:9.4f}{result['auc_mAP']:9.4f}{other['auc_top1']:15.4f}{other['auc_mAP']:12.4f}")
    for name, label in (("top1", "top-1"), ("mAP", "mAP")):
        span = said(result[f"auc_{name}_gain_ci"], "+.4f")
        rows.append(f"{label}: AUC over random {result[f'auc_{name}_gain']:+.4f} ({span}), dip {result[f'dip_{name}']:+.4f}")
    rows.append(
        f"{result['n_queries']} queries, {result['n_gallery']} gallery rows, {other['orders']} random orders, {result['seconds']:.1f} s"
    )
    return rows


def _pairs(pairs: Path, transformed: Path | None, metric: str, out: Path | None, params: Path | None, json: bool) -> None:
    from fct.arrays import vectors
    from fct.errors import BadInput
    from fct.sample import evaluation
    from fct.sample.folder import PairsFolder
    from registry.params import read

    if transformed is None or out is None:
        raise BadInput("--pairs needs --transformed and --out")
    settings = read(params or DEFAULT)
    sample = PairsFolder(pairs).sample()
    summary = evaluation.write(sample, vectors.load(transformed)[: len(sample.ids)], metric, out, seed=settings.evaluate.seed)
    text = ", ".join(f"{name} classes ρ mAP {table['recovered']['mAP']['value']}" for name, table in summary.items())
    give(summary, json, f"{out}: {text}")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (evaluate, curve):
        app.command(rich_help_panel=VECTORS)(command)
