"""Who may ask our servers."""

from __future__ import annotations

import base64

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from flows.http import Door, is_loopback

TOKEN = "a-token-of-many-characters"


def client(token: str = "") -> TestClient:
    app = FastAPI()
    app.add_middleware(Door, hosts=["Shop.example"], token=token)
    for path in ("/", "/healthz", "/readyz"):
        app.get(path)(lambda: "ok")
    return TestClient(app, base_url="http://localhost")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8780",
        "127.0.0.1",
        "127.0.0.1:8780",
        "[::1]",
        "[::1]:8780",
        "10.1.2.3:80",
        "shop.example",
        "SHOP.example.:443",
    ],
)
def test_who_calls_us_by_an_address_or_a_name_of_ours_is_answered(host: str) -> None:
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8780",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:localhost",
        "shop.example@evil",
    ],
)
def test_a_page_that_calls_us_by_another_name_is_not(host: str) -> None:
    answer = client().get("/", headers={"Host": host})
    assert answer.status_code == 421 and "serve.hosts" in answer.json()["detail"]
    assert client(TOKEN).get("/healthz", headers={"Host": host}).status_code == 421


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_is_wanted_but_for_probes_and_browsers_may_send_it_as_a_password() -> None:
    door = client(TOKEN)
    assert door.get("/healthz").status_code == door.get("/readyz").status_code == 200
    for said in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("anybody", TOKEN), basic("", TOKEN)):
        assert door.get("/", headers={"Authorization": said}).status_code == 200, said
    for said in ("", "Bearer ", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, basic(TOKEN, ""), "Basic ###", "Basic ü"):
        answer = door.get("/", headers={"Authorization": said.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Basic "), said
    assert door.get("/").status_code == 401
    assert door.get("//healthz").status_code == 401 and door.get("/healthz/").status_code == 401


def test_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "shop.example")))
