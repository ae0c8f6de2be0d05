"""What this machine gives: packages, processor, sealing, disk and what its file system promises."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from flows.findings import ATTENTION, FINE, WRONG, Finding
from registry.workspace import Workspace

RACERS, NAMES = 8, 25
LEAST_FREE_BYTES = 2 * 1024**3
TOO_NEW = (  # pip's resolver may take them beside Prefect 3.8
    ("fastapi", (0, 151), "keeps Prefect's server from starting"),
    ("sqlalchemy", (2, 1), "lets Prefect's scheduler fail, so that the registry is never looked at by schedule"),
)


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
