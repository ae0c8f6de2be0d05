"""Fit and apply a forward transformation: files of vectors in, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fct.forward.methods import KNOWN
from flows.cli.common import VECTORS, Json, Out, give, say, set_threads
from flows.cli.inputs import SkipBad, read, warn


def fit(
    old: Annotated[
        str, typer.Option(help="OLD.npy: vectors of the old model. Every input can also be table.parquet::column or table.lance::column.")
    ],
    new: Annotated[str, typer.Option(help="NEW.npy: vectors of the new model. Its rows are the same items in the same order.")],
    out: Out,
    side: Annotated[str | None, typer.Option(help="SIDE.npy: side-information of the same items.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="L.npy: labels, integers or strings. With --head they are row numbers of the head. −1 or '' means unknown."),
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="S.npy: sources. Rows of one source, and copies, are never split between fitting and validation.")
    ] = None,
    head: Annotated[
        Path | None, typer.Option(help="HEAD.safetensors: weight and bias of the new model's classifier. They stay fixed.")
    ] = None,
    pool_old: Annotated[str | None, typer.Option(help="Old vectors of the pool: unlabelled pairs of other classes.")] = None,
    pool_side: Annotated[str | None, typer.Option(help="Side-information of the pool.")] = None,
    pool_new: Annotated[str | None, typer.Option(help="New vectors of the pool.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="auto takes the simplest method that no other beats on held-out rows. The methods, simplest first. "
            + " ".join(f"{one.name}: {one.help}" for one in KNOWN.values())
            + " The default is the method in --params, or auto without --params."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="What the gallery is to hold. carried: h(old, side) alone. joined: the best of old vectors, carried vectors and side-information, "
            "searched at once. auto: carried if it is shown to be better than the old vectors, else joined, else the old vectors as they are."
        ),
    ] = "carried",
    metric: Annotated[str, typer.Option(help="With --mode joined or auto: cosine or l2, the metric of the search.")] = "cosine",
    params: Annotated[
        Path | None, typer.Option(help="Take fit, seed and device from this params.yaml. An option on the command line takes precedence.")
    ] = None,
    skip_bad: SkipBad = False,
    seed: Annotated[
        int | None, typer.Option(help="Random seed. The same seed gives the same bytes on the same machine. The default is 0.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1. The default is auto.")] = None,
    json: Json = False,
) -> None:
    """Fit a forward transformation h on pairs: an old and a new vector of each item. It needs no images.

    Example: fct fit --old old.npy --new new.npy --side side.npy --out h
    """
    from fct import forward
    from fct.arrays import given as places
    from fct.forward.manifest import FILES
    from fct.release.folder import read_head

    places.place(out, holds=FILES)  # before a fit of minutes, not after it

    settings = None
    if params is not None:
        from registry.params import read as read_settings

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
        mode=mode,
        metric=metric,
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
    if mode != "carried":
        result |= {
            "gallery": {"parts": ["carried"], "weights": [1.0]} if h.joined is None else h.joined.to_json(),
            "joining": about["joining"],
        }
    give(result | ({"left_out": left + further} if skip_bad else {}), json, *_summary(result))


def _summary(result: dict[str, Any]) -> list[str]:
    """The table of candidates, the reason, what is missing, and the next command."""
    validation = result["validation"]
    lines = [f"{result['out']}: {result['method']}, {result['seconds']} s. {validation['reason']}"]
    for row in validation["candidates"]:
        numbers = [f"{name} {row[name]:.3f}" for name in ("top1", "mAP", "MRR", "cosine") if name in row]
        mark = "→" if row["method"] == result["method"] else " "
        lines.append(f"{mark} {row['method']:14} {'  '.join(numbers)}  {row['seconds']:.1f} s")
    lines += result["inputs_missing"] + _joining(result)
    return [*lines, f"Next: fct transform --forward {result['out']} --old …" + ("" if _alone(result) else ", then fct queries")]


def _alone(result: dict[str, Any]) -> bool:
    """Whether new vectors are asked of the gallery as they are."""
    return bool(result.get("gallery", {}).get("parts", ["carried"]) == ["carried"])


def _joining(result: dict[str, Any]) -> list[str]:
    """What the gallery holds, and what was measured of other parts."""
    from fct.forward.joined import Joined

    if "joining" not in result:
        return []
    lines = [f"The gallery holds {' + '.join(result['gallery']['parts'])}. {result['joining']['reason']}"]
    for row in result["joining"]["candidates"]:
        mark = "→" if row["parts"] == result["gallery"]["parts"] else " "
        mixture = str(Joined(tuple(row["parts"]), tuple(row["weights"])))
        lines.append(f"{mark} {mixture:40} " + "  ".join(f"{name} {row[name]:.3f}" for name in ("top1", "mAP", "agreement") if name in row))
    return lines


def queries(
    forward: Annotated[Path, typer.Option(help="Folder that `fct fit` wrote.")],
    new: Annotated[str, typer.Option(help="Q_NEW.npy: queries embedded by the new model.")],
    out: Out,
    old: Annotated[
        str | None, typer.Option(help="Q_OLD.npy: the same queries embedded by the old model, if old vectors are a part.")
    ] = None,
    side: Annotated[str | None, typer.Option(help="Q_SIDE.npy: side-information of the same queries, if it is a part.")] = None,
) -> None:
    """Write what is asked of a gallery that `fct transform` wrote: the new vectors themselves, or the queries in all of its parts.

    Example: fct queries --forward h --new q_new.npy --old q_old.npy --side q_side.npy --out q.npy
    """
    from fct.arrays import given as places
    from fct.arrays import vectors

    places.place(out)
    h = _load(forward)
    arrays, _ = read({"new": new, "old": old, "side": side}, False)
    rows = h.queries(**arrays)
    vectors.save(out, rows)
    say(f"{out}: {len(rows)} rows of {rows.shape[1]} dimensions")


def _load(folder: Path) -> Any:
    """The h of a folder that is given; where it was altered, that is bad input: only of a release it is a matter of permission."""
    from fct import forward as forwards
    from fct.errors import BadInput, NotPermitted

    try:
        return forwards.load(folder)
    except NotPermitted as error:
        parts = {name: part for name, part in error.to_json().items() if name in ("wanted", "got", "where", "todo", "code")}
        raise BadInput(error.message, **parts) from error


def transform(
    forward: Annotated[Path, typer.Option(help="Folder that `fct fit` wrote.")],
    old: Annotated[str, typer.Option(help="OLD.npy: vectors to carry over. It can also be table.parquet::column or table.lance::column.")],
    out: Out,
    side: Annotated[str | None, typer.Option(help="SIDE.npy: side-information of the same rows, if h was fitted with it.")] = None,
    sigma: Annotated[
        Path | None,
        typer.Option(help="Also write the uncertainty of every row to this file. Rows with larger values should be backfilled first."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
) -> None:
    """Carry vectors into the new space; of a joined gallery, write all its parts. It works block by block, so inputs and output may be larger than memory.

    Example: fct transform --forward h --old gallery.npy --side gallery_side.npy --out carried.npy
    """
    from fct import forward as forwards
    from fct.arrays import columns, looks, vectors

    h = _load(forward)
    first, second = columns.read(old, "old"), columns.read(side, "side") if side is not None else None
    warn(looks.look("old", vectors.formed("old", first)))
    rows = forwards.transform_to(h, first, second, out, sigma, device=device)
    holds = "" if h.joined is None else f" ({h.joined})"
    say(f"{out}: {rows} rows of {vectors.load(out).shape[1]} dimensions{holds}")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (fit, transform, queries):
        app.command(rich_help_panel=VECTORS)(command)
