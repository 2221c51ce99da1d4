"""Load on a server over many connections, and an account of every request: what was asked, and what was answered."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from journal_fold import Fold
from oneself.store import Place
from serving import START_SECONDS, Key, Server, free_port

CONNECTIONS = 32
INPUT = "shop/server"
KEY = Key("server-key", "server-secret")


class Sent(NamedTuple):
    """A request and its answer; ``status`` is 0 where none came."""

    request_id: str
    path: str
    body: dict[str, Any]
    status: int
    answer: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def mpid(self) -> str:
        """Whom the request was answered with."""
        return str(self.answer["mpid"])


class Traffic:
    """What a small shop's visitors send; request ids begin with ``name``."""

    def __init__(self, name: str, seed: object) -> None:
        self.name = name
        self._dice = random.Random(f"{name} {seed}")
        self._count = 0

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of the next request."""
        dice = self._dice
        self._count += 1
        known = {"device_application_stamp": f"device {dice.randrange(200)}"}
        kind = dice.choices(("identify", "login", "logout"), (5, 4, 2))[0]
        if kind == "login":
            known["customerid"] = f"customer {dice.randrange(60)}"
        elif dice.random() < 0.3:
            known["other"] = f"cookie {dice.randrange(100)}"
        body = {"environment": "production", "request_id": f"{self.name}-{self._count}", "known_identities": known}
        return f"/v1/{kind}", body


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: object
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send one request on a connection; return the status, the body and the headers of its answer."""
    content = json.dumps(body).encode()
    credentials = base64.b64encode(f"{KEY.key}:{KEY.secret}".encode()).decode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    answer = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), json.loads(answer), headers


async def send_all(
    port: int, traffic: Traffic, *, stop: Callable[[Sent], bool] = lambda sent: False, connections: int = CONNECTIONS
) -> list[Sent]:
    """Send over many connections until each is broken, or ``stop`` says so of an answer; return all that was sent."""
    account: list[Sent] = []
    stopped = asyncio.Event()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while not stopped.is_set():
                path, body = traffic.next()
                sent = Sent(body["request_id"], path, body, 0, {}, {})
                try:
                    status, answer, headers = await post(reader, writer, path, body)
                    sent = sent._replace(status=status, answer=answer, headers=headers)
                finally:
                    account.append(sent)
                if stop(sent):
                    stopped.set()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            await _close(writer)

    tasks = [asyncio.create_task(client()) for _ in range(connections)]
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, OSError):
            raise outcome
    return account


async def send_again(port: int, account: list[Sent]) -> list[Sent]:
    """Send requests once more, one after another; return them with their new answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    again = []
    for sent in account:
        status, answer, headers = await post(reader, writer, sent.path, sent.body)
        again.append(sent._replace(status=status, answer=answer, headers=headers))
    await _close(writer)
    return again


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side may be gone
        await writer.wait_closed()


def assert_answers_hold(account: list[Sent], fold: Fold) -> None:
    """Assert that what was answered is what the journal says."""
    for sent in account:
        if sent.status == 200:
            position = fold.requests[INPUT, sent.request_id]
            assert str(fold.answers[position]) == sent.mpid, sent


def customers_of(account: list[Sent]) -> dict[str, str]:
    """Return the MPID that each customer who logged in was answered with, always the same."""
    found: dict[str, str] = {}
    for sent in account:
        customer = sent.body["known_identities"].get("customerid")
        if sent.status == 200 and customer:
            assert found.setdefault(customer, sent.mpid) == sent.mpid, f"{customer} became another person: {sent}"
    return found


# -- a server that may be killed ------------------------------------------------------------------------------------


def launch(config: str, folder: Path, data: Path | None = None) -> Server:
    """Run `oneself serve` and wait until it is ready; who launches it ends it, as suits the test."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oneself.toml").write_text(config)
    data = data or folder / "data"
    log, port = folder / "serve.log", free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            serve_command(folder / "oneself.toml", data, port),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=clean_environ(),
        )  # fmt: skip
    server = Server(port, data, Place(data), folder / "oneself.toml", log, None, {"server": KEY}, process)
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(server):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"oneself serve did not become ready:\n{server.tail()}")
        time.sleep(0.02)
    return server


def is_ready(server: Server) -> bool:
    """Tell whether a server says that it is ready."""
    try:
        return server.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def end(server: Server) -> None:
    """End a server that may have ended, or not, for a test that is over."""
    server.client.close()
    if server.process.poll() is None:
        server.process.kill()
    server.process.wait()


def serve_command(config: Path, data: Path, port: int) -> list[str]:
    """Return the command that serves a configuration."""
    options = ["--config", str(config), "--data", str(data), "--port", str(port)]
    return [sys.executable, "-m", "oneself", "serve", *options]


def clean_environ() -> dict[str, str]:
    """Return this environment without settings for Oneself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ONESELF_")}
