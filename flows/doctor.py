"""``fct doctor``: is everything here that a team relies on, and what to do where not. It changes nothing.

(Two checks write and remove files of their own in the workspace, to see whether its storage keeps its promises; one lets MLflow make a
test delivery.)
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fct.errors import FctError
from flows import crashed, services
from registry import lock, running
from registry.revisions import kept
from registry.revisions.building import verify
from registry.revisions.history import latest
from registry.versions import facts, look
from registry.workspace import Workspace

FINE, ATTENTION, WRONG = "fine", "attention", "wrong"
LEAST_FREE_BYTES = 2 * 1024**3
RACERS, NAMES = 8, 25
TOO_NEW = (  # pip's resolver may take them beside Prefect 3.8
    ("fastapi", (0, 151), "keeps Prefect's server from starting"),
    ("sqlalchemy", (2, 1), "lets Prefect's scheduler fail, so that the registry is never looked at by schedule"),
)


@dataclass(frozen=True)
class Finding:
    """What one check found: ``outcome`` is fine, attention or wrong; ``todo`` says what to do."""

    check: str
    outcome: str
    said: str
    todo: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine(workspace: Workspace) -> Iterator[Finding]:
    """All checks, one after the other; one that cannot be made is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield from check(workspace)
        except FctError as error:
            yield Finding(name, WRONG, str(error))
        except Exception as error:
            yield Finding(name, WRONG, f"this could not be looked at: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def environment(_: Workspace) -> Iterator[Finding]:
    """Python, versions, both faiss packages at once."""
    found = [name for name in ("faiss-cpu", "faiss-gpu") if _version(name)]
    if len(found) == 2:
        todo = "uninstall both, then install one: `pip uninstall faiss-cpu faiss-gpu`, `make install` (or FAISS=gpu)"
        yield Finding("environment", WRONG, "faiss-cpu and faiss-gpu are both installed; they overwrite each other's files", todo)
    if not found:
        yield Finding("environment", WRONG, "no faiss is installed", "`make install`")
    for name, most, harm in TOO_NEW:
        found_version = _version(name) or "0"
        if tuple(int(part) for part in found_version.split(".")[:2] if part.isdigit()) >= most:
            yield Finding("environment", WRONG, f"{name} {found_version} {harm}", f"install {name} below {most[0]}.{most[1]}")
    versions = ", ".join(f"{name} {_version(name)}" for name in ("mlflow", "prefect", "torch", "pylance", *found))
    if len(found) == 1:
        yield Finding("environment", FINE, f"Python {sys.version.split()[0]}, {versions}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device(workspace: Workspace) -> Iterator[Finding]:
    """GPU or not, as params.yaml wants it."""
    import torch

    from fct.device import pick

    chosen, gpus = pick(workspace.settings.device), torch.cuda.device_count() if torch.cuda.is_available() else 0
    yield Finding("device", FINE, f"{workspace.settings.device} → {chosen}; {gpus} GPUs visible, {os.cpu_count()} CPU cores")


def sealing(workspace: Workspace) -> Iterator[Finding]:
    """What this machine keeps from the programs of releases that nobody has approved."""
    from fct.program import sandbox

    found = sandbox.in_force()
    kept = ", ".join(part for part, on in found.items() if on) or "nothing"
    if all(found.values()):
        yield Finding("sandbox", FINE, f"programs that nobody has approved are sealed from {kept}")
        return
    todo = "libseccomp, and a Linux kernel with Landlock (5.13) or user namespaces; `program.unapproved: refuse` runs none without (docs/security.md)"
    outcome = WRONG if workspace.settings.program.unapproved == "refuse" else ATTENTION
    yield Finding("sandbox", outcome, f"programs that nobody has approved are sealed from {kept} here", todo)


def disk(workspace: Workspace) -> Iterator[Finding]:
    """Room for another space and index: twice what the gallery takes now, and no less than 2 GiB."""
    place = workspace.folder if workspace.folder.exists() else workspace.root
    free = shutil.disk_usage(place).free
    used = sum(path.stat().st_size for path in (workspace.folder / "gallery").rglob("*") if path.is_file())
    wanted = max(LEAST_FREE_BYTES, 2 * used)
    said = f"{free / 1024**3:.1f} GiB free, the gallery takes {used / 1024**3:.2f} GiB"
    if free < wanted:
        yield Finding("disk", ATTENTION, said, f"free some: the next upgrade may need {wanted / 1024**3:.1f} GiB")
    else:
        yield Finding("disk", FINE, said)


def storage(workspace: Workspace) -> Iterator[Finding]:
    """What the ledger and the locks build on: a name is given once, a rename is whole, a listing is complete."""
    workspace.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=workspace.folder) as place:
        broken = promises(Path(place))
    if broken:
        todo = "keep the workspace on a local disk, or on a network file system that keeps these promises (NFSv4, not SMB)"
        yield Finding("storage", WRONG, f"the file system of {workspace.folder} does not keep its promises: {'; '.join(broken)}", todo)
    else:
        yield Finding(
            "storage", FINE, f"{RACERS} writers raced for {NAMES} names, each was given once; renames are whole, listings complete"
        )


def promises(folder: Path, link: Callable[[Path, Path], None] = os.link) -> list[str]:
    """Which of three promises a file system breaks, in words."""
    broken = []

    def race(racer: int) -> int:
        mine = folder / f"racer-{racer}"
        mine.write_text(str(racer))
        won = 0
        for number in range(NAMES):
            try:
                link(mine, folder / f"name-{number}")
                won += 1
            except FileExistsError:
                continue
        return won

    with ThreadPoolExecutor(RACERS) as pool:
        won = sum(pool.map(race, range(RACERS)))
    if won != NAMES:
        broken.append(f"{NAMES} names were given {won} times")
    listed = len([name for name in os.listdir(folder) if name.startswith("name-")])
    if listed != NAMES:
        broken.append(f"a listing shows {listed} of {NAMES} files")
    old, new = folder / "old", folder / "new"
    old.write_text("old")
    new.write_text("new")
    os.replace(new, old)
    if old.read_text() != "new" or new.exists():
        broken.append("a rename over another file is not whole")
    return broken


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
    serving = entries[-1].serving if entries else None
    if serving is None:
        yield Finding("champion", FINE, "nothing serves yet")
        return
    alias, release = workspace.releases.champion(), int(serving["release"])
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
    if serving.get("verdict") not in approved:
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
    served = latest(workspace.ledger.entries())
    versions = {version.number: version.tags.get("fct.fingerprint") for version in workspace.releases.versions()}
    checked = 0
    for name in tables:
        if not name.startswith(("features/", "spaces/")):
            continue
        number = int(name.split("/v", 1)[1].split("-")[0])
        info: Any = workspace.gallery.feature_info(number) if name.startswith("features/") else workspace.gallery.space_info(name)
        expected = versions.get(number) or (served[number]["fingerprint"] if number in served else None)
        expected = expected or kept.opened(workspace, number, check=False).fingerprint
        checked += 1
        if info.fingerprint != expected:
            wrong = True
            said = f"the table {name} holds vectors of the embedder {info.fingerprint[:12]}, version {number} is {expected[:12]}"
            yield Finding("gallery", WRONG, said, "do not serve it: run the upgrade again, or restore the table")
    serving = workspace.ledger.serving()
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
