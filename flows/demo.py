"""The main job from beginning to end, on real images: the life of two releases as a team would live it.

What it does is done by the commands a person would type; nothing here decides anything.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fct import children
from fct import device as devices
from fct.arrays.files import read_json, write_json
from fct.datasets.manifest import read_manifest
from fct.device import cores
from fct.errors import BadInput, LockHeld, NotPermitted, OperationFailed
from fct.sample import comparison
from flows import reconcile
from flows.demo_audit import answers_to, audit, pictures_of, row_asked
from flows.demo_images import gallery_images_away, restore
from registry import lock, report, running
from registry.decisions import decisions, promotion
from registry.items.ingest import ingest
from registry.revisions import history, kept
from registry.revisions.building import verify
from registry.upgrades import before_serving
from registry.versions import facts
from registry.workspace import Workspace

NAME = "demo"
WORK = 5000  # steps of version 2's training that take as long as the whole demo: 210 s at 0.042 s, two cores


def say(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


class Clock:
    """Says what begins and how much time has passed."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def begin(self, title: str) -> None:
        say(f"\n── {title}  ({time.perf_counter() - self.start:.0f} s so far)")


def _upgrade(ws: Workspace, version: int) -> dict[str, Any]:
    result = next((r for r in reconcile.once(ws) if r["version"] == version), None)
    if result is None:
        return {"outcome": facts.statuses(ws)[version].value, "problems": []}
    if result["outcome"] == "waits":
        raise LockHeld(result["problems"][0])
    return result


def _release(ws: Workspace, version: int, why: str) -> None:
    if not facts.gather(ws)[version].approved:
        decisions.approve(ws, version, by=NAME, why=why)
    promotion.promote(ws, version, why=why)


def _dvc(*words: str) -> list[str]:
    return [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-q", *words]


@contextmanager
def _trained_beside(ws: Workspace, stage: str, log: Path, share: int) -> Iterator[Callable[[], None]]:
    """Begin a stage whose inputs are there, on ``share`` threads; a function that waits for its end. Without a thread to spare it begins then.

    Raises:
        OperationFailed: (the function) the stage failed.
    """
    if share == 0:
        yield lambda: _repro(ws, stage, children.run(_dvc("-s", stage), cwd=ws.root).returncode)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    # -s: not `data`, which is done, and which the other release reads at the same time
    with children.beside(_dvc("-s", stage), log, cwd=ws.root, more={"OMP_NUM_THREADS": str(share)}) as process:
        yield lambda: _repro(ws, stage, _shown(process, log))


def _shown(process: subprocess.Popen[str], log: Path) -> int:
    """Show what a process writes to its log, from its last line on, until it ends; its exit code."""
    with log.open(encoding="utf-8", errors="replace", newline="") as file:
        written = file.read()
        text = written[max(written.rfind("\r"), written.rstrip("\n").rfind("\n")) + 1 :]
        while True:
            ended = process.poll()
            print(text, end="", file=sys.stderr, flush=True)
            text = file.read()
            if ended is not None and not text:
                break
            time.sleep(0.2)
    if ended:
        say(written)
    return ended


def _repro(ws: Workspace, stages: str, code: int) -> None:
    if code:
        raise OperationFailed(
            f"`dvc repro {stages}` failed", where=ws.root, todo="its own message is above; correct the problem and run the demo again"
        )


def _what_comes(ws: Workspace) -> float:
    """Say what the demo does and how long that takes here; the machine's GFLOP/s in a float32 product, on all its threads."""
    speed = devices.gflops()
    minutes = WORK * _step_s(ws) / 60 * (1 if cores() > 1 else 1.7)
    say(
        "The life of two releases on real images: two small networks are trained, version 1 serves a gallery, version 2 is registered, the\n"
        "gallery is carried over without its images, gates are measured, both are promoted, and the result is compared with other methods.\n"
        f"This machine multiplies {speed:.0f} GFLOP/s (float32, 2048³, {devices.threads()} threads). All that takes about {max(1, round(minutes))} min here."
    )
    return speed


def _step_s(ws: Workspace) -> float:
    """Seconds of a step of version 2's training, with one thread: the rest of the demo is convolutions of its kind."""
    import torch

    from fct import embedder

    how, data, before = ws.settings.train["v2"].embedder, ws.settings.data, devices.threads()
    channels = 3 if data.mode == "RGB" else 1
    net = embedder.build(how.architecture, how.dim, channels, data.image_size, 0).to(memory_format=torch.channels_last)
    images = torch.rand(how.batch, channels, data.image_size, data.image_size).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    torch.set_num_threads(1)
    for _ in range(4):
        begun = time.perf_counter()
        net(images)[0].square().mean().backward()
        best = min(best, time.perf_counter() - begun)
    torch.set_num_threads(before)
    return best


def run(ws: Workspace, *, fresh: bool) -> int:
    """Live the whole life, or verify a finished one. Returns the exit code: 0, or 3 when the verdict is not passed."""
    clock = Clock()
    out = ws.folder / "demo"
    _clear(ws, fresh, out)
    finished = out / "demo.json"
    if finished.exists():
        return _again(ws, read_json(finished), out)
    speed = _what_comes(ws)
    one, stopped = _first(ws, clock, out)
    if stopped is not None:
        return _stop(ws, one, stopped)
    served = ws.ledger.release()
    if served is None:
        raise BadInput("nothing serves", todo="run `fct demo --fresh`")
    manifest = read_manifest(ws.data)
    query = manifest.files[row_asked(ws, manifest)]
    label = str(manifest.label[row_asked(ws, manifest)])
    before = answers_to(ws, query) if served == one else []
    two = ws.releases.register(ws.root / "build/releases/v2", ws.settings.workspace)

    clock.begin("4  reconcile finds version 2 and carries the gallery over, with the gallery's images moved away")
    if served != two:
        with gallery_images_away(ws):
            result = _upgrade(ws, two)
        say(
            f"verdict: {result['outcome']}; gallery images read by the upgrade: {read_json(ws.upgrade_folder(two) / 'costs.json')['gallery_images_read']}"
        )
        if result["outcome"] not in ("passed", "approved"):
            return _stop(ws, two, result)
        clock.begin("5  approval and promotion: model and gallery together, one ledger entry")
        _release(ws, two, "the gates passed")
    after = answers_to(ws, query)

    clock.begin("6  audit on the live gallery, its images back (read once)")
    table, costs = audit(ws, two, one)
    out.mkdir(parents=True, exist_ok=True)
    if before:
        title = f"{label}, a class of v2 alone: before and after"
        report.search_picture(
            query, pictures_of(before, label), pictures_of(after, label), out / "search.png", title, "before: v1 / v1", "after: v2 / h(v1)"
        )
    (out / "table.md").write_text(comparison.as_text(table) + "\n", encoding="utf-8")
    seconds = round(time.perf_counter() - clock.start)
    write_json(
        finished,
        {
            "table": table,
            "costs": costs,
            "seconds": seconds,
            "gflops": round(speed, 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": [one, two],
            "query": str(query.relative_to(ws.root)),
            "label": label,
        },
    )
    _show(ws, read_json(finished), out)
    return 0


def _clear(ws: Workspace, fresh: bool, out: Path) -> None:
    """See to it that nobody else works here, and where ``fresh`` begin anew."""
    begins = fresh or not (out / "demo.json").exists()
    if begins and any(part.alive() for part in running.parts(ws.folder).values()):
        raise OperationFailed("servers run in this workspace, and would take part in the demo", where=ws.folder, todo="`fct down` first")
    holder = lock.holder_of(ws.locks, ws.settings.model)
    if holder is not None:
        raise LockHeld("an upgrade runs in this workspace", got=holder.holder, where=ws.locks, todo="wait for it to end")
    if restore(ws):
        say("An earlier run was killed while the gallery's images were away; they are back.")
    if fresh and ws.folder.exists():
        others = sorted({entry.by for entry in ws.ledger.entries()} - {NAME})
        if others or ws.folder == ws.root or ws.folder in ws.root.parents:
            raise NotPermitted(
                "a new start would delete a workspace that others use too",
                got=f"ledger entries by {', '.join(others) or 'nobody'}",
                where=ws.folder,
                todo="move it away yourself, or set another workspace in params.yaml",
            )
        shutil.rmtree(ws.folder)


def _first(ws: Workspace, clock: Clock, out: Path) -> tuple[int, dict[str, Any] | None]:
    """Data, and version 1 until it serves, while version 2 is trained beside. Its number, and the verdict that stood in the way."""
    share = cores() // 2
    clock.begin("1  data, and version 1 (dvc repro)" + ("; version 2 is trained beside it" if share else ""))
    _repro(ws, "data", children.run(_dvc("data"), cwd=ws.root).returncode)
    with _trained_beside(ws, "train@v2", out / "train-v2.log", share) as wait:
        threads = {"OMP_NUM_THREADS": str(max(1, cores() - share))}
        _repro(ws, "train@v1", children.run(_dvc("-s", "train@v1"), cwd=ws.root, more=threads).returncode)

        clock.begin("2  version 1 is registered, the gallery ingested, version 1 promoted")
        one = ws.releases.register(ws.root / "build/releases/v1", ws.settings.workspace)
        if ws.ledger.serving() is None:
            ingested = ingest(ws, ws.data, version=one, by=NAME, why="the gallery")
            say(f"{ingested['added']} items in the gallery, each with φ and {kept.opened(ws, one, check=False).side_bytes} bytes of ψ")
            result = _upgrade(ws, one)
            if result["outcome"] not in ("passed", "approved"):
                return one, result
            _release(ws, one, "first release")
        clock.begin("3  version 2 is trained (dvc repro) and registered")
        wait()
    return one, None


def _stop(ws: Workspace, version: int, result: dict[str, Any]) -> int:
    say(f"\nThe verdict of version {version} is {result['outcome']}; nothing is approved or promoted.")
    for problem in result["problems"]:
        say(f"  {problem}")
    say(f"Report: {ws.upgrade_folder(version) / 'report.html'}")
    return 3


def _again(ws: Workspace, recorded: dict[str, Any], out: Path) -> int:
    """A finished life: verify what serves, search again, show the recorded table."""
    now = history.serving(ws.ledger)
    if now is None or now.release != recorded["versions"][1]:
        say("Version 2 does not serve any more; `fct status` says what does, `make demo FRESH=1` starts over.")
    else:
        verify(ws, now)
        before_serving.ask_canaries(ws, now.release, now)
        say(f"Verified: release {now}, every file of its tables, index and program, and the canaries.")
    for hit in answers_to(ws, ws.root / recorded["query"]):
        say(f"  {hit.score:.4f}  {hit.label:<20} {hit.id}  ({hit.origin})")
    say(f"\nRecorded by the run that ended {recorded['at']} and took {recorded['seconds']} s (`make demo FRESH=1` measures again):")
    _show(ws, recorded, out)
    return 0


def _show(ws: Workspace, recorded: dict[str, Any], out: Path) -> None:
    costs = recorded["costs"]
    print(f"\n{comparison.as_text(recorded['table'])}\n")
    print(
        f"fitting h {costs['fit_s']:.0f} s · transform {costs['transform_us_per_item']:.0f} µs an item · native embedding {costs['native_us_per_item']:.0f} µs an item (images in memory)\n"
        f"side-information {costs['side_bytes_per_item']} bytes an item (the thumbnail: {costs['thumbnail']}) · gallery {costs['gallery_rows']} rows · gallery images read by the upgrade {costs['gallery_images_read']}\n"
        f"the whole run took {recorded['seconds']} s on a machine of {recorded['gflops']:.0f} GFLOP/s: {recorded['seconds'] / 60 * recorded['gflops']:.0f} minutes × GFLOP/s\n"
    )
    print(
        f"picture:  {out / 'search.png'}\nreport:   {ws.upgrade_folder(recorded['versions'][1]) / 'report.html'}\ndata:     {ws.data / 'contact_sheet.png'}"
    )
    print(
        f"MLflow:   .venv/bin/mlflow ui --backend-store-uri {ws.tracking_uri}\nledger:   .venv/bin/fct log     status: .venv/bin/fct status"
    )
