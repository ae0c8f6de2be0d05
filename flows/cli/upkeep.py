"""Commands that keep a gallery in order: repair, gc, export."""

from __future__ import annotations

from typing import Annotated

import typer

from fct.errors import BadInput, NotPermitted
from flows.cli.common import DEFAULT, ME, By, DryRun, Json, Params, Root, Why, give, opened, say
from flows.cli.inputs import listing
from registry.exports.base import store_of, stores


def repair(
    leave: Annotated[
        list[int] | None,
        typer.Option(help="A release to leave behind if it cannot be repaired. Nobody can return to it. It can be given several times."),
    ] = None,
    root: Root = None,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Compute damaged rows and indexes again, as `fct status --verify` lists them.

    Rows of a space are made from features, features from images, and an index from its space. The command changes nothing unless it can
    make everything that serves. It names what it cannot compute (items, a release, an h, adopted features); restore that from a backup.
    Rows of undamaged files stay as they are. At the end the alarm is over.

    Example: fct repair --dry-run, then fct repair --by ana --why "a disk failed"
    """
    from dataclasses import asdict

    from registry.damage.repairing import repair as run

    found = run(opened(params), leave=leave or (), roots=root or (), by=by, why=why, dry_run=dry_run)
    problem = None
    if found.blocked:
        problem = NotPermitted(
            f"nothing was repaired, because {len(found.blocked)} releases cannot be repaired: " + next(iter(found.blocked.values())),
            todo="`fct repair --leave N` continues without an earlier release or a version that waits; the release that serves cannot be left behind",
            code="altered",
        )
    elif found.remaining:
        problem = NotPermitted(f"{len(found.remaining)} files still differ from their records: {found.remaining[0]}", code="altered")
    would = "would be " if dry_run or found.blocked else ""
    text = f"{len(found.damaged)} files differ; {sum(found.rows.values())} rows {would}made again, {len(found.indexes)} indexes {would}built anew"
    if not found.damaged:
        text = "everything is as recorded, and there is nothing to repair"
    give(asdict(found) | ({"error": problem.to_json()} if problem else {}), json, text)
    for name, rows in found.rows.items():
        say(
            f"  {name}: {rows} rows" + (f", {found.compared} images compared with what they became" if name.startswith("features/") else "")
        )
    listing("rows of features cannot be made again", found.gone)
    for release, reason in (found.blocked | found.left).items():
        what = f"version {release}" if release else "the gallery"
        say(f"{what} {'cannot be repaired' if release in found.blocked else 'is left behind'}: {reason}")
    for version in found.void:
        say(f"version {version}: its verdict was about files that are gone; `fct reconcile --once` measures it again")
    if problem:
        say(f"fct: {problem}")
        raise typer.Exit(problem.exit_code)
    say("Next: fct status")


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove the data. Without this option the command only lists it.")] = False,
    dry_run: DryRun = False,
    by: By = ME,
    why: Why = "",
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Remove spaces, indexes and measurements of releases to which nobody returns, and old versions of tables. Without --yes it only lists them.

    It keeps the release that serves, as many earlier releases as gc.keep_releases says, and versions that wait for a decision. It never
    removes features, items, verdicts, reports, h's or the ledger.

    Example: fct gc, then fct gc --yes --by ana
    """
    from dataclasses import asdict

    from registry.items import retention

    ws, yes = opened(params), yes and not dry_run
    going = retention.collect(ws, by=by, why=why) if yes else retention.plan(ws)
    lines = [f"kept whole: {', '.join(f'version {one}' for one in going.kept) or 'nothing'}"]
    lines += [f"  {'dropped' if yes else 'would drop'}  {name}" for name in (*going.spaces, *going.folders)]
    lines += [f"  {'dropped' if yes else 'would drop'}  {len(old)} old versions of {name}" for name, old in going.versions.items()]
    lines += [f"{going.bytes / 1e6:.1f} MB, old table versions not counted" if going else "nothing can go"]
    give(asdict(going), json, *lines)
    if going and not yes:
        say("Nothing was changed. `fct gc --yes` does it.")


def export(
    out: Annotated[
        str,
        typer.Argument(help="A file or the address of an engine. " + " ".join(f"{store.address}: {store.help}" for store in stores())),
    ],
    release: Annotated[
        int | None, typer.Option(help="For Parquet: a release that serves or has served. The default is the release that serves.", min=1)
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(help="For Parquet: export only what is new, changed or deleted since this ledger entry (see `fct log`).", min=1),
    ] = None,
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Export the vectors and items of a release to a search engine that you already run.

    Readers of an engine see the new release only after the command has counted the rows and compared queries there. Run the
    command again after any change: it writes only the differences.

    Example: fct export release-2.parquet, and later fct export delta.parquet --since 12; or fct export postgresql://shop@db/search
    """
    store = store_of(out)
    parts = {"release": release, "since": since, "dry_run": dry_run} if store.parts else {}
    if not store.parts and (release is not None or since is not None):
        raise BadInput("an engine always gets the release that serves", todo="leave out --release and --since")
    if not store.parts and dry_run:
        raise BadInput("--dry-run works only for Parquet", todo="leave out --dry-run")
    done = store.export(opened(params), out, lambda text: say(f"note: {text}"), **parts)
    give(done.about, json, done.line)
    if done.after:
        say(f"Next: {done.after}")
