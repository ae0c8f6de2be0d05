"""``fct status``: from the ledger and the workspace, and from what MLflow said when it was asked last."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from flows.cli.common import DEFAULT, Json, Params, give, workspace


def status(
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask MLflow again, whatever is known.")] = False,
    params: Params = DEFAULT,
    json: Json = False,
) -> None:
    """What serves, what waits, and what to do next.

    What serves is read from the ledger. Versions and their tags are as MLflow said them last, and the answer says when that was; where its
    store is a file of this machine that has changed since, and with --fresh, it is asked again.

    Example: fct status
    """
    from registry import facts, look, running, seen
    from registry.status import next_step

    ws = workspace(params)
    model = ws.settings.model
    known = None if fresh else seen.last(ws.releases)
    said = known or seen.ask(ws.releases)
    found = facts.statuses(ws, said.versions)
    serving = ws.ledger.serving()
    now = (
        "nothing serves"
        if serving is None
        else f"{model} {serving['release']}.{serving['revision']} serves (space {serving['space']}, {serving['tables'][serving['space']]['rows']} rows)"
    )
    steps = {version: next_step(one, version, model) for version, one in found.items()}
    lines = [now] + [f"  version {v}  {s.value:<13}{steps[v]}" for v, s in found.items()]
    if not found:
        lines.append(f"  no version of {model} is registered; type `fct register build/releases/v1`")
    if known is not None:
        since = "its store has not changed since" if known.stamp is not None else "`fct status --fresh` asks it again"
        lines.append(f"  MLflow was asked {_ago(known.at)} s ago; {since}")
    if serving is not None and said.champion != serving["release"]:
        lines.append(
            f"  the MLflow alias champion points at {said.champion}: it was moved by hand, or follows a rollback at the next look, and decides"
            " nothing; `fct reconcile --once` puts it right"
        )
    silent = facts.ignored(ws, said.versions)
    lines += [f"  version {v}: {sentence}" for v, sentence in silent.items()]
    latest = look.last(ws)
    if latest is not None and (stuck := look.in_the_way(latest, look.STUCK + look.WAITS)):
        lines.append(f"  the last look at the registry, {_ago(latest['at'])} s ago:")
        lines += [f"    {sentence}" for sentence in stuck]
    parts = running.parts(ws.folder)
    table = {
        "model": model,
        "serving": None if serving is None else {"release": serving["release"], "revision": serving["revision"]},
        "versions": {str(v): {"status": s.value, "next": steps[v]} for v, s in found.items()},
        "asked": {"at": said.at.isoformat(), "now": known is None, "unchanged": known is None or known.stamp is not None},
        "look": None if latest is None else latest | {"at": latest["at"].isoformat()},
        "ignored": {str(v): sentence for v, sentence in silent.items()},
        "services": {name: {"alive": part.alive(), "url": part.url, "log": part.log} for name, part in parts.items()},
    }
    give(table, json, "\n".join(lines + _services(parts.values())))


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
