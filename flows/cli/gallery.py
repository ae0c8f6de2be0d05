"""The gallery lives on: items arrive, are deleted, are embedded again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fct.errors import BadInput
from flows.cli.common import DEFAULT, ME, By, DryRun, Json, Params, Why, give, opened, say, workspace
from flows.cli.inputs import SkipBad, listing

GALLERY = "The gallery"


def ingest(
    place: Annotated[
        Path, typer.Argument(help="Images (any tree of folders), a folder with a manifest, or a .parquet with id and image_uri or image.")
    ],
    version: Annotated[int | None, typer.Option(help="Release that embeds; by default the one that serves.", min=1)] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="A further place that images may be links to, or a table may name; several times. See data.roots."),
    ] = None,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Embed images and store φ and ψ in the gallery. Running it again changes nothing, and finishes what was cut short.

    Images that cannot be read and ids that are there with another content are listed; the rest is ingested.

    Example: fct ingest build/data
    """
    from registry.ingest import ingest as run

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
        Path, typer.Argument(help="(N, D) .npy, or .parquet with a column vector and, where it likes, id, label, source, image_uri, side.")
    ],
    as_version: Annotated[str, typer.Option("--as", help="The version that they become: v1 for a first one.")],
    ids: Annotated[Path | None, typer.Option(help="For .npy: ids, one a line or .npy; by default the number of the row.")] = None,
    side: Annotated[Path | None, typer.Option(help="For .npy: side-information, (N, P) .npy of −128 to 127.")] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="OLD.npy NEW.npy: the same items' vectors by the old and the new embedder; an upgrade is fitted and judged on them."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Of the pairs: what each shows, one a line or .npy; empty where nobody knows.")
    ] = None,
    pairs_side: Annotated[Path | None, typer.Option(help="Of the pairs: side-information, (G, P) .npy.")] = None,
    pairs_sources: Annotated[
        Path | None,
        typer.Option(help="Of the pairs: where each is from, one a line or .npy; rows of one source are never split. Empty = alone."),
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine or l2.")] = "cosine",
    normalised: Annotated[bool, typer.Option("--normalised", help="Declare that every vector was delivered with norm 1.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed-ok", help="Take vectors that look as if two embedders had made them.")] = False,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Start with a gallery that another system has computed: its vectors become version 1, nothing is embedded again.

    The old embedder need not be at hand. The later upgrade learns from pairs: items that both embedders have seen, with labels, and not
    items of the gallery. Without pairs an upgrade cannot be promised. Running it again adds what is new.

    Example: fct adopt gallery.parquet --as v1 --pairs old.npy new.npy --labels labels.txt
    """
    from fct import delivered
    from registry.adoption import adopt as run

    number = as_version.removeprefix("v")
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise BadInput("this is no version", wanted="v1", got=as_version)
    if (pairs is None) != (labels is None):
        raise BadInput("pairs and their labels belong together", wanted="--pairs OLD.npy NEW.npy --labels LABELS", todo="give both")
    ws = workspace(params) if dry_run else opened(params)
    rows = delivered.read_rows(vectors, ids=ids, side=side, skip_bad=skip_bad)
    given = (
        None
        if pairs is None or labels is None
        else delivered.read_given(*pairs, labels, side=pairs_side, sources=pairs_sources, skip_bad=skip_bad)
    )
    result = run(ws, rows, given, version=int(number), metric=metric, normalised=normalised, mixed=mixed, by=by, why=why, dry_run=dry_run)
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
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of items, as `fct search` shows them.")] = None,
    file: Annotated[Path | None, typer.Option("--from", help="A text file with one id a line, besides or in place of arguments.")] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove every byte of them from the workspace, and look for what is left.")
    ] = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Delete items: no answer shows them from the next ledger entry on, whatever is promoted or rolled back later.

    With --purge tables, old table versions, indexes and reports are rewritten, and the workspace is searched for what is left.
    The ledger counts deleted items and never names them.

    Example: fct delete holiday/beach.jpg --by ana --why "request 4711" --purge
    """
    from registry.deletion import delete as run

    given = list(ids or [])
    if file is not None:
        from fct.texts import lines

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
    fraction: Annotated[float | None, typer.Option(help="Share of the items that are to be the release's own, 0 to 1.")] = None,
    until_map: Annotated[float | None, typer.Option("--until-mAP", help="Stop when the live gallery reaches this mAP.")] = None,
    budget_minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes; the batch at hand is finished.")] = None,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Embed carried items with the release that serves, the least certain first, while it serves.

    Every batch is one revision. Ctrl-C or a crash loses the batch at hand at most; the same command goes on. Images that cannot be read are
    listed, and their items stay as they were carried.

    Example: fct backfill --fraction 0.2
    """
    from dataclasses import asdict

    from registry.backfill import backfill as run

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


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would go.")] = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Drop spaces, indexes and measurements of releases that nobody returns to, and old versions of tables. First it only says what.

    The release that serves, the ones before it that gc.keep_releases keeps, and versions that wait for a person stay whole. Features and
    items, verdicts, reports, h's and the ledger are never dropped.

    Example: fct gc, then fct gc --yes --by ana
    """
    from dataclasses import asdict

    from registry import retention

    ws, yes = opened(params), yes and not dry_run
    going = retention.collect(ws, by=by, why=why) if yes else retention.plan(ws)
    lines = [f"kept whole: {', '.join(f'version {one}' for one in going.kept) or 'nothing'}"]
    lines += [f"  {'dropped' if yes else 'would drop'}  {name}" for name in (*going.spaces, *going.folders)]
    lines += [f"  {'dropped' if yes else 'would drop'}  {len(old)} old versions of {name}" for name, old in going.versions.items()]
    lines += [f"{going.bytes / 1e6:.1f} MB, old table versions not counted" if going else "nothing can go"]
    give(asdict(going), json, "\n".join(lines))
    if going and not yes:
        say("Nothing was changed. `fct gc --yes` does it.")


def export(
    out: Annotated[
        str, typer.Argument(help="A Parquet file to write, postgresql://user@host/database with pgvector, or qdrant+http://host:6333.")
    ],
    release: Annotated[int | None, typer.Option(help="Parquet: one that serves or has served; default what serves.", min=1)] = None,
    since: Annotated[
        int | None, typer.Option(help="Parquet: a ledger entry (`fct log`); only what is new, changed or deleted since it.", min=1)
    ] = None,
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Bring the vectors and items that a release answers with to an engine that you already run.

    PostgreSQL gets a table a release and a view on the one that serves, Qdrant a collection a release and an alias, which move after rows
    were counted and queries compared there; run it again after any change, and only what changed is written. For Parquet: scale the vectors to norm 1 where the metric is
    cosine, and load a new release into a collection of its own. Vectors of two releases do not belong in one index.

    Example: fct export release-2.parquet, and later fct export delta.parquet --since 12; or fct export postgresql://shop@db/search
    """
    from registry import export as exporting
    from registry import pgvector, qdrant

    engine = next((one for one in (pgvector, qdrant) if out.startswith(one.SCHEMES)), None)
    if engine is not None:
        if release is not None or since is not None:
            raise BadInput("an engine always gets what serves", todo="leave out --release and --since")
        if dry_run:
            raise BadInput("what an engine lacks is known when it is asked", todo="for Parquet --dry-run counts the rows")
        about = (
            pgvector.push(opened(params), out, lambda text: say(f"note: {text}"))
            if engine is pgvector
            else qdrant.push(opened(params), out)
        )
        what = f"{about['written']} rows written, {about['deleted']} deleted, {about['checked']} queries answered there as here"
        name = f"{about['schema']}.items" if engine is pgvector else about["alias"]
        give(about, json, f"{name}: {about['rows']} items of release {about['release']}.{about['revision']}; {what}")
        return
    if "://" in out or out.startswith("qdrant+"):
        raise BadInput("this engine is unknown", wanted="a file, or " + " or ".join((*pgvector.SCHEMES[:1], *qdrant.SCHEMES)), got=out)
    about = exporting.export(opened(params), Path(out), release=release, since=since, dry_run=dry_run)
    what = (
        f"{about['rows']} rows changed and {about['deleted']} deleted since entry {since}" if about["delta"] else f"{about['rows']} items"
    )
    give(
        about,
        json,
        f"{out}: {'would hold ' if dry_run else ''}{what}, {about['model']} {about['release']}.{about['revision']}, ledger entry {about['entry']}",
    )
    say(f"Next: load it; then fct export DELTA.parquet --since {about['entry']}")


def plan(
    what: Annotated[
        str | None, typer.Argument(help="A registered version, or the folder of a release; by default the newest version.")
    ] = None,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """What an upgrade would do and cost: rows, time, disk, memory, and the backfill that it saves. Changes nothing.

    Rates are measured now, on this machine; that takes a minute. Prices: plan in params.yaml.

    Example: fct plan build/releases/v2
    """
    from registry.planning import plan as run

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
    give(found.to_json(), json, "\n".join([*lines, *(f"note: {one}" for one in found.notes)]))
    say("Nothing was changed. Next: fct register, then fct reconcile --once")


def spoken(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (plan, ingest, adopt, delete, backfill, gc, export):
        app.command(rich_help_panel=GALLERY)(command)
