"""`fct init`: the repository's own texts, and nothing that lies there is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fct.errors import BadInput
from flows import starting
from flows.cli import main
from registry.params import read

ROOT = Path(__file__).parents[3]


def init(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["fct", "init", *args])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


def stages(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in found.items()}


def test_params_are_the_repositorys_own_bytes_and_are_read(tmp_path: Path) -> None:
    assert starting.begin(tmp_path / "new/shop") == ["params.yaml", "dvc.yaml", ".gitignore"]
    assert (tmp_path / "new/shop/params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert read(tmp_path / "new/shop/params.yaml").data.source == "icons"
    assert not (ROOT / "params.yaml").is_symlink() and not (ROOT / "dvc.yaml").is_symlink()


def test_the_pipeline_is_the_repositorys_without_its_code(tmp_path: Path) -> None:
    starting.begin(tmp_path)
    ours, theirs = stages(ROOT / "dvc.yaml"), stages(tmp_path / "dvc.yaml")
    assert list(ours) == list(theirs)
    for name, stage in ours.items():
        data = [dep for dep in stage["deps"] if dep.split("/")[0] not in ("fct", "registry")]
        assert theirs[name].get("deps", []) == data, name
        assert {key: value for key, value in theirs[name].items() if key != "deps"} == {k: v for k, v in stage.items() if k != "deps"}
    assert not theirs["data"].get("deps") and sum(len(stage.get("deps", [])) for stage in theirs.values()) > 15


@pytest.mark.parametrize("there", [["params.yaml"], ["dvc.yaml"], ["params.yaml", "dvc.yaml"]])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_project_that_is_there_is_named_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: list[str], kind: str
) -> None:
    for name in there:
        (tmp_path / name).write_text("mine") if kind == "file" else (tmp_path / name).symlink_to(tmp_path / "away")
    code, said = init(monkeypatch, capsys, str(tmp_path))
    assert code == 2 and f"got {' and '.join(there)}" in said and str(tmp_path) in said
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(there)
    assert kind == "link" or all((tmp_path / name).read_text() == "mine" for name in there)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(BadInput, match="a file has that name"):
        starting.begin(tmp_path / "shop")
    assert (tmp_path / "shop").read_text() == "mine"


def test_ones_own_gitignore_stays(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    assert starting.begin(tmp_path) == ["params.yaml", "dvc.yaml"]
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_what_was_begun_is_taken_back_where_the_rest_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def somebody_else(self: Path, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        (self / "dvc.yaml").write_text("theirs")

    monkeypatch.setattr(Path, "mkdir", somebody_else)
    with pytest.raises(FileExistsError):
        starting.begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.yaml"] and (tmp_path / "dvc.yaml").read_text() == "theirs"


def test_it_says_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = init(monkeypatch, capsys, "my shop")
    assert code == 0 and "cd 'my shop'" in said and "git init && dvc init" in said and "dvc repro" in said and "data.source" in said
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, said = init(monkeypatch, capsys)
    assert code == 0 and "cd " not in said and (tmp_path / "here/params.yaml").exists()


def test_git_and_dvc_are_asked_for_only_where_they_lack(tmp_path: Path) -> None:
    assert starting.repository(tmp_path) == "git init && dvc init"
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    assert starting.repository(tmp_path) == "dvc init" and starting.repository(tmp_path / "sub") == "dvc init --subdir"
    (tmp_path / ".dvc").mkdir()
    assert starting.repository(tmp_path) is None is starting.repository(tmp_path / "sub")
