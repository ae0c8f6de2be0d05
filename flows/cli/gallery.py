"""The gallery lives on: items arrive, are deleted, are embedded again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fct.errors import BadInput
from flows.cli.common import DEFAULT, ME, By, DryRun, Json, Params, Root, Why, give, opened, say, workspace
from flows.cli.inputs import SkipBad, listing
from flows.cli.upkeep import export, gc, repair

GALLERY = "The gallery"


def ingest(
    place: Annotated[
        Path,
        typer.Argument(help="A tree of folders with images, a folder with a manifest, or a .parquet file with id and image_uri or image."),
    ],
    version: Annotated[
        int | None, typer.Option(help="Release that embeds the images. The default is the release that serves.", min=1)
    ] = None,
    root: Root = None,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Embed images and store their features φ and side-information ψ in the gallery.

    If the command was interrupted, run it again: it finishes the work. A further run changes nothing. The command skips and lists images that
    cannot be read, and ids that exist with other content.

    Example: fct ingest build/data
    """
    from registry.items.ingest import ingest as run

    result = run(opened(params), place, version=version, roots=root or (), by=by, why=why, dry_run=dry_run)
    done = ("would be added", "are there") if dry_run else ("added", "were there")
    give(result, json, f"{result['added']} items {done[0]}, {result['unchanged']} {done[1]}, embedded by version {result['version']}")
    for reason, paths in result["left"].items():
        listing("files are left out", [(path, reason) for path in paths])
    listing("images cannot be read", result["broken"])
    listing("images are there with another content", result["conflicts"])
    listing("images have the same bytes as another", result["duplicates"])
    if result["entry"] is not None:
        say(f"ledger entry {result['entry']}: " + ("they are searchable now" if result["serves"] else "searchable once a release serves"))
    say("Next: fct status")


def adopt(
    vectors: Annotated[
        Path,
        typer.Argument(
            help="An (N, D) .npy file, or a .parquet file with a column vector. Columns id, label, source, image_uri and side are optional."
        ),
    ],
    as_version: Annotated[str, typer.Option("--as", help="Version that the vectors become, v1 for the first.")],
    ids: Annotated[
        Path | None, typer.Option(help="For .npy: ids, as a text file with one a line or as .npy. The default is the row number.")
    ] = None,
    side: Annotated[
        Path | None, typer.Option(help="For .npy: side-information, an (N, P) .npy file of whole numbers from −128 to 127.")
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="OLD.npy NEW.npy: vectors of the same items by the old and the new embedder. An upgrade fits and measures h on them."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the pairs, as a text file with one a line or as .npy. Empty means unknown.")
    ] = None,
    pairs_side: Annotated[Path | None, typer.Option(help="Side-information of the pairs, a (G, P) .npy file.")] = None,
    pairs_sources: Annotated[
        Path | None,
        typer.Option(
            help="Sources of the pairs, as a text file with one a line or as .npy. Rows of one source stay together. Empty means none."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="Distance metric: cosine or l2.")] = "cosine",
    normalised: Annotated[bool, typer.Option("--normalised", help="Declare that every vector has norm 1. The command checks it.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed-ok", help="Accept vectors that seem to come from two embedders.")] = False,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Start with a gallery that another system computed. Its vectors become version 1, and nothing is embedded again.

    You do not need the old embedder. A later upgrade learns from pairs: labelled items that both embedders have embedded and that are not in
    the gallery. Without pairs the tool cannot promise an upgrade. If you run the command again, it adds the new rows.

    Example: fct adopt gallery.parquet --as v1 --pairs old.npy new.npy --labels labels.txt
    """
    from fct.sample import delivered
    from registry.items.adoption import adopt as run
    from registry.items.arrivals import declared

    number = as_version.removeprefix("v")
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise BadInput("--as does not name a version", wanted="v1", got=as_version)
    if (pairs is None) != (labels is None):
        raise BadInput("--pairs and --labels belong together", wanted="--pairs OLD.npy NEW.npy --labels LABELS", todo="give both")
    ws = workspace(params) if dry_run else opened(params)
    rows = delivered.read_rows(vectors, ids=ids, side=side, skip_bad=skip_bad)
    given = (
        None
        if pairs is None or labels is None
        else delivered.read_given(*pairs, labels, side=pairs_side, sources=pairs_sources, skip_bad=skip_bad)
    )
    result = run(
        ws,
        rows,
        given,
        version=int(number),
        metric=metric,
        normalised=normalised,
        mixed=mixed,
        roots=declared(vectors.absolute()),
        by=by,
        why=why,
        dry_run=dry_run,
    )
    done = ("would be adopted", "are there") if dry_run else ("adopted", "were there")
    give(result, json, f"{result['added']} vectors {done[0]} as version {number}, {result['unchanged']} {done[1]}")
    for sentence in result["warnings"]:
        say(f"note: {sentence}")
    if result["pairs"] is not None:
        parts = ", ".join(f"{count} {name}" for name, count in result["pairs"].items())
        say(f"pairs: {parts}; {result['copies']:.1%} are copies of others and stay together with them")
    listing("rows are left out", result["left_out"])
    listing("ids are there with another content", result["conflicts"])
    say("Next: fct reconcile --once" if not result["serves"] else "Next: fct status")


def delete(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the items, as `fct search` shows them.")] = None,
    file: Annotated[Path | None, typer.Option("--from", help="Text file with one id a line. These ids are added to the arguments.")] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove every byte of these items from the workspace, then search it for traces.")
    ] = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Delete items. From the next ledger entry on no answer shows them, even after a later promotion or rollback.

    With --purge the command also rewrites tables, indexes and reports, removes old table versions, and searches the workspace for traces.
    The ledger counts deleted items and never names them.

    Example: fct delete holiday/beach.jpg --by ana --why "request 4711" --purge
    """
    from registry.items.deletion import delete as run

    given = list(ids or [])
    if file is not None:
        from fct.arrays.texts import lines

        given += lines("the list of ids", file)
    result = run(opened(params), given, by=by, why=why, purge=purge, dry_run=dry_run)
    text = f"{result['deleted']} items {'would be ' if dry_run else ''}deleted, {result['unknown']} ids unknown"
    if purge and not dry_run:
        text += f"; {result['checked'] or 'no'} byte strings looked for in the workspace, none found"
    give(result, json, text)
    for version, reason in result["damaged"].items():
        say(f"version {version} is not whole and cannot be returned to: {reason}")
    for version in result.get("void", []):
        say(f"version {version}: its verdict was about rows that are gone; `fct reconcile --once` measures it again")
    say("Next: fct status")


def backfill(
    fraction: Annotated[
        float | None, typer.Option(help="Stop when the serving release has embedded this share of the items itself, from 0 to 1.")
    ] = None,
    until_map: Annotated[
        float | None, typer.Option("--until-mAP", help="Stop when the mAP of the live gallery reaches this value.")
    ] = None,
    budget_minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes. The current batch is finished first.")] = None,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Embed carried-over items with the release that serves, starting with the most uncertain. The release keeps serving.

    Every batch becomes one revision. Ctrl-C or a crash loses at most the current batch; run the same command again to continue. The command
    lists images that cannot be read, and their items keep the carried-over vectors.

    Example: fct backfill --fraction 0.2
    """
    from dataclasses import asdict

    from registry.items.backfill import backfill as run

    def show(step: dict[str, object]) -> None:
        predicted, measured = (step[f"{name}_mAP"] for name in ("predicted", "measured"))
        say(f"{step['share']:>7.1%} own   predicted mAP {predicted or 'unknown'}   measured {measured or 'not'}")

    ws = opened(params)
    result = run(ws, fraction=fraction, until_map=until_map, minutes=budget_minutes, by=by, why=why, dry_run=dry_run, said=show)
    first, last = result.share
    text = f"{result.rows} items, {result.embedded} of them embedded now; {first:.1%} of the gallery was the release's own, now {last:.1%}"
    if dry_run:
        text = f"{result.rows} items would be embedded: {first:.1%} of the gallery is the release's own, {last:.1%} would be"
    give(asdict(result), json, f"{text} ({result.stopped})")
    if result.why_not_measured:
        say(f"mAP was not measured on the live gallery: {result.why_not_measured}")
    listing("images cannot be read; their items stay as they were carried", result.skipped)
    say("Next: fct status")


def plan(
    what: Annotated[str | None, typer.Argument(help="A registered version or a release folder. The default is the newest version.")] = None,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Estimate what an upgrade costs (rows, time, disk, memory), and what embedding the gallery again would cost. It changes nothing.

    The command measures the speed of this machine, which takes about a minute. Prices come from the block plan in params.yaml.

    Example: fct plan build/releases/v2
    """
    from registry.upgrades.planning import plan as run

    ws = opened(params)
    number = int(what) if what is not None and what.isascii() and what.isdigit() else None
    found = run(ws, number if what is None or number is not None else Path(what), said=lambda text: say(f"measuring: {text}"))
    rows = sum(found.rows.values())
    lines = [f"{ws.settings.model}: {rows} rows to {found.version}"]
    lines += [f"  {name:<10}{spoken(seconds):>9}   {text}" for name, seconds, text in found.steps]
    lines += [f"  {'in all':<10}{spoken(found.seconds):>9}" + (f"   price {found.price:.2f}" if found.price else "")]
    lines += [f"disk    {found.disk / 1e6:,.0f} MB of {found.disk_free / 1e9:,.0f} GB free"]
    lines += [f"memory  about {found.memory / 1e6:,.0f} MB beside the program's own, of {found.memory_there / 1e9:,.0f} GB"]
    saved = f"saves embedding {rows} items anew: {spoken(found.avoided_seconds)} on this machine"
    lines += [saved + (f", price {found.avoided_price:.2f}" if found.avoided_price else "") + ", and reading their images"]
    give(found.to_json(), json, *lines, *(f"note: {one}" for one in found.notes))
    say("Nothing was changed. Next: fct register, then fct reconcile --once")


def spoken(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (plan, ingest, adopt, delete, repair, backfill, gc, export):
        app.command(rich_help_panel=GALLERY)(command)
