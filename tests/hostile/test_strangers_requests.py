"""What strangers send: queries, addresses, deliveries."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flows import receiver, serve
from flows.http import Refused
from registry.live import Live
from tests import by_hand


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    state = Live(by_hand.two_releases(tmp_path_factory.mktemp("served") / "project"))
    assert state.look() and not state.problem
    with TestClient(serve.build(state), base_url="http://localhost") as found:
        yield found


BODIES = {
    "an id that is no text": r'{"id":"\ud800"}',
    "an id of another type": '{"id":["i01"]}',
    "an id of megabytes": json.dumps({"id": "x" * 2**19}),
    "a canary": '{"id":"canary:c0"}',
    "both": '{"id":"i01","vector":[1,2,3,4,5,6,7,8]}',
    "neither": "{}",
    "more": '{"id":"i01","__class__":1}',
    "no number": '{"vector":[NaN,1,1,1,1,1,1,1]}',
    "infinity": '{"vector":[-Infinity,1,1,1,1,1,1,1]}',
    "beyond float32": '{"vector":[1e39,1,1,1,1,1,1,1]}',
    "no direction": '{"vector":[0,0,0,0,0,0,0,0]}',
    "too few": '{"vector":[1]}',
    "nested": '{"vector":[[1,2,3,4,5,6,7,8]]}',
    "deep": '{"vector":' + "[" * 900 + "]" * 900 + "}",
    "deeper": "[" * 500_000,
    "a number without end": '{"vector":[' + "9" * 100_000 + "]}",
    "a large number": '{"vector":[' + "9" * 4000 + ",1,1,1,1,1,1,1]}",
    "another embedder": r'{"vector":[1,2,3,4,5,6,7,8],"fingerprint":"\ud800"}',
    "no UTF-8": b'{"id":"\xff"}',
    "an array": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_query_that_is_none_is_one_sentence(kind: str, client: TestClient) -> None:
    answer = client.post("/search", content=BODIES[kind], headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"] and len(answer.text) < 1000


@pytest.mark.parametrize(
    "path",
    [
        "/image?id=../../etc/passwd",
        "/image?id=/etc/passwd",
        "/image?id=canary:c0",
        "/image?id=%ED%A0%80",
        "/image?id=%00",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static-offline-docs/../../../../etc/passwd",
        "/static-offline-docs/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static-offline-docs//etc/passwd",
    ],
)
def test_no_address_reads_a_file(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422) and "root:" not in answer.text


def test_a_vector_of_megabytes_does_not_keep_the_others_waiting(client: TestClient) -> None:
    """Reading 16 MiB of JSON took 1.5 s, in which nobody else was answered; an image may be as large, and is read aside."""
    body = b'{"vector":[' + b"1," * (2 << 20) + b"1]}"
    answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and answer.json()["title"] == "size"


def test_bodies_that_never_end_do_not_shut_out_the_others(client: TestClient) -> None:
    """As many connections as there are places, each with the first byte of its body: nobody else was answered for a minute."""
    head = {"type": "http", "method": "POST", "path": "/search", "query_string": b"", "http_version": "1.1", "scheme": "http"}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"50")]

    async def ask() -> int:
        async def slow() -> dict[str, Any]:
            await asyncio.sleep(3600)
            return {}

        async def quick() -> dict[str, Any]:
            return {"type": "http.request", "body": b'{"id":"i01"}', "more_body": False}

        said: list[int] = []

        async def send(message: Any) -> None:
            said.extend([message["status"]] if message["type"] == "http.response.start" else [])

        async def nowhere(_: Any) -> None:
            pass

        async def one() -> None:
            await client.app(head | {"headers": headers}, slow, nowhere)

        slowly = [asyncio.create_task(one()) for _ in range(serve.MOST_WAITING)]
        await asyncio.sleep(2)
        await asyncio.wait_for(client.app(head | {"headers": headers[:2]}, quick, send), 20)
        for task in slowly:
            task.cancel()
        await asyncio.gather(*slowly, return_exceptions=True)
        return said[0]

    assert asyncio.run(ask()) == 200


def test_other_sites_learn_nothing_from_how_a_picture_loads(client: TestClient) -> None:
    """A page of another site may put <img src="http://127.0.0.1:8780/image?id=…"> and see whether it loads: there is such an item, or not."""
    for path in ("/image?id=i01", "/", "/release"):
        assert client.get(path).headers.get("Cross-Origin-Resource-Policy") == "same-origin"
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 421


def signed(body: bytes, secret: str = "s" * 32, at: int = 1_800_000_000, delivery: str = "d") -> dict[str, str]:
    import base64
    import hmac

    said = b".".join([delivery.encode(), str(at).encode(), body])
    return {
        receiver.ID: delivery,
        receiver.TIMESTAMP: str(at),
        receiver.SIGNATURE: "v1," + base64.b64encode(hmac.new(secret.encode(), said, hashlib.sha256).digest()).decode(),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"entity":1,"data":{"name":"icons"}}',
        b'{"entity":"x","data":[]}',
        b'{"entity":"x","data":{"name":["icons"]}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_delivery_of_another_form_is_refused_also_with_the_secret(body: bytes) -> None:
    receiver.verify("s" * 32, signed(body), body, 1_800_000_000)
    with pytest.raises(Refused) as caught:
        receiver.concerns(body, "icons")
    assert caught.value.status == 400


@pytest.mark.parametrize("key", ["[]", "{}", "null", "1e999", '"fct.approve"'])
def test_whatever_a_delivery_says_of_a_tag_it_is_a_hint(key: str) -> None:
    body = f'{{"entity":"model_version_tag","data":{{"name":"icons","key":{key}}}}}'.encode()
    assert receiver.concerns(body, "icons") is True


@pytest.mark.parametrize(
    "change",
    [
        {receiver.SIGNATURE: "v1,"},
        {receiver.SIGNATURE: "v2," + "A" * 44},
        {receiver.SIGNATURE: "v1,ü"},
        {receiver.TIMESTAMP: "٣"},
        {receiver.TIMESTAMP: "-1"},
        {receiver.TIMESTAMP: "1e9"},
        {receiver.TIMESTAMP: "9" * 5000},
        {receiver.TIMESTAMP: "1799999999"},
        {receiver.ID: "d.1800000000"},
        {receiver.ID: "x" * 10_000},
    ],
)
def test_a_delivery_without_the_secret_is_refused(change: dict[str, str]) -> None:
    body = b'{"entity":"model_version","data":{"name":"icons"}}'
    events: list[object] = []

    async def emit(event: dict[str, Any]) -> None:
        events.append(event)

    with pytest.raises(Refused):
        receiver.verify("s" * 32, signed(body) | change, body, 1_800_000_000)
    app = receiver.build("s" * 32, "icons", emit, clock=lambda: 1_800_000_000)
    with TestClient(app, base_url="http://localhost") as asking:
        headers = {name: value.encode() for name, value in (signed(body) | change).items()}
        assert asking.post("/webhook", content=body, headers=headers).status_code in (400, 401) and not events  # type: ignore[arg-type]
