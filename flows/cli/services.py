"""The servers of a team: up, down, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.common import DEFAULT, Json, Params, give, say, shown, workspace

SERVICES = "The servers of a team, on this machine"


def up(params: Params = DEFAULT, json: Json = False) -> None:
    """Start MLflow, Prefect, the webhook receiver and the worker on this machine. Parts that already run are left alone.

    After that, a registration in MLflow starts an upgrade, and an approval in the MLflow UI starts the promotion.

    Example: fct up
    """
    from flows import passwords, services

    ws = workspace(params)
    say("starting what does not run yet; MLflow and Prefect take up to a minute …")
    found = services.up(ws, say)
    urls = {name: part.url for name, part in found.items() if part.url}
    if ws.settings.tracking_uri:
        urls = {"mlflow": ws.settings.tracking_uri} | urls
    give({"urls": urls}, json, *(f"{name:<10}{url}" for name, url in urls.items()))
    say(f"Prefect's page asks for a password: it stands in {ws.folder / 'services' / passwords.PASSWORD_FILE}")
    say(
        f"logs: {ws.folder / 'services'}. Next: register a version (`fct register`, or plain MLflow against {urls['mlflow']}). `fct down` ends all."
    )


def down(params: Params = DEFAULT) -> None:
    """Stop what `fct up` started, and nothing else. The next `fct up` continues interrupted work.

    Example: fct down
    """
    from flows import services

    if not services.down(workspace(params), say):
        say("Nothing was running.")


def doctor(params: Params = DEFAULT, json: Json = False) -> None:
    """Check everything that a team relies on, and say how to repair what is wrong. It changes nothing.

    The exit code is 1 if something is wrong.

    Example: fct doctor
    """
    from flows import doctor as doctors

    ws = workspace(params)
    marks = {doctors.FINE: "✓", doctors.ATTENTION: "!", doctors.WRONG: "✗"}
    found = []
    for finding in doctors.examine(ws):
        found.append(finding)
        if not json:
            todo = [f"{'':<16}→ {finding.todo}"] if finding.todo else []
            print(shown(f"{marks[finding.outcome]} {finding.check:<12}  {finding.said}", *todo), flush=True)
    wrong = [finding for finding in found if finding.outcome == doctors.WRONG]
    if json:
        give({"checks": [finding.to_json() for finding in found], "wrong": len(wrong)}, True, "")
    say(f"{len(wrong)} of {len(found)} findings are wrong." if wrong else "Nothing is wrong. Next: fct status")
    if wrong:
        raise typer.Exit(1)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on. 0 takes a free port.", min=0, max=65535)] = 8780,
    candidate: Annotated[bool, typer.Option("--candidate", help="Also answer for the newest version that waits, for comparison.")] = False,
    params: Params = DEFAULT,
) -> None:
    """Serve searches over HTTP. It follows the ledger through promotions and rollbacks without a gap. A search page is at /.

    A candidate answers from its own carried-over gallery once its gates have passed. Before that, a bridge maps its queries to the gallery that
    serves. If other machines can reach the host, every request must send the token in the environment variable FCT_SERVE_TOKEN.

    Example: fct serve --candidate
    """
    from flows import serve as server

    server.run(workspace(params), host=host, port=port, candidate=candidate, say=say)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (up, down, doctor, serve):
        app.command(rich_help_panel=SERVICES)(command)
