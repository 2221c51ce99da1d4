"""A stream over a real connection: a quiet one stays, one that is not read is cut off, and all of them end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from http_edge import served
from oneself.http.stream import send_stream
from oneself.http.wire import Stream
from raw_client import Client
from serving import Server, serving, shop

REQUEST = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
MEGABYTE = b"x" * (1 << 20)

CLIENT = """
[[api_client]]
client_id = "client"
client_secret = "client-secret"
workspaces = ["shop"]
permissions = ["admin"]
"""


class Dripping:
    """An application with one stream, which says what a test tells it to and counts how it ends."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.failure: Exception | None = None
        self.stopped = False
        self.started = threading.Event()
        self.done = threading.Event()
        self.closed = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send_stream(Stream(200, [], self.drip(), self.done.set), receive, send)

    async def drip(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"begin"
            self.started.set()
            while not self.stopped:
                if self.failure is not None:
                    raise self.failure
                while self.pieces:
                    yield self.pieces.pop(0)
                await asyncio.sleep(0.01)
            yield b"end"
        finally:
            self.closed.set()

    def end_streams(self) -> None:
        self.stopped = True


def read_until(client: Client, wanted: bytes) -> bytes:
    """Read until something has come, and return all that was read."""
    read = b""
    while wanted not in read:
        piece = client.socket.recv(65536)
        assert piece, f"the connection ended after {read!r}"
        read += piece
    return read


def test_a_quiet_stream_outlives_every_limit_on_slow_clients() -> None:
    app = Dripping()
    limits = {"idle_seconds": 1, "header_seconds": 0.5, "body_seconds": 0.5, "stuck_seconds": 0.5}
    with served(app, **limits) as port, Client(port) as client:
        read_until(client.send(REQUEST), b"begin")
        time.sleep(3)
        app.pieces.append(b"still here")
        read_until(client, b"still here")
        assert not app.done.is_set()


def test_a_client_that_does_not_read_is_cut_off() -> None:
    app = Dripping()
    app.pieces = [MEGABYTE] * 64
    with served(app, stuck_seconds=0.5) as port, Client(port) as client:
        client.send(REQUEST)
        assert app.done.wait(20)
        assert app.closed.wait(20)
        got = 0
        while piece := client.socket.recv(1 << 20):
            got += len(piece)
        assert got < 64 * len(MEGABYTE)


def test_a_client_that_leaves_ends_its_stream() -> None:
    app = Dripping()
    with served(app) as port:
        with Client(port) as client:
            read_until(client.send(REQUEST), b"begin")
        assert app.done.wait(20)
        assert app.closed.wait(20)


def test_a_client_that_leaves_at_once_leaves_nothing_behind() -> None:
    app = Dripping()
    with served(app) as port:
        with Client(port) as client:
            client.send(REQUEST)
        assert app.done.wait(20)


def test_a_server_that_stops_ends_its_streams_and_does_not_wait_for_them() -> None:
    app = Dripping()
    with served(app, grace_seconds=600) as port:  # whose end waits 30 seconds only
        client = Client(port)
        read_until(client.send(REQUEST), b"begin")
    with client:
        rest = b""
        while piece := client.socket.recv(65536):
            rest += piece
        assert rest.endswith(b"3\r\nend\r\n0\r\n\r\n")


def test_a_stream_that_fails_ends_its_connection_without_a_proper_end() -> None:
    app = Dripping()
    with served(app) as port, Client(port) as client:
        read_until(client.send(REQUEST), b"begin")
        app.failure = RuntimeError("a fault")
        rest = b""
        while piece := client.socket.recv(65536):
            rest += piece
        assert b"0\r\n\r\n" not in rest
        assert app.done.wait(20)


def token(server: Server) -> dict[str, str]:
    asked = {"grant_type": "client_credentials", "client_id": "client", "client_secret": "client-secret"}
    return {"authorization": f"Bearer {server.client.post('/oauth/token', json=asked).json()['access_token']}"}


def test_a_real_server_streams_what_comes_in_and_ends_its_streams_when_it_stops(tmp_path: Path) -> None:
    with serving(shop() + CLIENT, tmp_path) as server:
        path = "/admin/workspaces/shop/live?environment=production"
        sent = {"user_identities": {"customerid": "c-1"}, "user_attributes": {"a": "b"}}
        with server.client.stream("GET", path, headers=token(server), timeout=20) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.iter_lines()
            assert next(lines) == ": the live stream of Oneself"
            assert server.post("/v2/events", sent).status_code == 202
            told: dict[str, str] = {}
            while "data" not in told:
                name, _, value = next(lines).partition(": ")
                told[name] = value
            assert told["event"] == "batch"
            assert json.loads(told["data"])["batch"]["user_attributes"] == {"a": "b"}
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            rest = "\n".join(lines)
            stopping.join(30)
            assert "event: end" in rest
            assert '"why":"stopping"' in rest
        with pytest.raises(httpx.TransportError):
            server.client.get("/healthz")
