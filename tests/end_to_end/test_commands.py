"""Commands do without MLflow and torch where they can, and still say what is true."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fct.arrays.files import read_json, write_json
from registry import running
from registry.mlflow import seen
from registry.revisions import kept
from tests.end_to_end.conftest import Project
from tests.unit.project.test_imports import imported

pytestmark = pytest.mark.slow
FRAMEWORKS = {"mlflow", "sqlalchemy", "alembic", "prefect", "great_expectations", "fastapi", "matplotlib"}
NEEDED = (  # what each command may not import, one process for all: the later ones may import what the earlier ones must not
    (("log",), {"torch", "torchvision", "lance", "faiss", "pandas", "numpy", *FRAMEWORKS}),
    (("status",), {"torch", "torchvision", "lance", "faiss", "pandas", "numpy", *FRAMEWORKS}),
    (("rollback", "--dry-run"), {"torch", "torchvision", *FRAMEWORKS}),
    (("search", "--id", "ID"), {"torch", "torchvision", *FRAMEWORKS}),
    (("search", "IMAGE"), {"torchvision", *FRAMEWORKS}),
    (("approve", "2", "--by", "ana", "--why", "w", "--dry-run"), {"torchvision", "prefect", "great_expectations"}),
)


def status(project: Project, *options: str) -> dict[str, Any]:
    ran = project.fct("status", "--json", *options)
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def an_item(project: Project) -> tuple[str, str]:
    items = project.workspace().gallery.items()
    row = int(np.flatnonzero(items["role"] == "item")[0])
    return str(items["id"][row]), str(items["image_uri"][row])


def test_no_command_imports_what_it_does_not_need(promoted: Project) -> None:
    words = dict(zip(("ID", "IMAGE"), an_item(promoted), strict=True))
    status(promoted)  # what MLflow says is known from here on
    commands = [tuple(words.get(arg, arg) for arg in args) for args, _ in NEEDED]
    found = imported(promoted.folder, commands)
    assert [there & needless for there, (_, needless) in zip(found, NEEDED, strict=True)] == [set() for _ in NEEDED]


def test_status_sees_what_anybody_writes_to_the_store(promoted: Project) -> None:
    from mlflow import MlflowClient

    assert status(promoted)["versions"]["1"]["status"] == "retired"
    assert status(promoted)["asked"]["now"] is False, "a second look is from the copy"
    client = MlflowClient(tracking_uri=(uri := promoted.workspace().mlflow_store), registry_uri=uri)
    client.set_model_version_tag("tiny", "1", "fct.reject", "mallory no")  # not by any command of ours
    try:
        said = status(promoted)
        assert said["versions"]["1"]["status"] == "rejected" and said["asked"]["now"] is True
    finally:
        client.delete_model_version_tag("tiny", "1", "fct.reject")
    assert status(promoted)["versions"]["1"]["status"] == "retired"


def test_of_a_server_that_is_away_status_says_what_was_known_and_how_old_it_is(promoted: Project) -> None:
    workspace, params = promoted.workspace(), yaml.safe_load((promoted.folder / "params.yaml").read_text(encoding="utf-8"))
    (promoted.folder / "away.yaml").write_text(yaml.safe_dump(params | {"tracking_uri": "http://127.0.0.1:9"}), encoding="utf-8")
    seen.ask(workspace.releases)
    copy, kept = workspace.releases.copy, read_json(workspace.releases.copy)
    try:
        from fct.arrays.digests import of_json

        write_json(copy, kept | {"store": of_json("http://127.0.0.1:9"), "stamp": None, "at": "2026-01-01T00:00:00.000000+00:00"})
        ran = promoted.fct("status", "--params", "away.yaml")
        assert ran.code == 0 and "version 2  serving" in ran.out and "status --fresh" in ran.out
        ran = promoted.fct("status", "--params", "away.yaml", "--fresh")
        assert ran.code == 1 and "cannot be reached" in ran.err and len(ran.err.strip().splitlines()) == 1
    finally:
        write_json(copy, kept)


def test_a_version_that_was_deleted_in_mlflow_while_it_serves_is_named_and_goes_on_serving(promoted: Project, tmp_path: Path) -> None:
    store, before = promoted.folder / "workspace/mlflow.db", tmp_path / "mlflow.db"
    shutil.copy(store, before)
    entries = len(promoted.workspace().ledger.entries())
    try:
        promoted.workspace().releases.client.delete_model_version("tiny", "2")
        said = status(promoted)
        assert said["serving"]["release"] == 2 and "2" not in said["versions"] and "somebody deleted it there" in said["deleted"][0]
        found = [one for one in json.loads(promoted.fct("doctor", "--json").out)["checks"] if one["check"] in ("champion", "gallery")]
        assert {one["check"]: one["outcome"] for one in found} == {"champion": "wrong", "gallery": "fine"}
        assert "nothing is lost" in found[0]["todo"] and "no such version" in found[0]["said"]
        assert promoted.fct("reconcile", "--once").code == 0
        assert promoted.fct("search", "--id", an_item(promoted)[0]).code == 0
        assert promoted.fct("export", str(tmp_path / "out.parquet")).code == 0
        assert len(promoted.workspace().ledger.entries()) == entries
    finally:
        shutil.copy(before, store)
    assert status(promoted)["deleted"] == []


def test_a_damaged_copy_is_no_copy(promoted: Project) -> None:
    copy, before = promoted.workspace().releases.copy, status(promoted)
    copy.write_text("{", encoding="utf-8")
    assert status(promoted)["versions"] == before["versions"] and status(promoted)["asked"]["now"] is False


def test_rollback_and_search_need_no_mlflow_and_refuse_what_was_altered(promoted: Project) -> None:
    store, away = promoted.folder / "workspace/mlflow.db", promoted.folder / "away.db"
    workspace = promoted.workspace()
    release, untouched = workspace.releases.folder_of(1) / "program.pt2", promoted.folder / "untouched"
    own = kept.place(workspace, kept.opened(workspace, 1, check=False).digest()) / "program.pt2"
    shutil.copy(release, untouched)
    store.rename(away)
    try:
        assert promoted.fct("search", "--id", an_item(promoted)[0]).code == 0
        for path in (own, release):
            path.write_bytes(b"altered")
        ran = promoted.fct("rollback", "--by", "ana", "--why", "w")
        assert ran.code == 3 and "program.pt2" in ran.err
        shutil.copy(untouched, release)
        assert promoted.fct("rollback", "--by", "ana", "--why", "w").code == 0
        assert own.read_bytes() == untouched.read_bytes(), "what was altered here was had anew from where it still was"
    finally:
        shutil.copy(untouched, release)
        away.rename(store)
    assert status(promoted)["serving"]["release"] == 1
    assert promoted.fct("promote", "2").code == 0


@contextmanager
def server(project: Project) -> Iterator[str]:
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=project.folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("Ctrl-C ends it" in line for line in process.stderr)
            url = running.server(project.folder / "workspace")
            assert url is not None
            yield url
        finally:
            process.terminate()


def test_search_goes_through_a_server_of_the_workspace_and_answers_the_same(promoted: Project) -> None:
    one, image = an_item(promoted)
    np.save(promoted.folder / "vector.npy", np.ones(16, dtype=np.float32))
    asked = (("--id", one), ("--vector", "vector.npy"), (image,))
    here = [json.loads(promoted.fct("search", *args, "-k", "5", "--json").out) for args in asked]
    assert all(said["server"] is None for said in here)
    with server(promoted) as url:
        for args, before in zip(asked, here, strict=True):
            said = json.loads(promoted.fct("search", *args, "-k", "5", "--json").out)
            assert said["server"] == url and said["release"] == before["release"]
            assert [hit["id"] for hit in said["hits"]] == [hit["id"] for hit in before["hits"]]
            assert [hit["score"] for hit in said["hits"]] == pytest.approx([hit["score"] for hit in before["hits"]], abs=1e-5)
        ran = promoted.fct("search", "--id", one, "--release", "1")
        assert ran.code == 3 and "release 2 does" in ran.err
        ran = promoted.fct("search", "--id", "nobody")
        assert ran.code == 2 and "no such item" in ran.err
    assert json.loads(promoted.fct("search", "--id", one, "--json").out)["server"] is None, "a server that ended is not asked"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "an image, --id or --vector"),
        (("query.png", "--id", "x"), "an image, --id or --vector"),
        (("--id", "x", "--fingerprint", "0" * 64), "--vector"),
        (("--vector", "two.npy"), "(E,) or (1, E)"),
        (("--vector", "short.npy"), "16"),
    ],
)
def test_a_search_for_nothing_or_for_two_things_is_one_sentence(promoted: Project, args: tuple[str, ...], words: str) -> None:
    np.save(promoted.folder / "two.npy", np.ones((2, 16), dtype=np.float32))
    np.save(promoted.folder / "short.npy", np.ones(3, dtype=np.float32))
    ran = promoted.fct("search", *args)
    assert ran.code == 2 and words in ran.err and len(ran.err.strip().splitlines()) == 1, ran.err
