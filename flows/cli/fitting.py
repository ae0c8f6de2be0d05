"""Fit and apply a forward transformation: files of vectors in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.common import VECTORS, Json, Out, give, say, set_threads


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
        set_threads(project)
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


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (fit, transform):
        app.command(rich_help_panel=VECTORS)(command)
