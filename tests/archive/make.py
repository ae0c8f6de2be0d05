"""Make the archive: a small workspace, as the code of the day leaves it, that later code must read, serve, roll back, promote and upgrade.

    python -m tests.archive.make tests/archive/workspace-N.tar.xz

Two registered models in one workspace. ``tiny``: version 1 retired, version 2 serves (with items that came and went after its promotion),
version 3 approved and waiting. ``shop``: an adopted gallery serves as version 1, and the upgrade to version 2 was killed after its index
was built. ``expected.json`` beside the workspace says what the code that made it answered. An archive is never made anew: a new format
gets one more file.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.end_to_end.conftest import REPOSITORY, Project, command, make_project

MOST_BYTES = 1 << 20
SHOP = ("--params", "params-shop.yaml")
LEFT_OUT = {"prefect", "npm", "services", "fct", "registry", "dvc.yaml", ".dvcignore", "cache"}  # no state of a release
BIG = (  # what the workspace was made from, and what nobody reads again; the gallery's images are elsewhere, as people's are
    "images",
    "foreign",
    "build/releases",
    "build/data/contact_sheet.png",
    "build/data/images/gallery",
    "build/data/images/gallery_unseen",
    "workspace/upgrades/tiny-v1/pairs-v1",
    "workspace/upgrades/tiny-v2/rehearsal",
    "workspace/upgrades/shop-v1/pairs-v1",
)


def done(project: Project, *args: str) -> str:
    ran = command(project.folder, *args)
    if ran.code != 0:
        raise SystemExit(f"fct {' '.join(args)} ended with {ran.code}: {ran.err}")
    print(f"fct {' '.join(args)}", file=sys.stderr, flush=True)
    return ran.out


def serve(project: Project, version: int, *more: str) -> None:
    done(project, "reconcile", "--once", *more)
    done(project, "approve", str(version), "--by", "ana", "--why", "the report looks right", *more)
    done(project, "promote", str(version), *more)


def coarse(images: Path) -> None:
    """Four grey levels, so that noise takes a quarter of the bytes."""
    for path in images.rglob("*.png"):
        pixels = np.asarray(Image.open(path))
        Image.fromarray((pixels // 64 * 85).astype(np.uint8)).save(path, optimize=True)


def killed(project: Project, args: list[str], line: str) -> None:
    """Run a command and kill it when it has printed ``line``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *args],
        cwd=project.folder,
        env={**os.environ, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    if not any(said.strip() == line for said in process.stderr):
        raise SystemExit(f"fct {' '.join(args)} ended before it said {line!r}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def deliver(project: Project) -> None:
    """The files of a gallery that another system computed, in ``foreign``: vectors of version 1, pairs with version 2, no image."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fct.datasets.images import read_images
    from fct.datasets.manifest import read_manifest
    from fct.device import pick
    from fct.program import programs
    from fct.release.examining import open_release

    out = project.folder / "foreign"
    out.mkdir()
    manifest = read_manifest(project.folder / "build/data")
    old, new = (open_release(project.folder / f"build/releases/{name}") for name in ("v1", "v2"))

    def seen(release: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        return programs.embed(release.program(), read_images(rows.files, 16, "L"), device=pick("cpu"))

    gallery = manifest.rows("gallery", "gallery_unseen")
    phi, psi = seen(old, gallery)
    columns = {"id": gallery.id, "vector": list(phi), "label": gallery.label, "side": list(psi)}
    pq.write_table(pa.table(columns), out / "gallery.parquet")
    rows = manifest.rows("train", "fitting", "validation", "validation_unseen", "pool")
    first, codes = seen(old, rows)
    np.save(out / "old.npy", first)
    np.save(out / "side.npy", codes)
    np.save(out / "new.npy", seen(new, rows)[0])
    (out / "labels.txt").write_text("\n".join(np.where(rows.split == "pool", "", rows.label)) + "\n", encoding="utf-8")


def answers(project: Project, query: str) -> Any:
    return json.loads(done(project, "search", query, "-k", "20", "--json"))


def live(project: Project) -> dict[str, Any]:
    """The lives of both models; returns what was answered on the way."""
    params = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["source"] = "images"
    params["validate"] |= {"recovered_top1": -100.0, "recovered_mAP": -100.0}  # so few queries settle nothing narrower
    params["train"]["v2"]["embedder"]["epochs"] = 8  # so that a third version has something to gain
    params["embed"] |= {"views": 2, "pool_views": 1, "pool_recombined": 1}
    params["fit"]["width"] = 48  # and weights are most of the archive
    for version in ("v1", "v2"):
        params["train"][version]["side"] |= {"bytes": 0, "dims": 24}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (project.folder / "params-shop.yaml").write_text(yaml.safe_dump(params | {"model": "shop"}, sort_keys=False), encoding="utf-8")
    params["train"]["v2"]["embedder"] |= {"dim": 24, "epochs": 30}
    (project.folder / "params-v3.yaml").write_text(yaml.safe_dump(params | {"seed": 1}, sort_keys=False), encoding="utf-8")
    done(project, "data")
    for version in ("v1", "v2"):
        done(project, "train", version)
    done(project, "train", "v2", "--out", "build/releases/v3", "--params", "params-v3.yaml")
    deliver(project)
    query = str(min((project.folder / "build/data/images/validation").rglob("*.png")).relative_to(project.folder))

    done(project, "register", "build/releases/v1")
    done(project, "ingest", "build/data")
    serve(project, 1)
    first = answers(project, query)
    done(project, "register", "build/releases/v2")
    serve(project, 2)
    more = project.folder / "more"
    more.mkdir()
    for number, path in enumerate(sorted((project.folder / "images").rglob("*.png"))[:3]):
        shutil.copy(path, more / f"more-{number}.png")
    done(project, "ingest", "more")
    done(project, "delete", first["hits"][5]["id"], "--by", "ana", "--why", "sold")
    second = answers(project, query)
    done(project, "register", "build/releases/v3")
    done(project, "reconcile", "--once")
    done(project, "approve", "3", "--by", "ana", "--why", "better still")

    pairs = ("--pairs", "foreign/old.npy", "foreign/new.npy", "--pairs-side", "foreign/side.npy", "--labels", "foreign/labels.txt")
    done(project, "adopt", "foreign/gallery.parquet", "--as", "v1", *pairs, *SHOP)
    serve(project, 1, *SHOP)
    done(project, "register", "build/releases/v2", *SHOP)
    killed(project, ["upgrade", "2", *SHOP], "shop v2: evaluate")
    statuses = {
        model: {n: one["status"] for n, one in json.loads(done(project, "status", "--json", *more_))["versions"].items()}
        for model, more_ in (("tiny", ()), ("shop", SHOP))
    }
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "commit": commit,
        "folder": str(project.folder),
        "query": query,
        "deleted": first["hits"][5]["id"],
        "answers": {"1": first, "2": second},
        "statuses": statuses,
    }


def kept_of(folder: Path) -> Callable[[Path], Path | None]:
    """Which files go into an archive; files of one kind one after the other take less."""

    def kept(path: Path) -> Path | None:
        name = path.relative_to(folder)
        left = set(name.parts) & LEFT_OUT or any(str(one) in BIG for one in (name, *name.parents))
        return None if left or not path.is_file() else path

    return kept


def main() -> None:
    """Make the project in a folder of its own, and pack it."""
    target = Path(sys.argv[1]).absolute()
    if target.exists():
        raise SystemExit(f"{target} is there: an archive is never made anew, a new format gets one more file")
    with tempfile.TemporaryDirectory() as place:
        project = Project(make_project(Path(place) / "project"))
        coarse(project.folder / "images")
        expected = live(project)
        (project.folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")

        with tarfile.open(target, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive:
            for path in sorted(filter(None, map(kept_of(project.folder), project.folder.rglob("*"))), key=lambda path: (path.suffix, path)):
                archive.add(path, Path("project") / path.relative_to(project.folder), recursive=False)
    size = target.stat().st_size
    print(f"{target}: {size / 1024:.0f} KiB", file=sys.stderr)
    if size > MOST_BYTES:
        target.unlink()
        raise SystemExit(f"that is more than {MOST_BYTES / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
