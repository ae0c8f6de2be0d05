"""Nothing is fetched from where a version's writer points to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fct.errors import NotPermitted, OperationFailed
from registry.mlflow import releases as doors
from registry.mlflow import sources
from registry.mlflow.releases import Releases

BUCKET = "s3://ours/models"


@pytest.mark.parametrize(
    "address",
    [
        "s3://ours/models",
        "s3://ours/models/",
        "S3://ours/models/icons/1/release",
        "s3://ours//models/icons",
        "s3://OURS/models/a b",
    ],
)
def test_what_is_below_a_root_is_admitted(address: str) -> None:
    sources.admit(address, [BUCKET], "it")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "s3://ours",
        "s3://ours/models-of-others",
        "s3://ours/models/../secrets",
        "s3://ours/models/%2e%2e/secrets",
        "s3://ours/models/%252e%252e/secrets",
        "s3://ours/models\\..\\secrets",
        "s3://ours@evil.example/models",
        "s3://ours/models?versionId=1",
        "s3://ours/models#x",
        "s3://ours/models/a\nb",
        "s3://ours.evil.example/models",
        "gs://ours/models",
        "http://ours/models",
        "ftp://ours/models",
        "http://[::1",
        "mlflow-artifacts:/1/x",
        "ours/models",
        "/etc",
        "file:///etc",
        "file://evil.example/models",
        "dbfs:/x",
        "runs:/abc/release",
        "models:/icons/1",
    ],
)
def test_anything_else_is_refused_with_the_line_that_would_admit_it(address: str) -> None:
    with pytest.raises(NotPermitted, match=r"registry\.artifact_roots"):
        sources.admit(address, [BUCKET], "it")


@given(path=st.text(max_size=40))
def test_no_path_leaves_its_root_by_what_it_says(path: str) -> None:
    if sources.below(f"{BUCKET}/{path}", BUCKET):
        place = sources.place_of(f"{BUCKET}/{path}")
        assert place is not None and place[:2] == ("s3", "ours") and place[2][0] == "models" and not {".", ".."} & set(place[2])


def test_a_servers_own_proxy_is_admitted_and_no_other_servers(tmp_path: Path) -> None:
    roots = sources.roots("http://127.0.0.1:5000", tmp_path, ())
    sources.admit("mlflow-artifacts:/1/abc/artifacts/release", roots, "it")
    sources.admit("mlflow-artifacts://127.0.0.1:5000/1/abc", roots, "it")
    for address in ("mlflow-artifacts://127.0.0.1:5001/1/abc", "mlflow-artifacts://evil.example/1", "mlflow-artifacts:/../x"):
        with pytest.raises(NotPermitted):
            sources.admit(address, roots, "it")
    with pytest.raises(NotPermitted):
        sources.admit("mlflow-artifacts:/1", sources.roots("sqlite:////a/b.db", tmp_path, ()), "it")


def test_a_folder_counts_after_its_links_are_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "store", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "round").symlink_to(inside / "round")
    assert sources.below(f"{inside}/ü b", str(inside)) and sources.below((inside / "ü b").as_uri(), inside.as_uri())
    for address in (f"{inside}/link", f"{inside}/../elsewhere", f"{inside}/round/x", "store", f"{inside}/a\0b"):
        assert not sources.below(address, str(inside)), address


def test_files_that_are_links_out_of_the_store_or_no_files_are_refused(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "store" / "release"
    folder.mkdir(parents=True)
    (store / "blob").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "good").symlink_to(store / "blob")
    sources.contained(folder, ["good", "not there"], store)
    (folder / "bad").symlink_to(tmp_path / "secret")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("bad", "folder", "dangling"):
        with pytest.raises(NotPermitted, match=name):
            sources.contained(folder, [name], store)


@pytest.fixture
def visited() -> Iterator[tuple[str, list[int]]]:
    """A port that takes connections, says nothing, and counts them by what waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield f"127.0.0.1:{listening.getsockname()[1]}", [listening.fileno()]
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.fixture
def registry(tmp_path: Path) -> Releases:
    workspace = tmp_path / "workspace"
    found = Releases(f"sqlite:///{tmp_path / 'mlflow.db'}", "m", workspace)
    found.client.create_registered_model("m")
    return found


@pytest.mark.parametrize("scheme", ["http", "ftp", "mlflow-artifacts", "sftp", "hdfs"])
def test_no_host_is_called_that_only_a_version_names(scheme: str, registry: Releases, visited: tuple[str, list[int]]) -> None:
    registry.uri = "http://tracking.example"  # so that a proxy could be meant
    registry._roots = sources.roots(registry.uri, registry.folder, ())
    number = int(registry.client.create_model_version("m", f"{scheme}://{visited[0]}/release").version)
    (problem,) = registry.contract_problems(number)
    assert "lies where nothing is fetched from" in problem and visited[0] in problem


def test_a_run_or_an_experiment_cannot_say_where_its_files_lie(registry: Releases, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    experiment = registry.client.create_experiment("m", artifact_location=(tmp_path / "secret").as_uri())
    run = registry.client.create_run(experiment)
    number = int(registry.client.create_model_version("m", f"runs:/{run.info.run_id}/release", run.info.run_id).version)
    (problem,) = registry.contract_problems(number)
    assert "lies where nothing is fetched from" in problem
    with pytest.raises(NotPermitted):
        registry.candidate_file(run.info.run_id, "verdict.json")
    with pytest.raises(NotPermitted):  # nor where ours go
        registry.publish_candidate(1, {}, {}, "run")
    admitted = Releases(registry.uri, "m", registry.folder, ((tmp_path / "secret").as_uri(),))
    assert admitted.folder_of(number).is_relative_to(tmp_path / "secret")


def test_a_store_that_says_nothing_is_given_up(registry: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    told = Event()
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **_: told.wait())
    monkeypatch.setattr(doors, "SILENCE_S", 0.2)
    registry._roots.append("s3://ours")
    number = int(registry.client.create_model_version("m", "s3://ours/release").version)
    with pytest.raises(OperationFailed, match="does not answer"):
        registry.folder_of(number)
    told.set()


def test_what_a_version_names_in_vain_is_its_problem_and_a_fault_of_ours_is_not(
    registry: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = int(registry.client.create_model_version("m", f"runs:/{'0' * 32}/release").version)
    (problem,) = registry.contract_problems(number)
    assert "its artifacts cannot be had from runs:/" in problem

    def strange(**_: object) -> str:
        raise LookupError("no credentials")  # of a store's own library

    registry._roots = ["s3://bucket/ours"]
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", strange)
    number = int(registry.client.create_model_version("m", "s3://bucket/ours/release").version)
    assert registry.contract_problems(number) == ["its artifacts cannot be had from s3://bucket/ours/release: LookupError: no credentials"]

    def fails(*_: object) -> None:
        raise TypeError("ours")

    monkeypatch.setattr("registry.mlflow.releases._tree", fails)
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda dst_path, **_: dst_path)
    with pytest.raises(TypeError, match="ours"):
        registry.contract_problems(number)
