"""``fct status``: from the ledger and the workspace, and from what MLflow said when it was asked last."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fct.errors import BadInput, NotPermitted
from flows.cli.common import DEFAULT, Json, Params, give, opened, say, workspace
from flows.cli.gallery import listing

if TYPE_CHECKING:
    from registry.mlflow.seen import Seen
    from registry.workspace import Workspace


def status(
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask MLflow even if a recent answer is known.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file that the ledger names and compare it with its recorded digest.")
    ] = False,
    images: Annotated[
        int, typer.Option("--images", help="With --verify: also read and embed this many images of the gallery again.", min=0)
    ] = 0,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """Show what serves, what waits, and what to do next.

    The ledger says what serves. Versions and tags come from the last answer of MLflow, and the output shows its age. The command asks MLflow
    again with --fresh, or if MLflow's store is a file on this machine that has changed.

    With --verify the command instead reads every file of the gallery, the indexes and the releases. If a file differs from its record, it
    raises an alarm. The alarm stops every command that would make something from the file, until --verify finds all files equal.
    For each file it says whether `fct repair` can make it again, or whether you must restore a backup.

    Example: fct status, or fct status --verify --images 200
    """
    if verify or images:
        if not verify:
            raise BadInput("--images is only used with --verify", todo="fct status --verify --images N")
        _verify(params, images, json)
        return
    from registry import entry, running
    from registry.revisions import alarm, heads, history
    from registry.versions import facts, look
    from registry.versions.status import next_step

    ws = workspace(params)
    model = ws.settings.model
    serving = history.serving(ws.ledger)
    said, known, away = _answer(ws, fresh, serving is not None)
    heads.heed(ws, said.head)
    found = facts.statuses(ws, said.versions)
    now = "nothing serves" if serving is None else f"{model} {serving} serves (space {serving.space}, {serving.state.rows} rows)"
    damaged = alarm.raised(ws)
    steps = {version: next_step(one, version, model) for version, one in found.items()}
    lines = [now, *_alarms(damaged)] + [f"  version {v}  {s.value:<13}{steps[v]}" for v, s in found.items()]
    if away:
        lines.append(f"  {away}; what serves is verified, served, rolled back and deleted from without it")
    elif not found:
        lines.append(f"  no version of {model} is registered; type `fct register build/releases/v1`")
    if known is not None:
        how = "its store has not changed since" if known.stamp is not None and not away else "`fct status --fresh` asks it again"
        lines.append(f"  MLflow was asked {_ago(known.at)} s ago; {how}")
    if (since := entry.owed(ws.ledger.entries())) is not None:
        lines.append(f"  owed since ledger entry {since}: {entry.REPORTS} may name purged items; `fct reconcile --once` does it")
    deleted = [] if away else facts.deleted(ws, said.versions)
    lines += [f"  {sentence}" for sentence in deleted]
    if serving is not None and not away and not deleted and said.champion != serving.release:
        lines.append(
            f"  the MLflow alias champion points at {said.champion}: it was moved by hand, or follows a rollback at the next look, and decides"
            " nothing; `fct reconcile --once` puts it right"
        )
    silent = facts.ignored(ws, said.versions)
    lines += [f"  version {v}: {sentence}" for v, sentence in silent.items()]
    latest = look.last(ws)
    lines += _stuck(latest)
    parts = running.parts(ws.folder)
    table = {
        "model": model,
        "serving": None if serving is None else {"release": serving.release, "revision": serving.number},
        "versions": {str(v): {"status": s.value, "next": steps[v]} for v, s in found.items()},
        "alarm": damaged,
        "asked": {"at": said.at.isoformat(), "now": known is None, "unchanged": known is None or known.stamp is not None},
        "away": away,
        "owed_since": since,
        "look": None if latest is None else latest | {"at": latest["at"].isoformat()},
        "deleted": deleted,
        "ignored": {str(v): sentence for v, sentence in silent.items()},
        "services": {name: {"alive": part.alive(), "url": part.url, "log": part.log} for name, part in parts.items()},
    }
    give(table, json, *lines, *_services(parts.values()))


def _answer(ws: Workspace, fresh: bool, serves: bool) -> tuple[Seen, Seen | None, str]:
    """What MLflow said last or says now, what of it was known before, and why it is away; "" where it answers."""
    from fct.errors import OperationFailed
    from registry.mlflow import seen

    known = None if fresh else seen.last(ws.releases)
    try:
        said = known or seen.ask(ws.releases)
        if serves and not said.versions:
            raise OperationFailed(f"MLflow knows no {ws.settings.model}", where=ws.tracking_uri.rpartition("@")[2])
    except OperationFailed as error:
        if fresh or not serves:
            raise
        known = seen.last(ws.releases, changed=True)  # what serves does not hang on it
        return known or seen.Seen(datetime.now(UTC), None, [], None, ""), known, str(error)
    return said, known, ""


def _alarms(damaged: list[str]) -> list[str]:
    """Files that are known to be damaged, and what that stops."""
    stopped = "nothing is made from the gallery until `fct status --verify` finds all equal; `fct repair` makes again what can be computed"
    return [*(f"  ALARM: {one}" for one in damaged[:3]), f"  {stopped}"] if damaged else []


def _stuck(latest: dict[str, Any] | None) -> list[str]:
    """What the last look at the registry could not do."""
    from registry.versions import look

    stuck = [] if latest is None else look.in_the_way(latest, look.STUCK + look.WAITS)
    return (
        []
        if latest is None or not stuck
        else [f"  the last look at the registry, {_ago(latest['at'])} s ago:", *(f"    {one}" for one in stuck)]
    )


def _verify(params: Path, images: int, json: bool) -> None:
    """Compare files, and images where some are wanted; what differs ends with exit code 3."""
    from registry.damage.verifying import verify_all
    from registry.upgrades import rereading

    ws = opened(params)
    found = verify_all(ws)
    table: dict[str, Any] = asdict(found) | {"damaged": found.damaged}
    lines = [
        f"{found.files} files compared, {found.bytes / 1e6:.1f} MB: "
        + (f"{len(found.damaged)} differ" if found.damaged else "all are as recorded")
    ]
    problem = None
    if found.damaged:
        problem = NotPermitted(
            f"{len(found.damaged)} files differ from their records, and nothing is made from the gallery until they are equal: {found.damaged[0]}"
        )
    elif images:
        seen = rereading.check_images(ws, images)
        table["images"] = asdict(seen)
        lines.append(f"{seen.read} images read and embedded again: {len(seen.other)} give other features than are stored")
        if seen.other:
            problem = NotPermitted(
                f"{len(seen.other)} of {seen.read} images give other features than are stored",
                got=seen.other[0][0],
                todo="every file is as it was recorded, so these images were changed since: ingest them under another id, or put them back",
            )
    give(table | ({"error": problem.to_json()} if problem else {}), json, *lines)  # one object, also where something differs
    for one in found.damaged:
        say(f"  {one}")
    if "images" in table:
        listing("images could not be read again", seen.unreadable)
        listing("items have other features than their image gives", seen.other)
    if problem:
        say(f"fct: {problem}")
        raise typer.Exit(problem.exit_code)


def _ago(at: datetime) -> int:
    return max(0, round((datetime.now(UTC) - at).total_seconds()))


def _services(parts: Any) -> list[str]:
    """What was started by `fct up`; nothing where none ever was."""
    lines = []
    for part in parts:
        if part.alive():
            lines.append(f"  {part.name:<11}runs{', ' + part.url if part.url else ''}")
        else:
            lines.append(f"  {part.name:<11}ended by itself, see {part.log}; `fct up` starts it again")
    return lines
