"""The life of a release: register, upgrade, approve, promote, roll back, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fct.errors import BadInput
from flows.cli import gallery
from flows.cli.common import DEFAULT, ME, By, DryRun, Json, Params, Why, give, opened, say, workspace
from flows.cli.searching import search
from flows.cli.status import status
from registry.upgrade_files import REPORT

OPS = "The life of a release"
Version = Annotated[int, typer.Argument(help="Number of a registered version.", min=1)]


def register(
    folder: Annotated[Path, typer.Argument(help="Release folder that `fct train` or fct.release.write made.")],
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Publish a release folder to MLflow as the next version. If the folder is incomplete, the command refuses it and names what is missing.

    Example: fct register build/releases/v2
    """
    from registry.mlflow import seen

    ws = workspace(params)
    number = ws.releases.would_become(folder) if dry_run else ws.releases.register(folder, str(ws.settings.workspace))
    if not dry_run:
        seen.ask(ws.releases)
    verb = "would be " if dry_run else ""
    first = ws.ledger.release() is None
    give({"model": ws.settings.model, "version": number}, json, f"{verb}{ws.settings.model} version {number}")
    say("Next: fct ingest build/data, then fct reconcile --once" if first else "Next: fct reconcile --once")


def _report(ws: Any, results: list[dict[str, Any]]) -> None:
    for r in results:
        if r["version"] is None:
            say(f"{r['outcome']}: {r['problems'][0]}")
            continue
        say(f"version {r['version']}: {r['outcome']}", *(f"  {problem}" for problem in r.get("problems", [])))
        page = ws.upgrade_folder(r["version"]) / REPORT
        if page.exists() and r["outcome"] in ("passed", "refused", "inconclusive"):
            say(f"  report: {page}")
    say("Next: fct status")


def reconcile(
    once: Annotated[bool, typer.Option("--once", help="Look once. This is the default.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until Ctrl-C. This needs no server.")] = False,
    every: Annotated[
        float | None, typer.Option(min=1, help="Seconds between two looks. The default is services.reconcile_every_s.")
    ] = None,
    accept_head: Annotated[
        bool,
        typer.Option(
            "--accept-head",
            help="Accept that the newest ledger entries are lost, so that work can continue. The command then does nothing else.",
        ),
    ] = False,
    by: By = ME,
    why: Why = "",
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Look at the registry and do what waits: carry out approvals, run upgrades, and set MLflow's alias and tags as the ledger says.

    Use --accept-head after you restored a backup. It gives up what happened after the highest ledger entry (docs/operations.md).

    Example: fct reconcile --once
    """
    from flows import reconcile as looking

    if once and watch:
        raise BadInput("--once and --watch cannot be used together", todo="give one of them")
    ws = opened(params)
    if accept_head:
        from registry.decisions import accepting

        found = accepting.accept(ws, by=by, why=why, dry_run=dry_run)
        serving, done = found["serving"], "would say" if dry_run else "says"
        serves = "nothing serves" if serving is None else f"{ws.settings.model} {serving['release']}.{serving['revision']} serves"
        give(found, json, f"ledger entry {found['entry']} {done} that entry {found['lost'][-1]['number']} is lost for good; {serves}")
        say("Next: fct reconcile --once")
        return
    if dry_run:
        lines = looking.foreseen(ws)
        give(lines, json, *(lines or ["Nothing to do."]))
        return
    if watch:
        seconds = every or ws.settings.services.reconcile_every_s
        say(f"looking at the registry every {seconds:g} s; Ctrl-C ends it")
        looking.watch(ws, seconds, lambda results: _report(ws, results), say)
    results = looking.once(ws)
    if json:
        give(results, True, "")
    if not results:
        say("Nothing to do.")
    _report(ws, results)


def upgrade(version: Version, dry_run: DryRun = False, params: Params = DEFAULT, json: Json = False) -> None:
    """Run or continue the upgrade to one version, whatever its status. With --dry-run it prints the same as `fct plan`.

    Example: fct upgrade 2
    """
    from flows import reconcile as looking
    from registry.versions import follow

    ws = opened(params)
    ws.releases.version(version)
    if dry_run:
        gallery.plan(str(version), params, json)
        return
    result = {"version": version} | looking.here(ws, version)
    follow.follow(ws)
    if json:
        give(result, True, "")
    _report(ws, [result])


def approve(version: Version, by: By, why: Why, dry_run: DryRun = False, params: Params = DEFAULT) -> None:
    """Approve the verdict of a version. The tag fct.approve in the MLflow UI does the same; the version's description shows its value.

    Example: fct approve 2 --by ana --why "report looks right"
    """
    from registry.decisions import decisions

    verdict = decisions.approve(workspace(params), version, by=by, why=why, dry_run=dry_run)
    verb = "would be approved" if dry_run else "approved"
    say(f"version {version}: verdict {verdict['digest'][:12]} {verb} by {by}. Next: fct promote {version}")


def reject(version: Version, by: By, why: Why, dry_run: DryRun = False, params: Params = DEFAULT) -> None:
    """Reject a version. This also withdraws an approval.

    Example: fct reject 2 --by ana --why "arrows got worse"
    """
    from registry.decisions import decisions

    decisions.reject(workspace(params), version, by=by, why=why, dry_run=dry_run)
    say(f"version {version} {'would be' if dry_run else 'is'} rejected by {by}. Next: fct status")


def promote(
    version: Version,
    by: Annotated[str | None, typer.Option(help="Your name. The default is the name of the approver.")] = None,
    why: Why = "",
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Promote model and gallery together with one ledger entry. The version needs a passed verdict and an approval of exactly that verdict.

    Example: fct promote 2
    """
    from registry.decisions import promotion

    ws = opened(params)
    if dry_run:
        seen = promotion.foresee(ws, version)
        text = f"{ws.settings.model} {version} would serve in place of {seen['from']}: {seen['rows']} rows, {seen['delta_rows']} of them to be caught up, approved by {seen['approved_by']}"
        give(seen, json, text)
        return
    entry = promotion.promote(ws, version, by=by, why=why)
    give(entry.to_json(), json, f"{ws.settings.model} {entry.release}.{entry.revision} serves, ledger entry {entry.number}")
    say("Next: fct search IMAGE, or fct rollback --by NAME --why TEXT")


def rollback(
    by: By = ME,
    why: Why = "",
    without_missing: Annotated[
        bool, typer.Option("--without-missing", help="Roll back even if items that only the later release embedded will be missing.")
    ] = False,
    leave: Annotated[
        int | None, typer.Option("--from", help="Release to leave. The default is the release that was promoted last.", min=1)
    ] = None,
    dry_run: DryRun = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Return to the release that served before, model and gallery together. Items deleted since then stay deleted.

    A second run changes nothing. To go back one release further, name the release that serves now with --from.

    Example: fct rollback --by ana --why "customers complain"
    """
    from registry.decisions import rollback as back
    from registry.entry import Entry

    ws = workspace(params)

    def already(entry: Entry) -> None:
        left, model = entry.detail["from"], ws.settings.model
        give(entry.to_json(), json, f"done already: {entry.by} rolled {model} {left} back at {entry.at}, ledger entry {entry.number}")
        head = ws.ledger.head()
        assert head is not None
        say(f"{model} {head.release}.{head.revision} serves. To go back from there: fct rollback --from {head.release}")

    if dry_run:
        seen = back.foresee_rollback(ws, leave=leave, without_missing=without_missing)
        if isinstance(seen, Entry):
            already(seen)
            return
        text = f"{ws.settings.model} {seen['to']}.{seen['revision']} would serve again in place of {seen['from']}: {seen['rows']} rows, {seen['missing']} items missing"
        give(seen, json, text)
        return
    entry, now = back.rollback(ws, by=by, why=why, leave=leave, without_missing=without_missing)
    if not now:
        already(entry)
        return
    give(entry.to_json(), json, f"{ws.settings.model} {entry.release}.{entry.revision} serves again, ledger entry {entry.number}")
    if entry.detail["missing"]:
        say(f"{entry.detail['missing']} items do not serve: release {entry.release} has never seen them. `fct ingest` embeds them.")
    say("MLflow's alias and tags follow at the next look at the registry. Next: fct reconcile --once")


def log(params: Params = DEFAULT, json: Json = False) -> None:
    """Show the ledger: who did what, when and why. Its highest entry says what serves.

    Example: fct log
    """
    entries = workspace(params).ledger.entries()
    lines = []
    for e in entries:
        serves = "–" if e.serving is None else f"{e.release}.{e.revision}"
        what = f"{e.action} {e.detail.get('version', '')}".strip()
        lines.append(f"{e.number:>4}  {e.at[:19]}  {what:<12} serves {serves:<6} by {e.by:<12} {e.why}  [{e.digest[:12]}]")
    give([e.to_json() for e in entries], json, *(lines or ["the ledger is empty"]))


def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the workspace of an earlier run and start again.")] = False,
    params: Params = DEFAULT,
) -> None:
    """Run the whole life of two releases on real images. A second run checks the finished result and prints its table.

    Example: fct demo
    """
    from flows.demo import run

    raise typer.Exit(run(opened(params), fresh=fresh))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (register, reconcile, upgrade, status, approve, reject, promote, rollback, search, log, demo):
        app.command(rich_help_panel=OPS)(command)
