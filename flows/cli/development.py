"""Files in, files out: the stages of dvc.yaml, usable on any files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import Json, Params, give, say

DEV = "Files in, files out (the stages of dvc.yaml)"
Out = Annotated[Path, typer.Option("--out", help="Where the result goes; whole or not at all.")]
DEFAULT = Path("params.yaml")


def _threads(settings: Any) -> None:
    from fct.device import use_threads

    use_threads(settings.threads)


def data(
    out: Out = Path("build/data"),
    params: Params = DEFAULT,
    npm_cache: Annotated[Path, typer.Option(help="Where the icon packs are kept.")] = Path("build/npm"),
) -> None:
    """Prepare the images: render the icon packs, or convert your own ImageFolder (params.yaml, data.source).

    Example: fct data --out build/data
    """
    from fct.datasets.stage import prepare
    from registry.settings import read

    settings = read(params)
    summary = prepare(settings.data, out, npm_cache)
    say(f"{summary['images']} images in {out}; look at {out / 'contact_sheet.png'}. Next: fct train v1")


def train(
    name: Annotated[str, typer.Argument(help="A key of params.yaml's block train, such as v1.")],
    data: Annotated[Path, typer.Option(help="Folder of the stage data.")] = Path("build/data"),
    out: Annotated[Path | None, typer.Option("--out", help="The release folder; by default build/releases/NAME.")] = None,
    params: Params = DEFAULT,
) -> None:
    """Train a version's embedder, prepare its side-information, write its release folder.

    Example: fct train v1 --data build/data --out build/releases/v1
    """
    from fct.errors import BadInput
    from fct.making import make_release
    from registry.settings import read

    settings = read(params)
    _threads(settings)
    if name not in settings.train:
        raise BadInput(f"params.yaml says nothing about {name}", wanted=" or ".join(settings.train), where="train")
    how = settings.train[name]
    target = out or Path("build/releases") / name
    release = make_release(
        name,
        data,
        target,
        how.embedder,
        how.side,
        size=settings.data.image_size,
        mode=settings.data.mode,
        seed=settings.seed,
        device=settings.device,
    )
    say(f"{target}: φ {release.dim}-d, ψ {release.side_bytes} bytes an item. Next: fct register {target}")


def embed(
    old: Annotated[Path, typer.Option(help="Release folder of the old version.")],
    new: Annotated[Path, typer.Option(help="Release folder of the new version.")],
    out: Out,
    data: Annotated[Path, typer.Option(help="Folder of the stage data.")] = Path("build/data"),
    params: Params = DEFAULT,
) -> None:
    """Embed fitting images, pool, evaluation sample and canaries with both releases.

    Example: fct embed --old build/releases/v1 --new build/releases/v2 --out build/embed
    """
    from fct.pairs import write_pairs
    from fct.release import open_release
    from registry.settings import read

    settings = read(params)
    _threads(settings)
    counts = write_pairs(open_release(old), open_release(new), data, out, settings.embed, seed=settings.seed, device=settings.device)
    say(", ".join(f"{count} rows of {name}" for name, count in counts.items()) + f" in {out}")


def fit(
    old: Annotated[Path, typer.Option(help="OLD.npy (rows, old dimensions).")],
    new: Annotated[Path, typer.Option(help="NEW.npy (rows, new dimensions), row by row of the same items.")],
    out: Out,
    side: Annotated[Path | None, typer.Option(help="SIDE.npy, side-information.")] = None,
    labels: Annotated[Path | None, typer.Option(help="L.npy, class numbers of the head's rows; −1 = unknown.")] = None,
    sources: Annotated[Path | None, typer.Option(help="S.npy; rows of one source are never split between fitting and validation.")] = None,
    head: Annotated[Path | None, typer.Option(help="HEAD.safetensors of the new model: weight and bias; used frozen.")] = None,
    pool_old: Annotated[Path | None, typer.Option(help="Unlabelled pairs of other classes: old.")] = None,
    pool_side: Annotated[Path | None, typer.Option(help="… side-information.")] = None,
    pool_new: Annotated[Path | None, typer.Option(help="… new.")] = None,
    method: Annotated[
        str | None, typer.Option(help="procrustes, ridge, fct or fastfill-pool; by default what params.yaml says, else fastfill-pool.")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="Take the recipe from this params.yaml, block fit.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same bytes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Fit a forward transformation h on pairs of vectors of the same items; any vectors, no image is needed.

    Example: fct fit --old old.npy --new new.npy --side side.npy --out h
    """
    from dataclasses import replace

    from fct import forward, vectors
    from fct.release import read_head

    settings = forward.FitSettings()
    if params is not None:
        from registry.settings import read

        project = read(params)
        settings = project.fit
        _threads(project)
    if method is not None:
        settings = replace(settings, method=method)
    given = {"side": side, "labels": labels, "sources": sources, "pool_old": pool_old, "pool_side": pool_side, "pool_new": pool_new}
    arrays: dict[str, Any] = {name: vectors.load(path) for name, path in given.items() if path is not None}
    h = forward.fit(
        vectors.load(old),
        vectors.load(new),
        **arrays,
        head=read_head(head) if head is not None else None,
        settings=settings,
        seed=seed,
        device=device,
    )
    h.save(out)
    result = {
        "method": h.method,
        "seconds": h.about["seconds"],
        "validation": h.about.get("validation", {}),
        "digest": h.digest,
        "out": str(out),
    }
    cosine = h.about.get("validation", {}).get("mean_cosine")
    give(
        result,
        json,
        f"{out}: {h.method}, {h.about['seconds']} s, mean cosine with native vectors on held-out sources {cosine}. Next: fct transform --forward {out} --old …",
    )


def transform(
    forward: Annotated[Path, typer.Option(help="Folder of an h, as fct fit wrote it.")],
    old: Annotated[Path, typer.Option(help="OLD.npy.")],
    out: Out,
    side: Annotated[Path | None, typer.Option(help="SIDE.npy, if h was fitted with side-information.")] = None,
    sigma: Annotated[Path | None, typer.Option(help="Also write the uncertainty of every row here; larger = less certain.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "cpu",
) -> None:
    """Carry vectors into the new space.

    Example: fct transform --forward h --old gallery.npy --side gallery_side.npy --out carried.npy
    """
    from fct import forward as forwards
    from fct import vectors

    h = forwards.load(forward)
    rows, spread = h.transform(vectors.load(old), vectors.load(side) if side is not None else None, device=device)
    vectors.save(out, rows)
    if sigma is not None:
        vectors.save(sigma, spread)
    say(f"{out}: {len(rows)} rows of {rows.shape[1]} dimensions")


def index(
    vectors: Annotated[Path, typer.Option(help="VECTORS.npy (rows, dimensions).")],
    ids: Annotated[Path, typer.Option(help="IDS.npy, one string a row.")],
    out: Out,
    metric: Annotated[str, typer.Option(help="cosine or l2.")] = "cosine",
    params: Params = DEFAULT,
) -> None:
    """Build a FAISS index of vectors.

    Example: fct index --vectors carried.npy --ids ids.npy --out index
    """
    from fct import digests
    from fct import index as indexes
    from fct import vectors as files
    from registry.settings import read

    settings = read(params).index
    names = files.load(ids)
    rows = files.check("vectors", files.load(vectors), rows=len(names))
    about = indexes.save(indexes.build(rows, metric, settings), names, out, digests.of_rows(names, vector=rows), settings, metric)
    say(f"{out}: {about['kind']} index of {about['rows']} rows")


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


def validate(
    pairs: Annotated[Path, typer.Option(help="Folder of fct embed.")],
    forward: Annotated[Path, typer.Option(help="Folder of fct fit.")],
    transformed: Annotated[Path, typer.Option(help="The gallery of fct embed carried over, GALLERY.npy of fct transform.")],
    index: Annotated[Path, typer.Option(help="Folder of fct index.")],
    evaluation: Annotated[Path, typer.Option(help="Folder of fct evaluate --pairs.")],
    new: Annotated[Path, typer.Option(help="Release folder of the new version.")],
    out: Out,
    data: Annotated[Path, typer.Option(help="Folder of the stage data.")] = Path("build/data"),
    params: Params = DEFAULT,
) -> None:
    """Judge the gates on the evaluation sample, with the sample in the gallery's place. A failed gate is a result, not an error.

    Example: see dvc.yaml, stage validate
    """
    from registry.sample import validate_sample
    from registry.settings import read

    settings = read(params)
    _threads(settings)
    verdict = validate_sample(pairs, forward, transformed, index, evaluation, new, data, out, settings)
    say(f"{out / 'verdict.json'}: {verdict['outcome']}" + "".join(f"\n  {problem}" for problem in verdict["problems"]))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (data, train, embed, fit, transform, index, evaluate, validate):
        app.command(rich_help_panel=DEV)(command)
