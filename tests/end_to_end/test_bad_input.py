"""Everything a user can get wrong, on the real command: one sentence, the right exit code, nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from fct.arrays.digests import of_folder
from tests.end_to_end.conftest import Project, Ran, command, make_project, tiny_images, tiny_params


def refused(ran: Ran, code: int, *words: str) -> None:
    """One sentence with these words, no traceback, this exit code."""
    assert ran.code == code, ran.err
    sentences = [line for line in ran.err.splitlines() if line.startswith("fct: ")]
    assert len(sentences) == 1, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in sentences[0], sentences[0]


@pytest.fixture
def blank(tmp_path: Path) -> Project:
    """A project with images and nothing else."""
    return Project(make_project(tmp_path / "project"))


@pytest.mark.parametrize("content", [b"\x89PNG not really", b""])
def test_an_image_that_cannot_be_read_is_named_and_left_out(blank: Project, content: bytes) -> None:
    (blank.folder / "images/class-00/00.png").write_bytes(content)
    ran = blank.fct("data")
    assert ran.code == 0 and "1 left out" in ran.err and "class-00/00.png" in ran.err
    assert not list((blank.folder / "build/data").rglob("class-00*00.png*"))


def test_where_most_images_cannot_be_read_nothing_is_made_of_the_rest(blank: Project) -> None:
    images = sorted((blank.folder / "images").rglob("*.png"))
    for image in images[: len(images) // 2 + 1]:
        image.write_bytes(b"")
    refused(blank.fct("data"), 2, "more than half of the images cannot be read", ".png")
    assert not (blank.folder / "build/data").exists()


def test_an_empty_class_folder_is_named(blank: Project) -> None:
    (blank.folder / "images/empty-one").mkdir()
    refused(blank.fct("data"), 2, "empty-one")


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    tiny_images(tmp_path / "images", classes=1)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params(tmp_path / "images")))
    refused(Project(tmp_path).fct("data"), 2, "class")


def test_a_typo_in_params_names_the_key(blank: Project) -> None:
    params = blank.folder / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 25", "epoch: 25", 1))
    refused(blank.fct("data"), 2, "fit.epoch")


@pytest.mark.parametrize("value", ["[1, 2]", "many", "null"])
def test_a_value_of_the_wrong_type_names_the_key(blank: Project, value: str) -> None:
    params = blank.folder / "params.yaml"
    params.write_text(params.read_text().replace("canaries: 12", f"canaries: {value}"))
    refused(blank.fct("data"), 2, "data.canaries")


def test_duplicate_ids_in_a_manifest_are_refused(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    manifest = project.folder / "build/data/manifest.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines, lines[1]]) + "\n")
    refused(project.fct("train", "v1"), 2, "twice")


@pytest.mark.parametrize(
    "args", [("promote", "9"), ("approve", "9", "--by", "a", "--why", "b"), ("reject", "9", "--by", "a", "--why", "b"), ("upgrade", "9")]
)
def test_an_unknown_version_names_those_that_are_there(candidate: Project, args: tuple[str, ...]) -> None:
    refused(candidate.fct(*args), 2, "no version 9", "[1, 2]")


def test_programs_read_a_code_and_no_sentence(candidate: Project) -> None:
    ran = candidate.fct("promote", "2", "--json")
    refused(ran, 3, "is not approved")
    error = json.loads(ran.out)["error"]
    assert (error["code"], error["exit"], error["message"]) == (
        "not-approved",
        3,
        "version 2 is not approved",
    ) and "fct approve 2" in error["todo"]
    refused(candidate.fct("promote", "2"), 3, error["sentence"])
    assert json.loads(candidate.fct("promote", "9", "--json").out)["error"]["code"] == "bad-input"


@pytest.mark.parametrize("piece", ["program.pt2", "canaries.safetensors", "release.json", "head.safetensors"])
def test_an_incomplete_release_is_refused_by_name_and_nothing_is_registered(trained: Project, tmp_path: Path, piece: str) -> None:
    release = tmp_path / "release"
    shutil.copytree(trained.folder / "build/releases/v1", release)
    (release / piece).unlink()
    before = of_folder(trained.folder / "workspace") if (trained.folder / "workspace").exists() else {}
    refused(trained.fct("register", str(release)), 2, piece)
    assert (of_folder(trained.folder / "workspace") if (trained.folder / "workspace").exists() else {}) == before


def test_a_release_with_a_pickle_inside_is_refused(trained: Project, tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(trained.folder / "build/releases/v1", release)
    program = release / "program.pt2"
    with zipfile.ZipFile(program, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{top}/data/extra.pkl", b"\x80\x04.")
    about = json.loads((release / "release.json").read_text())
    from fct.arrays.digests import of_file

    about["files"]["program.pt2"] = of_file(program)
    (release / "release.json").write_text(json.dumps(about))
    refused(trained.fct("register", str(release)), 2, "pickle")


def test_a_plain_mlflow_registration_that_lacks_a_piece_is_marked_invalid(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    assert project.fct("register", "build/releases/v1").code == 0
    releases = project.workspace().releases
    folder = project.folder / "half"
    folder.mkdir()
    shutil.copy(project.folder / "build/releases/v2/release.json", folder)
    run = releases.client.create_run(releases.client.get_experiment_by_name("tiny").experiment_id)
    releases.client.log_artifacts(run.info.run_id, str(folder), "release")
    releases.client.create_model_version("tiny", source=f"{run.info.artifact_uri}/release", run_id=run.info.run_id)
    assert project.fct("ingest", "build/data", "--version", "1").code == 0
    ran = project.fct("reconcile", "--once")
    assert ran.code == 0 and "invalid" in ran.err
    version = releases.version(2)
    assert version.tags["fct.status"] == "invalid" and "program.pt2 is missing" in version.description


def test_an_upgrade_that_would_change_zero_rows_is_refused(copy_of: Callable[[], Project]) -> None:
    project = copy_of()
    assert project.fct("register", "build/releases/v1").code == 0
    refused(project.fct("upgrade", "1"), 2, "zero rows", "fct ingest")


def test_vectors_under_another_fingerprint_are_refused(copy_of: Callable[[], Project], candidate: Project) -> None:
    project = copy_of()
    assert project.fct("register", "build/releases/v2").code == 0  # version 1 here is another embedder than the gallery's
    shutil.copytree(
        candidate.folder / "workspace/gallery", project.folder / "workspace/gallery", ignore=shutil.ignore_patterns("head.json")
    )
    (project.folder / "more").mkdir()
    shutil.copy(next((project.folder / "images").rglob("*.png")), project.folder / "more/new.png")
    refused(project.fct("ingest", "more"), 2, "fingerprint")


def test_an_image_whose_vector_cannot_be_used_is_listed_and_the_rest_is_ingested(blank: Project) -> None:
    from fct import release

    class Net(nn.Module):
        """Without a bias: an image that is black has no direction."""

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return nn.functional.avg_pool2d(images.float(), 4).flatten(1), (images.flatten(1)[:, :4] // 2).to(torch.int8)

    canaries = np.random.default_rng(0).integers(1, 255, (12, 1, 16, 16), dtype=np.uint8)
    release.write(blank.folder / "r", Net(), size=16, mode="L", canary_ids=[f"c{n}" for n in range(12)], canary_images=canaries)
    assert blank.fct("register", "r").code == 0
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(blank.folder / "images/class-00/black.png")
    ran = blank.fct("ingest", "images", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["broken"] == [["class-00/black.png", "its vector: a zero-norm vector"]] and said["added"] > 10


def test_an_unreadable_query_image_is_named(candidate: Project, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    refused(candidate.fct("search", str(broken)), 2, "broken.png")
    refused(candidate.fct("search", str(tmp_path / "absent.png")), 2, "absent.png")
    image = next((candidate.folder / "images").rglob("*.png"))
    refused(candidate.fct("search", str(image), "-k", "0"), 2, "at least 1")


def test_a_lock_held_by_another_upgrade_exits_1_and_says_who(candidate: Project) -> None:
    from registry import lock

    workspace = candidate.workspace()
    assert candidate.fct("approve", "2", "--by", "ana", "--why", "w").code == 0
    try:
        with lock.hold(workspace.locks, "tiny", "ben: upgrade to version 7"):
            refused(candidate.fct("promote", "2"), 1, "ben: upgrade to version 7")
            ran = candidate.command("upgrade", "2")  # a process of its own
            assert ran.code == 1 and "ben: upgrade to version 7" in ran.err and "Traceback" not in ran.err
    finally:
        workspace.releases.untag(2, "fct.approve")


def test_an_unreachable_tracking_server_exits_1(blank: Project) -> None:
    params = blank.folder / "params.yaml"
    params.write_text(params.read_text().replace("tracking_uri: ''", "tracking_uri: http://127.0.0.1:9"))
    assert "127.0.0.1:9" in params.read_text()
    ran = command(blank.folder, "status")
    assert ran.code == 1 and "cannot be reached" in ran.err and "Traceback" not in ran.err


def test_help_answers_for_every_command(tmp_path: Path) -> None:
    from flows.cli.app import app

    for one in app.registered_commands:
        name = one.name or (one.callback.__name__ if one.callback else "")
        ran = Project(tmp_path).fct(name, "--help")
        assert ran.code == 0 and "Example:" in ran.out, name


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """In a process of its own: torch, mlflow, prefect and the like would each cost seconds."""
    import subprocess
    import sys

    script = (
        "import sys; from flows.cli.app import app; import typer.main; typer.main.get_command(app);"
        "heavy = {'torch', 'mlflow', 'prefect', 'great_expectations', 'lance', 'faiss', 'pandas', 'numpy'} & set(sys.modules); print(heavy); sys.exit(bool(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert ran.returncode == 0, ran.stdout + ran.stderr
