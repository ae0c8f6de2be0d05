"""``fct doctor``: is everything here that a team relies on, and what to do where not. It changes nothing.

(Two checks write and remove files of their own in the workspace, to see whether its storage keeps its promises; one lets MLflow make a
test delivery.)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from fct.errors import FctError
from flows import crashed, services
from flows.findings import ATTENTION, FINE, WRONG, Finding
from flows.machine import device, disk, environment, sealing, storage
from registry import lock, running
from registry.revisions import history, kept
from registry.revisions.building import verify
from registry.versions import facts, look
from registry.workspace import Workspace


def examine(workspace: Workspace) -> Iterator[Finding]:
    """All checks, one after the other; one that cannot be made is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield from check(workspace)
        except FctError as error:
            yield Finding(name, WRONG, str(error))
        except Exception as error:
            yield Finding(name, WRONG, f"this could not be looked at: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def parts(workspace: Workspace) -> Iterator[Finding]:
    """Servers that were started and died; ports that others hold."""
    found, wrong = running.parts(workspace.folder), False
    for part in found.values():
        if not part.alive():
            wrong = True
            yield Finding("services", WRONG, f"{part.name} ended by itself, see {part.log}", "`fct up` starts it again")
    for plan in services.plans(workspace):
        if plan.port and (plan.name not in found or not found[plan.name].alive()) and not _free(plan.port):
            wrong = True
            todo = f"end that program, or set services.{plan.name}_port in params.yaml"
            yield Finding("services", WRONG, f"another program holds the port {plan.port}, where {plan.name} is to answer", todo)
    if not wrong:
        said = ", ".join(f"{part.name} runs" for part in found.values()) or "none was started; `fct up` would, and its ports are free"
        yield Finding("services", FINE, said)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((services.HOST, port))
        except OSError:
            return False
    return True


def registry(workspace: Workspace) -> Iterator[Finding]:
    """Whether MLflow answers, and what it has of ours."""
    versions = workspace.releases.versions()
    said = f"{workspace.tracking_uri.split('@')[-1]}: {len(versions)} versions of {workspace.settings.model}"
    if versions and not workspace.releases.is_ours():
        todo = f"set the tag fct.gallery on the registered model {workspace.settings.model}"
        yield Finding("registry", WRONG, f"{said}, and the model lacks the tag fct.gallery, so that nothing starts", todo)
    else:
        yield Finding("registry", FINE, said)


def looks(workspace: Workspace) -> Iterator[Finding]:
    """Whether the registry is looked at as often as params.yaml wants while a worker runs, and what the latest look could not do."""
    latest, every = look.last(workspace), workspace.settings.services.reconcile_every_s
    worker, ready = running.parts(workspace.folder).get("worker"), running.folder_of(workspace.folder) / "worker.ready"
    if latest is None:
        yield Finding("looks", FINE, "nobody has looked at the registry yet; `fct up` or `fct reconcile --once` does")
        return
    ago = (datetime.now(UTC) - latest["at"]).total_seconds()
    said = f"the registry was looked at {ago:.0f} s ago"
    works = time.time() - ready.stat().st_mtime if worker is not None and worker.alive() and ready.exists() else 0.0
    if worker is not None and min(ago, works) > 3 * every + 60:
        todo = f"see {worker.log}, then `fct down` and `fct up`"
        yield Finding("looks", WRONG, f"{said}, and the worker is to do it every {every:g} s", todo)
        return
    stuck = look.in_the_way(latest)
    if stuck:
        yield Finding("looks", ATTENTION, f"{said}: {'; '.join(stuck)}", "`fct status` says what each version waits for")
    else:
        yield Finding("looks", FINE, said)


def work(workspace: Workspace) -> Iterator[Finding]:
    """Who works on the model, by its lock: Prefect calls a run crashed whose heartbeat was late, and its process may live."""
    holder = lock.holder_of(workspace.locks, workspace.settings.model)
    said = "nobody works on the model"
    if holder is not None:
        said = f"{holder} works on the model, and until it ends nothing else is begun{crashed.yet_alive(workspace, holder)}"
    yield Finding("work", FINE, said)


def webhook(workspace: Workspace) -> Iterator[Finding]:
    """A test delivery from MLflow to the receiver; key and secret in files that others cannot read."""
    folder = running.folder_of(workspace.folder)
    for name in ("webhook.key", "webhook.secret"):
        path = folder / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding("webhook", WRONG, f"others on this machine can read {path}", f"chmod 600 {path}")
            return
    if not workspace.tracking_uri.startswith("http"):
        yield Finding("webhook", FINE, "no server, so no webhooks: `fct reconcile --once` or `--watch` looks at the registry")
        return
    problem = workspace.releases.test_webhook()
    if problem is None:
        yield Finding("webhook", FINE, "a test delivery arrived, and its signature is right")
    else:
        yield Finding(
            "webhook", WRONG, f"a test delivery failed: {problem}", "`fct up` registers it anew; see docs/operations.md, webhooks"
        )


def champion(workspace: Workspace) -> Iterator[Finding]:
    """The alias against the ledger; what serves against its approval."""
    entries, wrong = workspace.ledger.entries(), False
    serving = history.serving(entries[-1] if entries else None)
    if serving is None:
        yield Finding("champion", FINE, "nothing serves yet")
        return
    alias, release = workspace.releases.champion(), serving.release
    gone = facts.deleted(workspace)
    if gone:
        wrong = True
        yield Finding("champion", WRONG, gone[0], "nothing is lost; restore MLflow's store from a backup, or promote the next version")
    elif alias != release:
        wrong = True
        yield Finding(
            "champion", WRONG, f"the alias champion points at {alias}, the ledger serves {release}", "`fct reconcile --once` puts it back"
        )
    approved = {entry.detail.get("verdict") for entry in entries if entry.action == "approve"}
    approved |= {entry.detail.get("verdict") for entry in entries if entry.action == "promote" and entry.detail.get("approved_by")}
    if serving.verdict not in approved:
        wrong = True
        yield Finding(
            "champion", WRONG, f"release {release} serves without an approved verdict in the ledger", "`fct log`; consider `fct rollback`"
        )
    for version, sentence in facts.ignored(workspace).items():
        yield Finding("champion", ATTENTION, f"version {version}: {sentence}")
    if not wrong:
        yield Finding("champion", FINE, f"release {release} serves, approved; the alias agrees")


def gallery(workspace: Workspace) -> Iterator[Finding]:
    """Every table of vectors is of the embedder that it says."""
    tables, wrong = workspace.gallery.tables(), False
    served = history.latest(workspace.ledger.entries())
    versions = {version.number: version.tags.get("fct.fingerprint") for version in workspace.releases.versions()}
    checked = 0
    for name in tables:
        if not name.startswith(("features/", "spaces/")):
            continue
        number = int(name.split("/v", 1)[1].split("-")[0])
        info: Any = workspace.gallery.feature_info(number) if name.startswith("features/") else workspace.gallery.space_info(name)
        expected = versions.get(number) or (served[number].fingerprint if number in served else None)
        expected = expected or kept.opened(workspace, number, check=False).fingerprint
        checked += 1
        if info.fingerprint != expected:
            wrong = True
            said = f"the table {name} holds vectors of the embedder {info.fingerprint[:12]}, version {number} is {expected[:12]}"
            yield Finding("gallery", WRONG, said, "do not serve it: run the upgrade again, or restore the table")
    serving = history.serving(workspace.ledger)
    if serving is not None:
        verify(workspace, serving)
    if not wrong:
        yield Finding(
            "gallery", FINE, f"{checked} tables, each of its own embedder; what serves is unaltered" if checked else "the gallery is empty"
        )


CHECKS: dict[str, Callable[[Workspace], Iterator[Finding]]] = {
    "environment": environment,
    "device": device,
    "sandbox": sealing,
    "disk": disk,
    "storage": storage,
    "services": parts,
    "registry": registry,
    "looks": looks,
    "work": work,
    "webhook": webhook,
    "champion": champion,
    "gallery": gallery,
}
