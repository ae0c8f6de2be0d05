"""A gallery that another system computed: adopted, carried over from given pairs, promoted and searched, without one of its images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct.datasets.images import read_images
from fct.datasets.manifest import read_manifest
from fct.device import pick
from fct.program import programs
from fct.release.examining import open_release
from registry.revisions.history import latest, serving
from tests.end_to_end.conftest import Project
from tests.end_to_end.test_damage import data_file, flipped
from tests.end_to_end.test_life import altered

FITTING = ("train", "fitting", "validation", "validation_unseen")


def foreign(project: Project, side: bool = True) -> Path:
    """What another system delivers, in a folder beside the project; then every image and manifest of the project is gone."""
    out, data = project.folder.parent / "foreign", project.folder / "build/data"
    out.mkdir()
    manifest = read_manifest(data)
    old, new = (open_release(project.folder / f"build/releases/{name}") for name in ("v1", "v2"))

    def seen(release, rows):  # type: ignore[no-untyped-def]
        return programs.embed(release.program(), read_images(rows.files, 16, "L"), device=pick("cpu"))

    gallery = manifest.rows("gallery", "gallery_unseen")
    phi, psi = seen(old, gallery)
    kept = [str(out / f"{row}.png") if row < 6 else "" for row in range(len(gallery))]  # of six items somebody still has the image
    for row, file in enumerate(gallery.files[:6]):
        shutil.copy(file, kept[row])
    columns = {"id": gallery.id, "vector": list(phi), "label": gallery.label, "image_uri": kept}
    pq.write_table(pa.table(columns | ({"side": list(psi)} if side else {})), out / "gallery.parquet")
    rows = manifest.rows(*FITTING, "pool")
    first, codes = seen(old, rows)
    np.save(out / "old.npy", first)
    np.save(out / "new.npy", seen(new, rows)[0])
    np.save(out / "side.npy", codes)
    labels = np.where(rows.split == "pool", "", rows.label)
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    np.save(out / "stranger.npy", np.random.default_rng(0).normal(size=first.shape).astype(np.float32) * np.abs(first).mean())
    query = gallery.files[0]
    shutil.copy(query, out / "query.png")
    shutil.rmtree(data)
    shutil.rmtree(project.folder / "images")
    return out


def adopting(out: Path, *more: str, side: bool = True) -> tuple[str, ...]:
    pairs = ("--pairs", str(out / "old.npy"), str(out / "new.npy"), "--labels", str(out / "labels.txt"))
    return ("adopt", str(out / "gallery.parquet"), "--as", "v1", *pairs, *(("--pairs-side", str(out / "side.npy")) if side else ()), *more)


def to_serve(project: Project, version: str) -> None:
    for args in (("reconcile", "--once"), ("approve", version, "--by", "ana", "--why", "good"), ("promote", version)):
        ran = project.fct(*args)
        assert ran.code == 0, ran.out + ran.err


@pytest.mark.slow
def test_the_whole_life_of_an_adopted_gallery(copy_of: Callable[[], Project], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fct.sample.adopted.CANARIES", 12)  # as many as the releases have of their own: they must not be mistaken for these
    project = copy_of()
    out = foreign(project)
    ran = project.fct(*adopting(out, "--json"))
    assert ran.code == 0, ran.err
    first = json.loads(ran.out)
    assert first["added"] == pq.read_metadata(out / "gallery.parquet").num_rows and not first["serves"]
    assert first["pairs"]["canaries"] and first["pairs"]["pool"] and first["pairs"]["unseen"]
    again = json.loads(project.fct(*adopting(out, "--json")).out)
    assert again["added"] == 0 and again["unchanged"] == first["added"] and again["entry"] is None
    ran = project.fct("plan", "1")
    assert ran.code == 0 and "fit" not in ran.out and "transform" in ran.out, ran.err
    to_serve(project, "1")
    ran = project.fct("search", str(out / "query.png"))
    assert ran.code == 2 and "adopted without its embedder" in ran.err
    assert project.fct("ingest", str(out), "--dry-run").code == 2
    ran = project.fct("ingest", str(out))
    assert ran.code == 2 and "adopted without its embedder" in ran.err
    assert project.fct("register", "build/releases/v2").code == 0
    to_serve(project, "2")
    ws = project.workspace()
    verdict = json.loads((ws.upgrade_folder(2) / "verdict/verdict.json").read_text())
    outcomes = {(gate["gate"], gate["outcome"]) for gate in verdict["gates"]}
    assert {("compatible", "passed"), ("recovered", "passed"), ("canary", "passed"), ("new_intact", "passed")} <= outcomes
    assert json.loads((ws.upgrade_folder(2) / "costs.json").read_text())["gallery_images_read"] == 0
    found = project.fct("search", str(out / "query.png"), "--json")
    hits = json.loads(found.out)
    label = dict(zip(*(pq.read_table(out / "gallery.parquet")[name].to_pylist() for name in ("id", "label")), strict=True))
    right = label[pq.read_table(out / "gallery.parquet")["id"][0].as_py()]
    assert right in [label[hit["id"]] for hit in (hits["hits"] if isinstance(hits, dict) else hits)][:5]
    said = json.loads(project.fct("backfill", "--fraction", "1", "--json").out)
    assert said["embedded"] == 6 and len(said["skipped"]) == first["added"] - 6
    for release in latest(ws.ledger.entries()).values():
        path = data_file(ws, release)
        path.write_bytes(flipped(path))
    ran = project.fct("repair")
    assert ran.code == 0 and project.fct("status", "--verify").code == 0, ran.err
    path = data_file(ws, serving(ws.ledger), "features/v1")
    with altered(path, flipped(path)):
        ran = project.fct("repair")
        assert ran.code == 3 and "restore it from a backup" in ran.err, "nothing gives these vectors again"
    assert project.fct("status", "--verify").code == 0
    shutil.copytree(project.folder / "build/releases/v2", project.folder / "build/releases/v3")
    about = project.folder / "build/releases/v3/release.json"
    about.write_text(about.read_text(encoding="utf-8").replace('"prepared_from": ', '"prepared_from": 1'), encoding="utf-8")
    assert project.fct("register", "build/releases/v3").code == 0
    for command in ("plan", "upgrade"):
        ran = project.fct(command, "3")
        assert ran.code == 2 and "given pairs lead only to the next version" in ran.err, ran.err
    ran = project.fct("rollback", "--by", "ana", "--why", "test")
    assert ran.code == 0, ran.err
    assert project.workspace().ledger.serving()["release"] == 1
    again = json.loads(project.fct(*adopting(out, "--json")).out)
    assert again["added"] == 0 and again["unchanged"] == first["added"] and not again["conflicts"]


@pytest.mark.slow
def test_more_vectors_are_adopted_while_the_adopted_release_serves(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    out = foreign(project)
    table = pq.read_table(out / "gallery.parquet")
    pq.write_table(table.slice(0, len(table) - 10), out / "gallery.parquet")
    assert project.fct(*adopting(out)).code == 0
    to_serve(project, "1")
    pq.write_table(table, out / "gallery.parquet")
    ran = project.fct(*adopting(out, "--json"))
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["added"] == 10 and said["entry"] is not None
    serving = project.workspace().ledger.serving()
    assert serving["tables"][serving["space"]]["rows"] == len(table) + said["pairs"]["canaries"]
    phi = np.array(table["vector"].to_pylist(), dtype=np.float32)
    other = np.random.default_rng(0).normal(size=phi.shape).astype(np.float32) * np.abs(phi).mean()
    pq.write_table(
        pa.table({"id": [f"other {row}" for row in range(len(phi))], "vector": list(other), "side": table["side"]}), out / "o.parquet"
    )
    ran = project.fct("adopt", str(out / "o.parquet"), "--as", "v1")
    assert ran.code == 2 and "two embedders are mixed" in ran.err, "the stored pairs tell, none were given again"
    pq.write_table(
        table.slice(0, 3).set_column(1, "vector", pa.array(phi[:3].astype(np.float16).tolist(), pa.list_(pa.float16()))), out / "h.parquet"
    )
    ran = project.fct("adopt", str(out / "h.parquet"), "--as", "v1")
    assert ran.code == 2 and "not of version 1" in ran.err


@pytest.mark.slow
def test_without_pairs_no_upgrade_is_promised_and_pairs_can_follow(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    out = foreign(project, side=False)
    ran = project.fct("adopt", str(out / "gallery.parquet"), "--as", "v1")
    assert ran.code == 0, ran.err
    assert "no upgrade can be promised" in ran.err and "no side-information" in ran.err
    to_serve(project, "1")
    assert project.fct("register", "build/releases/v2").code == 0
    ran = project.fct("upgrade", "2")
    assert "adopted without pairs" in ran.out + ran.err and project.workspace().ledger.serving()["release"] == 1
    assert project.fct(*adopting(out, side=False)).code == 0
    ran = project.fct("upgrade", "2")
    assert project.workspace().upgrade_folder(2).joinpath("verdict/verdict.json").exists(), ran.out + ran.err


def bad(project: Project, *args: str) -> str:
    ran = project.fct(*args)
    assert ran.code == 2 and len(ran.err.strip().splitlines()) == 1, ran.err
    assert not project.workspace().gallery.tables() and not project.workspace().releases.versions()
    return ran.err


def test_what_cannot_be_adopted_is_said_in_one_sentence_and_changes_nothing(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    out = foreign(project)
    table = pq.read_table(out / "gallery.parquet")
    phi = np.array(table["vector"].to_pylist(), dtype=np.float32)

    def gallery(vectors: np.ndarray, **more: object) -> None:
        pq.write_table(pa.table({"id": table["id"], "vector": list(vectors), "side": table["side"]} | more), out / "gallery.parquet")

    half = phi.copy()
    half[::2] = np.load(out / "stranger.npy")[: len(half[::2])]
    gallery(half)
    assert "two embedders are mixed" in bad(project, *adopting(out))
    scaled = phi.copy()
    scaled[::3] *= 40
    gallery(scaled)
    assert "have two scales" in bad(project, "adopt", str(out / "gallery.parquet"), "--as", "v1")
    broken = phi.copy()
    broken[3, 1] = np.nan
    gallery(broken)
    assert "NaN" in bad(project, *adopting(out)) and f"({table['id'][3].as_py()})" in bad(project, *adopting(out))
    ran = project.fct(*adopting(out, "--skip-bad", "--dry-run", "--json"))
    said = json.loads(ran.out)
    assert said["left_out"] == [[table["id"][3].as_py(), "vectors: NaN or infinity"]] and said["added"] == len(phi) - 1, ran.err
    gallery(phi, id=pa.array(["same"] * len(phi)))
    assert "twice" in bad(project, *adopting(out))
    gallery(phi[:, :5])
    assert "do not have the form of the gallery's vectors" in bad(project, *adopting(out))
    gallery(phi)
    assert "not normalised" in bad(project, *adopting(out, "--normalised"))
    assert "gives the next number" in bad(project, *(one if one != "v1" else "v3" for one in adopting(out)))
    assert "does not name a version" in bad(project, *(one if one != "v1" else "first" for one in adopting(out)))
    assert "belong together" in bad(project, *adopting(out)[:-4][:7])
    (out / "labels.txt").write_text("one\n" * 7)
    assert "do not correspond" in bad(project, *adopting(out))
    assert "no such" in bad(project, "adopt", str(out / "nothing.npy"), "--as", "v1")
    ran = project.fct("adopt", str(out / "gallery.parquet"), "--as", "v1", "--dry-run")
    assert ran.code == 0 and "would be adopted" in ran.out
    assert not project.workspace().gallery.tables()


@pytest.mark.slow
def test_pairs_of_another_new_embedder_are_refused_before_anything_is_fitted(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    out = foreign(project)
    new = np.load(out / "new.npy")
    np.save(out / "new.npy", new @ np.linalg.qr(np.random.default_rng(1).normal(size=(new.shape[1],) * 2))[0].astype(np.float32))
    assert project.fct(*adopting(out)).code == 0
    to_serve(project, "1")
    assert project.fct("register", "build/releases/v2").code == 0
    ran = project.fct("upgrade", "2")
    assert "do not look like those of version 2's own embedder" in ran.out + ran.err


@pytest.mark.slow
def test_a_plan_says_what_an_upgrade_would_cost_and_changes_nothing(candidate: Project) -> None:
    def state() -> dict[str, float]:
        root = candidate.folder / "workspace"
        return {
            str(path): path.stat().st_mtime
            for path in root.rglob("*")
            if path.is_file() and "mlflow.db" not in path.name and "prefect" not in path.parts
        }

    before = state()
    ran = candidate.fct("plan", "build/releases/v2", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    steps = [name for name, *_ in found["steps"]]
    assert steps == ["starting", "embed", "fit", "transform", "evaluate", "validate", "index"]
    assert found["seconds"] == pytest.approx(sum(seconds for _, seconds, _ in found["steps"]), abs=0.5) and found["seconds"] > 1
    items = candidate.workspace().gallery
    assert sum(found["rows"].values()) == len(items.item_ids())
    assert found["disk"] > len(items.item_ids()) * 16 * 4 and found["disk_free"] > found["disk"] and found["avoided_seconds"] > 0
    assert state() == before
    ran = candidate.fct("plan")
    assert ran.code == 0 and "to version 2" in ran.out and "Nothing was changed" in ran.err
    for args, sentence in (
        (("plan", "7"), "no version 7"),
        (("plan", "1"), "serves already"),
        (("plan", "nowhere"), "no such release folder"),
    ):
        ran = candidate.fct(*args)
        assert ran.code == 2 and sentence in ran.err, ran.err


@pytest.mark.slow
def test_purged_items_of_an_adopted_gallery_leave_no_byte_behind(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    out = foreign(project)
    assert project.fct("adopt", str(out / "gallery.parquet"), "--as", "v1").code == 0
    to_serve(project, "1")
    table = pq.read_table(out / "gallery.parquet")
    ids, phi = table["id"].to_pylist(), np.array(table["vector"].to_pylist(), dtype=np.float32)
    ran = project.command("delete", *ids[:20], "--purge", "--json")
    assert ran.code == 0, ran.err
    for path in (project.folder / "workspace").rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(row.tobytes() in held for row in phi[:20]), path
