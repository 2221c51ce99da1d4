"""Batches that are answered straight from their connection are answered as by the application, to the byte.

Each request is sent three times: with a query, which the short way leaves to the application; plainly, so that it
takes the short way; and once more, when its headers are known by their bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from http_batches import brought
from http_edge import BASIC, CONFIG, KEY, NOW, SHOP, StrawEngine, basic, batch, happening, refused, served
from oneself.errors import Overloaded, StoreUnavailable
from oneself.http import create_app
from raw_client import Client

PATHS = ["/v2/events", "/v2//events", "/s2s/v2/events", "/v3/JS/web-key/events", "/webevents/v3/JS/bare-key/events"]
OTHER_PATHS = [
    "/v2/bulkevents", "/v2/bulkevents/historical", "/v1/JS/web-key/Forwarding", "/v3/JS/server-key/events",
    "/v3/JS/nobody/events",
]  # fmt: skip
HEADERS: list[dict[str, str]] = [
    {},
    dict(BASIC),
    dict(KEY),
    {"x-mp-key": "nobody"},
    basic("server-key", "wrong"),
    {**BASIC, "x-forwarded-for": "203.0.113.7, 10.0.0.1"},
    {**KEY, "content-type": "text/plain;charset=UTF-8", "origin": "https://shop.example", "connection": "close"},
    {"x-forwarded-for": "[2001:db8::1]:443", "content-type": "text/plain;charset=UTF-8"},
]
BODIES = [
    batch(),
    batch(ip="198.51.100.9", mpid="7000000000001234567", environment="development", source_request_id="r-1"),
    batch("no event", happening(event_name="x" * 300)),
    {"environment": "moon", "request_id": "r-2"},
    {"mpid": 0},
    {},
    [],
    b"{",
    b'{"a":"\xff"}',
    b'{"user_attributes":{"a":"\\u0000"}}',
    b'{"events":[{"event_type":"custom_event","data":{"event_name":"\\ud83d","custom_event_type":"other"}}]}',
    b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    b" " * 40_000,
    b" " * 140_000,
]


def answered(client: Client, target: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Send a request and return the whole answer, but for its date and what is made up for it."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {target} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n"
    client.send(head.encode() + body)
    while b"\r\n\r\n" not in client.left:
        client._more()
    head, _, _ = client.left.decode("latin-1").partition("\r\n\r\n")
    length = int(re.findall(r"content-length: (\d+)", head)[0])
    while len(client.left) < len(head) + 4 + length:
        client._more()
    whole, client.left = client.left[: len(head) + 4 + length], client.left[len(head) + 4 + length :]
    whole = re.sub(rb"\r\ndate: [^\r]*GMT\r\n", b"\r\ndate: then\r\n", whole)
    return re.sub(rb'"RequestId":"[0-9a-f-]{36}"', b'"RequestId":"made up"', whole)


def what_came(engine: StrawEngine) -> list[Any]:
    """Return what the engine was asked since this was asked last."""
    calls, engine.calls = engine.calls, []
    return [
        (
            call.input,
            call.space,
            call.request,
            call.request_id,
            call.delivery,
            getattr(brought(call).batch, "ip", None),
        )
        for call in calls
    ]


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: ",".join(headers) or "none")
@pytest.mark.parametrize(
    "failure", [None, Overloaded(3), StoreUnavailable("Full.", 2), KeyError("ada@example.com"), "refused"], ids=repr
)
def test_a_connection_answers_as_the_application_does(
    headers: dict[str, str], failure: Exception | str | None
) -> None:
    engine = StrawEngine(refused(400, "UNKNOWN_MPID", "mpid: no user has it.") if failure == "refused" else None)
    engine.failure = failure if isinstance(failure, Exception) else None
    with served(create_app(CONFIG, engine, clock=lambda: NOW)) as port:
        for path in (*PATHS, *OTHER_PATHS):
            for document in BODIES:
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                seen = []
                client = Client(port)
                for target in (path + "?x=1", path, path):
                    seen.append((answered(client, target, body, headers), what_came(engine)))
                    if "connection" in headers:
                        client.socket.close()
                        client = Client(port)
                client.socket.close()
                assert seen[1] == seen[0], (path, body[:80])
                assert seen[2] == seen[0], (path, body[:80])


def test_rate_limits_are_told_in_the_same_way() -> None:
    workspaces = (msgspec.structs.replace(SHOP, max_batches_per_second=1000), *CONFIG.workspaces[1:])
    config = msgspec.structs.replace(CONFIG, workspaces=workspaces)
    with served(create_app(config, StrawEngine(), clock=lambda: NOW)) as port, Client(port) as client:
        for path in PATHS:
            for target in (path + "?x=1", path, path):
                got = answered(client, target, json.dumps(batch()).encode(), {} if "JS" in path else dict(BASIC))
                assert got.startswith(b"HTTP/1.1 202 Accepted\r\n")
                assert re.search(rb"\r\nx-mp-rate-limit-percentage-used: \d+\r\n", got)


def test_the_sender_s_address_is_that_of_the_connection_where_no_proxy_says_another() -> None:
    engine = StrawEngine()
    with served(create_app(CONFIG, engine, clock=lambda: NOW)) as port:
        for path in PATHS:
            headers = {} if "JS" in path else dict(KEY)
            for more, ip in (({}, "127.0.0.1"), ({"x-forwarded-for": "203.0.113.7"}, "203.0.113.7")):
                for target in (path + "?x=1", path, path):
                    with Client(port) as client:
                        answered(client, target, json.dumps(batch()).encode(), headers | more)
                    [(*_, got)] = what_came(engine)
                    assert got == ip
