"""Deliveries: what is believed, what is refused with a problem body, and that a delivery is never obeyed."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from flows import receiver
from flows.receiver import ID, MOST_BYTES, SIGNATURE, TIMESTAMP, WINDOW_S, Refused, build, verify
from registry.mlflow.store import OURS

SECRET = "0123456789abcdef" * 4
NOW = 1_800_000_000.0
BODY = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "icons", "version": "2"}}).encode()


def signed(body: bytes = BODY, delivery: str = "d-1", at: float = NOW, secret: str = SECRET) -> dict[str, str]:
    """Headers as MLflow sends them; the signature is made by the reference implementation of Standard Webhooks."""
    oracle = Webhook(base64.b64encode(secret.encode()).decode())
    stamp = datetime.fromtimestamp(int(at), UTC)
    return {ID: delivery, TIMESTAMP: str(int(at)), SIGNATURE: oracle.sign(delivery, stamp, body.decode())}


class Prefect:
    """What was handed on; ``broken``: it does not answer."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []
        self.broken = False

    async def __call__(self, event: dict[str, object]) -> None:
        if self.broken:
            raise ConnectionError("no")
        self.events.append(event)


@pytest.fixture
def prefect() -> Prefect:
    return Prefect()


@pytest.fixture
def post(prefect: Prefect):
    app = build(SECRET, "icons", prefect, clock=lambda: NOW)

    def send(body=BODY, headers=None):
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
                return await client.post("/webhook", content=body, headers=signed(body) if headers is None else headers)

        return asyncio.run(ask())

    return send


def problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status and response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said["status"] == status and said["title"] and said["detail"]
    return said


def test_what_mlflow_signs_becomes_one_event(post, prefect):
    assert post().status_code == 202
    event = prefect.events[0]
    assert event["event"] == "fct.registry.changed" and event["resource"]["prefect.resource.id"] == "fct.model.icons"
    assert "version" not in json.dumps(event["payload"]), "an event is a hint, it carries nothing that could be obeyed"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("abcdef-0123456789", min_size=1, max_size=40))
def test_every_body_that_the_reference_signs_is_believed(text, delivery):
    body = text.encode()
    assert verify(SECRET, signed(body, delivery), body, NOW) == delivery


@given(st.binary(min_size=1), st.integers(0, 10**6))
def test_no_changed_body_is_believed(change, where):
    body = BODY[: where % len(BODY)] + change + BODY[where % len(BODY) + len(change) :]
    if body != BODY:
        with pytest.raises(Refused) as error:
            verify(SECRET, signed(), body, NOW)
        assert error.value.status == 401


def test_a_forged_delivery_is_refused(post, prefect):
    problem(post(headers=signed(secret="f" * 64)), 401)
    problem(post(headers=signed() | {SIGNATURE: "v1,AAAA"}), 401)
    problem(post(headers=signed() | {SIGNATURE: "v2," + signed()[SIGNATURE][3:]}), 401)
    problem(post(headers=signed() | {ID: "another"}), 401)
    assert prefect.events == []


def test_one_of_several_signatures_is_enough(post):
    assert post(headers=signed() | {SIGNATURE: f"v1,AAAA {signed()[SIGNATURE]}"}).status_code == 202


@pytest.mark.parametrize("away", [-WINDOW_S - 1, WINDOW_S + 1])
def test_a_delivery_from_another_time_is_refused(post, prefect, away):
    assert "300 seconds" in str(problem(post(headers=signed(at=NOW + away)), 401)["detail"])
    assert prefect.events == []


@pytest.mark.parametrize("away", [-WINDOW_S, 0, WINDOW_S])
def test_a_delivery_within_the_window_is_taken(post, away):
    assert post(headers=signed(at=NOW + away)).status_code == 202


def test_a_delivery_that_comes_twice_is_one_event(post, prefect):
    assert [post().status_code, post().status_code] == [202, 200] and len(prefect.events) == 1


def test_deliveries_out_of_order_are_each_taken(post, prefect):
    for delivery, at in (("b", NOW), ("a", NOW - 60)):
        assert post(headers=signed(delivery=delivery, at=at)).status_code == 202
    assert len(prefect.events) == 2


@pytest.mark.parametrize("name", [ID, TIMESTAMP, SIGNATURE])
def test_a_missing_header_is_named(post, name):
    headers = signed()
    del headers[name]
    assert name in str(problem(post(headers=headers), 400)["detail"])


@pytest.mark.parametrize("stamp", ["soon", "1e9", "-5", "9" * 13, "١٢٣"])
def test_a_timestamp_that_is_none_is_refused(stamp):
    with pytest.raises(Refused) as error:
        verify(SECRET, signed() | {TIMESTAMP: stamp}, BODY, NOW)
    assert error.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", BODY[:-9], b"[]", b"null", b"\xff\xfe", b'{"entity":1,"data":{"name":"icons"}}', b"[" * 5000])
def test_a_truncated_or_strange_body_is_refused(post, prefect, body):
    headers = signed(b"x")
    stamp = headers[TIMESTAMP].encode()
    import hashlib
    import hmac

    headers[SIGNATURE] = (
        "v1," + base64.b64encode(hmac.new(SECRET.encode(), b"d-1." + stamp + b"." + body, hashlib.sha256).digest()).decode()
    )
    problem(post(body, headers), 400)
    assert prefect.events == []


def test_a_huge_body_is_refused_before_it_is_read(post, prefect):
    body = b" " * (MOST_BYTES + 1)
    problem(post(body, signed()), 413)
    assert prefect.events == []


def test_a_huge_body_without_a_declared_length_is_refused(prefect):
    app = build(SECRET, "icons", prefect, clock=lambda: NOW)

    async def chunks():
        for _ in range(MOST_BYTES // 1000 + 2):
            yield b" " * 1000

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            return await client.post("/webhook", content=chunks(), headers=signed())

    problem(asyncio.run(ask()), 413)


def test_other_models_and_our_own_marks_start_nothing(post, prefect):
    bodies = [{"entity": "model_version", "data": {"name": name, "version": "1"}} for name in ("icons-forward", "others")]
    bodies += [{"entity": "model_version_tag", "data": {"name": "icons", "version": "2", "key": key, "value": "x"}} for key in OURS]
    for number, said in enumerate(bodies):
        body = json.dumps(said).encode()
        assert post(body, signed(body, f"d-{number}")).status_code == 200
    assert prefect.events == []


def test_an_approval_starts_a_look_at_the_registry(post, prefect):
    body = json.dumps(
        {"entity": "model_version_tag", "action": "set", "data": {"name": "icons", "key": "fct.approve", "value": "x"}}
    ).encode()
    assert post(body).status_code == 202 and len(prefect.events) == 1


def test_with_prefect_away_the_sender_is_told_to_try_again_and_the_second_try_counts(post, prefect):
    prefect.broken = True
    problem(post(), 503)
    prefect.broken = False
    assert post().status_code == 202 and len(prefect.events) == 1


def test_ids_are_forgotten_when_their_age_alone_refuses_them(prefect):
    clock = [NOW]
    app = build(SECRET, "icons", prefect, clock=lambda: clock[0])

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            return (await client.post("/webhook", content=BODY, headers=signed())).status_code

    assert asyncio.run(ask()) == 202
    clock[0] = NOW + 2 * WINDOW_S + 1
    assert asyncio.run(ask()) == 401


def test_an_event_has_the_id_of_its_delivery():
    assert receiver.event_of("a", "m")["id"] == receiver.event_of("a", "m")["id"] != receiver.event_of("b", "m")["id"]
