"""Measure retrieval: files of vectors in, numbers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import DEFAULT, VECTORS, Json, give


def evaluate(
    query: Annotated[Path | None, typer.Option(help="Q.npy.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="G.npy.")] = None,
    query_labels: Annotated[Path | None, typer.Option(help="QL.npy.")] = None,
    gallery_labels: Annotated[Path | None, typer.Option(help="GL.npy.")] = None,
    query_ids: Annotated[Path | None, typer.Option(help="QI.npy; equal ids are self-matches and excluded.")] = None,
    gallery_ids: Annotated[Path | None, typer.Option(help="GI.npy.")] = None,
    query_sources: Annotated[Path | None, typer.Option(help="QS.npy; items of the query's own source are hidden from it.")] = None,
    gallery_sources: Annotated[Path | None, typer.Option(help="GS.npy.")] = None,
    metric: Annotated[str, typer.Option(help="cosine or l2.")] = "cosine",
    top_k: Annotated[str, typer.Option(help="Which top-k to report.")] = "1,5",
    pairs: Annotated[Path | None, typer.Option(help="Instead of query and gallery: a folder of fct embed …")] = None,
    transformed: Annotated[
        Path | None, typer.Option(help="… and its gallery carried over by h (sample first): old/old, new/h(old), new/new in one table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --pairs: folder for metrics.json, per-query values and plots.")] = None,
    params: Annotated[Path | None, typer.Option(help="With --pairs: params.yaml.")] = None,
    json: Json = False,
) -> None:
    """Measure retrieval by exact search; ties count against you.

    Example: fct evaluate --query new.npy --gallery carried.npy --query-labels l.npy --gallery-labels l.npy --json
    """
    import resource
    import time

    from fct import vectors
    from fct.errors import BadInput

    if pairs is not None:
        if transformed is None or out is None:
            raise BadInput("--pairs needs --transformed and --out")
        from fct import evaluation
        from fct.pairs import load_sample
        from registry.settings import read

        settings = read(params or DEFAULT)
        sample = load_sample(pairs / "sample")
        summary = evaluation.write(sample, vectors.load(transformed)[: len(sample.ids)], metric, out, seed=settings.evaluate.seed)
        give(
            summary,
            json,
            f"{out}: " + ", ".join(f"{name} classes ρ mAP {table['recovered']['mAP']['value']}" for name, table in summary.items()),
        )
        return
    if query is None or gallery is None or query_labels is None or gallery_labels is None:
        raise BadInput("query and gallery are incomplete", wanted="--query --gallery --query-labels --gallery-labels, or --pairs")
    from fct import metrics
    from fct.intervals import Bootstrap

    try:
        depths = [int(k) for k in top_k.split(",")]
        if min(depths) < 1:
            raise ValueError
    except ValueError as error:
        raise BadInput("--top-k cannot be read", wanted="whole numbers from 1, such as 1,5", got=top_k) from error
    started = time.perf_counter()
    optional = {"query_ids": query_ids, "gallery_ids": gallery_ids, "query_sources": query_sources, "gallery_sources": gallery_sources}
    arrays: dict[str, Any] = {name: vectors.load(path) for name, path in optional.items() if path is not None}
    labels = vectors.load(query_labels)
    q, g = vectors.load(query), vectors.load(gallery)
    found = metrics.per_query(q, g, labels, vectors.load(gallery_labels), metric=metric, **arrays)
    values = {f"top{k}": found.top(k) for k in depths} | {"mAP": found.ap}
    boot = Bootstrap(values, labels[found.rows])
    result: dict[str, Any] = {}
    for name in values:
        estimate = boot.mean(name)
        result |= {name: estimate.value, f"{name}_ci": [estimate.lower, estimate.upper]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result |= {
        "n_queries": len(found.rows),
        "n_gallery": len(g),
        "tie_rate": float(found.tied.mean()),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_bytes": peak,
    }
    give(result, json, "\n".join(f"{name:<18}{value}" for name, value in result.items()))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(rich_help_panel=VECTORS)(evaluate)
