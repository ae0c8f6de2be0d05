"""``fct serve``: what it answers, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flows import answers, serve
from registry.live import Live
from tests.end_to_end.conftest import Copies, Project

PNG = {"Content-Type": "image/png"}


def picture(project: Project) -> bytes:
    return next((project.folder / "build/data/images/validation").rglob("*.png")).read_bytes()


@pytest.fixture(scope="module")
def candidate(copy_waiting: Copies) -> Project:
    """Version 1 serves, version 2 waits with a passed verdict, and no other test decides about it."""
    return copy_waiting()


@pytest.fixture(scope="module")
def state(candidate: Project) -> Live:
    found = Live(candidate.workspace(), candidate=True)
    assert found.look() and not found.problem
    found.compare()
    return found


@pytest.fixture(scope="module")
def client(state: Live) -> Iterator[TestClient]:
    with TestClient(serve.build(state), base_url="http://localhost") as found:
        yield found


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [hit["id"] for hit in response.json()["hits"]]


def test_an_image_is_answered_as_the_command_answers_it(candidate: Project, client: TestClient) -> None:
    path = next((candidate.folder / "build/data/images/validation").rglob("*.png"))
    said = client.post("/search?k=5", content=path.read_bytes(), headers=PNG).json()
    ran = json.loads(candidate.fct("search", str(path), "-k", "5", "--json").out)
    assert (said["release"], said["revision"]) == (ran["release"], ran["revision"]) == (1, 1)
    assert [{key: value for key, value in hit.items() if key != "rank"} for hit in said["hits"]] == ran["hits"]
    assert [hit["rank"] for hit in said["hits"]] == [1, 2, 3, 4, 5]


def test_a_vector_and_an_item_are_answered_as_a_loop_over_all_rows_answers_them(
    candidate: Project, client: TestClient, state: Live
) -> None:
    assert state.now is not None
    serving = state.now.serving
    rows = candidate.workspace().gallery.read_space(serving.revision.space)
    shown = set(serving.columns["id"][serving.shown].tolist())
    query = rows.vectors[7]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))

    wanted = sorted(((-cosine(query, row), one) for one, row in zip(rows.ids.tolist(), rows.vectors, strict=True) if one in shown))[:9]
    body = {"vector": query.tolist(), "fingerprint": serving.release.fingerprint}
    assert ids(client.post("/search?k=9", json=body)) == [one for _, one in wanted]
    item = sorted(shown)[3]
    query = rows.vectors[rows.ids.tolist().index(item)]
    wanted = sorted(((-cosine(query, row), one) for one, row in zip(rows.ids.tolist(), rows.vectors, strict=True) if one in shown))[:9]
    assert ids(client.post("/search?k=9", json={"id": item})) == [one for _, one in wanted] and wanted[0][1] == item


def test_no_canary_is_ever_an_answer_and_k_may_be_more_than_there_is(client: TestClient, candidate: Project) -> None:
    found = ids(client.post("/search?k=1000", content=picture(candidate), headers=PNG))
    assert len(found) == client.get("/release").json()["rows"] < 1000 and not any(one.startswith("canary:") for one in found)


def test_filters_leave_what_has_the_value_in_the_same_order(client: TestClient, candidate: Project) -> None:
    everything = client.post("/search?k=1000", content=picture(candidate), headers=PNG).json()["hits"]
    labels = [everything[0]["label"], everything[-1]["label"]]
    wanted = [hit["id"] for hit in everything if hit["label"] in labels]
    url = f"/search?k=1000&label={labels[0]}&label={labels[1]}"
    assert ids(client.post(url, content=picture(candidate), headers=PNG)) == wanted
    assert ids(client.post(f"{url}&origin=native&native_version=1", content=picture(candidate), headers=PNG)) == wanted
    assert ids(client.post(f"{url}&origin=elsewhere", content=picture(candidate), headers=PNG)) == []


def test_a_candidate_answers_from_its_own_gallery_beside_what_serves(client: TestClient, candidate: Project) -> None:
    assert client.get("/release").json()["candidate"] == {"release": 2, "through": "its own gallery"}
    said = client.post("/search?k=5&of=candidate", content=picture(candidate), headers=PNG).json()
    assert said["release"] == 2 and said["serving"]["release"] == 1 and said["hits"][0]["origin"] == "forward 1→2"
    item = said["hits"][0]["id"]
    assert ids(client.post("/search?k=5&of=candidate", json={"id": item}))[0] == item


def test_on_day_0_a_candidate_answers_through_a_bridge_better_than_chance(candidate: Project, client: TestClient, state: Live) -> None:
    """As if the upgrade had made its pairs and nothing more."""
    from registry.live import Candidate, Now, fit_bridge

    now, workspace = state.now, candidate.workspace()
    assert now is not None and now.candidate is not None
    bridge = fit_bridge(workspace, 2, now.serving)
    assert bridge is not None
    bridged = Candidate(2, now.candidate.release, now.candidate.program, None, bridge)
    state.now = Now(now.serving, now.entry, bridged)
    try:
        files = sorted((candidate.folder / "build/data/images/validation").rglob("*.png"))
        right = 0
        for path in files:
            said = client.post("/search?k=1&of=candidate", content=path.read_bytes(), headers=PNG).json()
            assert said["through"] == "a bridge" and said["release"] == 2 and said["serving"]["release"] == 1
            right += said["hits"][0]["label"] == path.parent.name
        assert right / len(files) > 3 / 34, "three times what chance does, with a version 1 that was trained for two epochs"
        refused = client.post("/search?of=candidate", json={"vector": [1.0]})
        assert refused.status_code == 422 and "bridge" in refused.json()["detail"]
        assert ids(client.post("/search?k=3&of=candidate", json={"id": said["hits"][0]["id"]})), "the item's image is looked at"
    finally:
        state.now = now


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("url", "body", "kind", "status", "words"),
    [
        ("/search?k=0", None, "image/png", 422, "1 to 1000"),
        ("/search?k=-1", None, "image/png", 422, "1 to 1000"),
        ("/search?k=1000000000", None, "image/png", 422, "1 to 1000"),
        ("/search?k=many", None, "image/png", 422, "k"),
        ("/search?of=nobody", None, "image/png", 422, "of"),
        ("/search", b"not an image", "image/png", 422, "no image"),
        ("/search", b"", "image/png", 422, "empty"),
        ("/search", bomb, "image/png", 422, "too large to unpack"),
        ("/search", b"x" * (answers.MOST_BYTES + 1), "image/png", 413, "at most"),
        ("/search", b"x", "text/plain", 415, "image/png"),
        ("/search", b"{", "application/json", 422, "not JSON"),
        ("/search", b"[" * 100_000, "application/json", 422, "not JSON"),
        ("/search", b"[]", "application/json", 422, "not understood"),
        ("/search", b'{"vector": [1], "id": "a"}', "application/json", 422, "not understood"),
        ("/search", b'{"id": 7}', "application/json", 422, "not understood"),
        ("/search", b'{"id": "../../etc/passwd"}', "application/json", 422, "no such item"),
        ("/search", rb'{"id": "\ud800"}', "application/json", 422, "no such item"),
        ("/search", b'{"vector": [1, 2, 3]}', "application/json", 422, "dimension"),
        ("/search", b'{"vector": [NaN, 1, 1, 1, 1, 1, 1, 1]}', "application/json", 422, "NaN"),
        ("/search", b'{"vector": [1e999, 1, 1, 1, 1, 1, 1, 1]}', "application/json", 422, "infinity"),
        ("/search", b'{"vector": [0, 0, 0, 0, 0, 0, 0, 0]}', "application/json", 422, "zero"),
        ("/search", b'{"vector": ["a"]}', "application/json", 422, "numbers"),
        ("/search", b'{"vector": "abc"}', "application/json", 422, "numbers"),
        ("/search", b'{"vector": [[1], [2, 3]]}', "application/json", 422, "numbers"),
        ("/search", b'{"vector": [1, 1, 1, 1, 1, 1, 1, 1], "fingerprint": "f"}', "application/json", 422, "another embedder"),
    ],
)
def test_bad_input_gets_a_status_and_a_sentence(
    client: TestClient, candidate: Project, url: str, body: Any, kind: str, status: int, words: str
) -> None:
    content = picture(candidate) if body is None else body() if callable(body) else body
    said = client.post(url, content=content, headers={"Content-Type": kind})
    assert said.status_code == status and said.headers["content-type"] == "application/problem+json"
    assert words in said.json()["detail"] and said.json()["status"] == status
    assert client.get("/readyz").status_code == 200


def test_the_page_of_the_api_needs_nobody_else(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "/openapi.json" in page and "https://" not in page and "http://" not in page
    assert set(client.get("/openapi.json").json()["paths"]) == {
        "/search",
        "/release",
        "/healthz",
        "/readyz",
        "/metrics",
        "/sample",
        "/image",
    }


def test_pictures_are_drawn_anew_and_only_of_items(client: TestClient) -> None:
    one = client.get("/sample?n=1").json()[0]["id"]
    said = client.get("/image", params={"id": one})
    assert said.headers["content-type"] == "image/png" and Image.open(io.BytesIO(said.content)).size == (answers.THUMBNAIL,) * 2
    for odd in ("/etc/passwd", "../params.yaml", "", "canary:0"):
        assert client.get("/image", params={"id": odd}).status_code == 404


def test_metrics_say_what_serves_and_count_what_was_asked(client: TestClient, candidate: Project) -> None:
    def values() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    before = values()
    client.post("/search?k=3", content=picture(candidate), headers=PNG)
    client.post("/search?k=0", content=picture(candidate), headers=PNG)
    after = values()
    assert (after["fct_ready"], after["fct_release"], after["fct_revision"], after["fct_behind"], after["fct_candidate"]) == (1, 1, 1, 0, 2)
    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert (
        grown['fct_queries_total{outcome="ok"}'] == grown["fct_query_seconds_count"] == grown['fct_queries_total{outcome="refused"}'] == 1
    )


def test_before_anything_serves_the_server_is_alive_and_not_ready(trained: Project, candidate: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "blank")
    project.folder.mkdir()
    (project.folder / "params.yaml").write_text((trained.folder / "params.yaml").read_text())
    found = Live(project.workspace())
    assert not found.look()
    with TestClient(serve.build(found), base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.get("/release"), client.post("/search", content=picture(candidate), headers=PNG)):
            assert answer.status_code == 503
        assert "promote" in client.get("/readyz").json()["problem"]
