"""Fit and apply a forward transformation: files of vectors in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import VECTORS, Json, Out, give, say, set_threads
from flows.cli.inputs import SkipBad, read, warn


def fit(
    old: Annotated[str, typer.Option(help="OLD.npy (rows, old dimensions); or table.parquet::column, table.lance::column, as all inputs.")],
    new: Annotated[str, typer.Option(help="NEW.npy (rows, new dimensions), row by row of the same items.")],
    out: Out,
    side: Annotated[str | None, typer.Option(help="SIDE.npy, side-information.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="L.npy, integers or strings (with --head: its row numbers); −1 or '' = unknown.")
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="S.npy; rows of one source, and copies, are never split between fitting and validation.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="HEAD.safetensors of the new model: weight and bias; used frozen.")] = None,
    pool_old: Annotated[str | None, typer.Option(help="Unlabelled pairs of other classes: old.")] = None,
    pool_side: Annotated[str | None, typer.Option(help="… side-information.")] = None,
    pool_new: Annotated[str | None, typer.Option(help="… new.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="auto, none, mean-shift, procrustes, ridge, low-rank, fct, fastfill, contrastive, mixed or fastfill-pool; by default what "
            "params.yaml says, else auto: the simplest that is not beaten on held-out rows."
        ),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(help="Take recipe, seed and device from this params.yaml: fit, seed, device. What is typed counts more.")
    ] = None,
    skip_bad: SkipBad = False,
    seed: Annotated[int | None, typer.Option(help="Same seed, same machine: same bytes; by default 0.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1; by default auto.")] = None,
    json: Json = False,
) -> None:
    """Fit a forward transformation h on pairs of vectors of the same items; any vectors, no image is needed.

    Example: fct fit --old old.npy --new new.npy --side side.npy --out h
    """
    from fct import forward
    from fct import given as places
    from fct.forward.storage import FILES
    from fct.release import read_head

    places.place(out, holds=FILES)  # before a fit of minutes, not after it

    settings = None
    if params is not None:
        from registry.settings import read as read_settings

        project = read_settings(params)
        settings = project.fit
        seed, device = (project.seed if seed is None else seed), device or project.device
        set_threads(project)
    arrays, left = read({"old": old, "new": new, "side": side, "labels": labels, "sources": sources}, skip_bad)
    pool, further = read({"pool_old": pool_old, "pool_side": pool_side, "pool_new": pool_new}, skip_bad, between="-")
    h = forward.fit(
        **arrays,
        **pool,
        head=read_head(head) if head is not None else None,
        method=method,
        settings=settings,
        seed=seed or 0,
        device=device or "auto",
    )
    h.save(out)
    about = h.about
    warn(about["warnings"])
    result = {
        "method": h.method,
        "seconds": about["seconds"],
        "validation": about["validation"],
        "inputs_missing": about["inputs_missing"],
        "warnings": about["warnings"],
        "digest": h.digest,
        "out": str(out),
    }
    give(result | ({"left_out": left + further} if skip_bad else {}), json, _summary(result))


def _summary(result: dict[str, Any]) -> str:
    """The table of candidates, the reason, what is missing, and the next command."""
    validation = result["validation"]
    lines = [f"{result['out']}: {result['method']}, {result['seconds']} s. {validation['reason']}"]
    for row in validation["candidates"]:
        numbers = [f"{name} {row[name]:.3f}" for name in ("top1", "mAP", "MRR", "cosine") if name in row]
        mark = "→" if row["method"] == result["method"] else " "
        lines.append(f"{mark} {row['method']:14} {'  '.join(numbers)}  {row['seconds']:.1f} s")
    return "\n".join([*lines, *result["inputs_missing"], f"Next: fct transform --forward {result['out']} --old …"])


def transform(
    forward: Annotated[Path, typer.Option(help="Folder of an h, as fct fit wrote it.")],
    old: Annotated[str, typer.Option(help="OLD.npy, or table.parquet::column, table.lance::column.")],
    out: Out,
    side: Annotated[str | None, typer.Option(help="SIDE.npy, if h was fitted with side-information.")] = None,
    sigma: Annotated[Path | None, typer.Option(help="Also write the uncertainty of every row here; larger = backfill first.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "cpu",
) -> None:
    """Carry vectors into the new space, block by block: inputs and output may be larger than memory.

    Example: fct transform --forward h --old gallery.npy --side gallery_side.npy --out carried.npy
    """
    from fct import columns, looks, vectors
    from fct import forward as forwards
    from fct.errors import BadInput, NotPermitted

    try:
        h = forwards.load(forward)
    except NotPermitted as error:  # a file given here is input; where h belongs to a release it stays a matter of permission
        parts = {name: part for name, part in error.to_json().items() if name in ("wanted", "got", "where", "todo", "code")}
        raise BadInput(error.message, **parts) from error
    first, second = columns.read(old, "old"), columns.read(side, "side") if side is not None else None
    warn(looks.look("old", vectors.formed("old", first)))
    rows = forwards.transform_to(h, first, second, out, sigma, device=device)
    say(f"{out}: {rows} rows of {h.new_dim} dimensions")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (fit, transform):
        app.command(rich_help_panel=VECTORS)(command)
