"""Behaviour, bytes and digests before and after a change that may alter none of them: a tiny project lives, and two commits agree.

    python -m tests.proof [COMMIT]     this working tree against COMMIT (HEAD), each with its own code, in the same folder on this machine
    python -m tests.proof --table      the lines of this tree alone

Two releases of one model serve one after the other, with an ingest, a deletion and a backfill, and a rollback; a gallery of another system is
adopted and upgraded. Compared: content of all tables, releases, h's, indexes, verdicts, and the ledgers' entries without times, tokens,
chaining and names and digests of Lance's files. One thread, float32, so that one machine makes the same bits again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PLACE = (
    Path(tempfile.gettempdir()) / f"fct-proof-{os.getuid() if hasattr(os, 'getuid') else 0}"
)  # one for both: items name their image's path
DROPPED = ("at", "token", "previous", "files", "candidate")  # candidate: digest of a file that names an MLflow run
SHOP = ("--params", "params-shop.yaml")


def live(folder: Path) -> list[Any]:
    """The life; a workspace for each model of it."""
    import yaml

    from registry.workspace import open_workspace
    from tests.archive.make import deliver
    from tests.end_to_end.conftest import Project, make_project

    project = Project(make_project(folder))
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"]["v2"]["embedder"]["epochs"] = 12
    params["fit"] |= {"epochs": 8, "width": 64}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (project.folder / "params-shop.yaml").write_text(yaml.safe_dump(params | {"model": "shop"}, sort_keys=False), encoding="utf-8")

    def done(*args: str) -> None:
        ran = project.fct(*args)
        if ran.code != 0:
            raise SystemExit(f"fct {' '.join(args)} ended with {ran.code}: {ran.out}{ran.err}")
        print(f"fct {' '.join(args)}", file=sys.stderr, flush=True)

    def serve(version: int, *more: str) -> None:
        done("reconcile", "--once", *more)
        done("approve", str(version), "--by", "ana", "--why", "the report looks right", *more)
        done("promote", str(version), *more)

    for args in (("data",), ("train", "v1"), ("train", "v2"), ("register", "build/releases/v1"), ("ingest", "build/data")):
        done(*args)
    deliver(project)
    serve(1)
    done("register", "build/releases/v2")
    serve(2)
    more = project.folder / "more"
    more.mkdir()
    for number, image in enumerate(sorted((project.folder / "images").rglob("*.png"))[:3]):
        shutil.copy(image, more / f"more-{number}.png")
    done("ingest", "more")
    gone = sorted(str(one) for one in project.workspace().gallery.item_ids(role="item"))[5]
    done("delete", gone, "--by", "ana", "--why", "sold")
    done("backfill", "--fraction", "0.3")
    done("rollback", "--without-missing", "--why", "looking back")
    pairs = ("--pairs", "foreign/old.npy", "foreign/new.npy", "--pairs-side", "foreign/side.npy", "--labels", "foreign/labels.txt")
    done("adopt", "foreign/gallery.parquet", "--as", "v1", *pairs, *SHOP)
    serve(1, *SHOP)
    done("register", "build/releases/v2", *SHOP)
    done("reconcile", "--once", *SHOP)
    return [open_workspace(project.folder / name) for name in ("params.yaml", "params-shop.yaml")]


def lines(workspace: Any) -> Iterator[tuple[str, str]]:
    """What has to stay as it is: name, digest."""
    from fct import forward
    from fct.arrays import digests
    from registry.revisions import kept

    model = workspace.settings.model
    for name in sorted(workspace.gallery.tables()):
        yield f"{model} table {name}", workspace.gallery.snapshot(name).content
    for number in sorted(version.number for version in workspace.releases.versions()):
        yield f"{model} release {number}", kept.opened(workspace, number).digest()
    for folder in sorted(path.parent for path in (workspace.folder / "upgrades").glob(f"{model}-v*/*/weights.safetensors")):
        yield f"{model} {folder.relative_to(workspace.folder)}", forward.load(folder).digest
    for path in sorted((workspace.folder / "upgrades").glob(f"{model}-v*/verdict/verdict.json")):
        yield f"{model} {path.relative_to(workspace.folder)}", digests.of_json(without(json.loads(path.read_bytes())))
    for path in sorted((workspace.folder / "indexes" / model).glob("*/index.json")):
        yield f"{model} {path.parent.relative_to(workspace.folder)}", json.loads(path.read_bytes())["identity"]
    for entry in workspace.ledger.entries():
        yield f"{model} ledger {entry.number} {entry.action}", digests.of_json(without(entry.to_json()))


def without(value: Any) -> Any:
    """A JSON value without what differs between two lives that are the same."""
    if isinstance(value, dict):
        return {key: without(one) for key, one in value.items() if key not in DROPPED}
    return [without(one) for one in value] if isinstance(value, list) else value


def table_of(tree: Path) -> dict[str, str]:
    """What a working tree makes, by its own code in a process of its own."""
    said = {"PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "tests"))), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.proof", "--table"], cwd=tree, env=os.environ | said, stdout=subprocess.PIPE, text=True
    )
    if ran.returncode:
        raise SystemExit(f"the proof's life failed in {tree}")
    return dict(line.rsplit("  ", 1) for line in ran.stdout.splitlines())


def main() -> None:
    if sys.argv[1:] == ["--table"]:
        shutil.rmtree(PLACE, ignore_errors=True)
        try:
            for workspace in live(PLACE):
                for name, digest in lines(workspace):
                    print(f"{name}  {digest}")
        finally:
            shutil.rmtree(PLACE, ignore_errors=True)
        return
    commit = (sys.argv[1:] or ["HEAD"])[0]
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=REPOSITORY, check=True)
        try:
            before, after = table_of(tree), table_of(REPOSITORY)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=REPOSITORY, check=True)
    names = sorted(before.keys() | after.keys())
    different = [name for name in names if before.get(name) != after.get(name)]
    for name in names:
        print(f"{'differs' if name in different else 'equal  '}  {before.get(name, '-'):.16}  {after.get(name, '-'):.16}  {name}")
    print(f"{len(names) - len(different)} of {len(names)} equal")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
