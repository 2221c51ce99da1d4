"""Events that a server answered 202 are kept, each batch once, however often the server is killed.

``ONESELF_CRASH_ROUNDS`` sets how often; 8 times unless it is given. Servers that are killed while they serve a
database are the subject of ``test_postgres_faults.py``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batches import all_activity
from load import KEY, end, launch
from oneself.store import EmbeddedStore
from serving import Server, shop

ROUNDS = int(os.environ.get("ONESELF_CRASH_ROUNDS", "8"))
CONNECTIONS = 8
USERS = 40
PATHS = ("/v2/events", "/v2/bulkevents", "/v3/JS/web-key/events")


class Upload(NamedTuple):
    """A request with some batches, their ids, and the status of its answer, 0 for none."""

    path: str
    body: Any
    ids: tuple[str, ...]
    status: int = 0


class Uploads:
    """What servers and pages send; ids begin with ``name``."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self._name = name
        self._dice = dice
        self._count = 0

    def next(self) -> Upload:
        """Return the next request."""
        path = self._dice.choice(PATHS)
        batches = [self._batch() for _ in range(self._dice.randrange(1, 5) if path.endswith("bulkevents") else 1)]
        body: Any = batches if path.endswith("bulkevents") else batches[0]
        return Upload(path, body, tuple(batch["source_request_id"] for batch in batches))

    def _batch(self) -> dict[str, Any]:
        self._count += 1
        id_ = f"{self._name}-{self._count}"
        events = [
            {"event_type": "custom_event", "data": {
                "event_name": f"Event {number}", "custom_event_type": "other", "source_message_id": f"{id_}-{number}",
            }} for number in range(self._dice.randrange(1, 4))
        ]  # fmt: skip
        return {
            "environment": "production",
            "source_request_id": id_,
            "user_identities": {"customerid": f"C-{self._dice.randrange(USERS)}"},
            "events": events,
        }


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upload: Upload) -> int:
    """Send one request on a connection; return the status of its answer."""
    content = json.dumps(upload.body).encode()
    credentials = base64.b64encode(f"{KEY.key}:{KEY.secret}".encode()).decode()
    shown = "" if upload.path.startswith("/v3") else f"Authorization: Basic {credentials}\r\n"
    head = f"POST {upload.path} HTTP/1.1\r\nHost: x\r\n{shown}Content-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    lengths = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
    await reader.readexactly(sum(lengths))
    return int(lines[0].split()[1])


async def send_until_killed(server: Server, name: str, dice: random.Random, seconds: float) -> list[Upload]:
    """Send over many connections, and kill the server after some seconds; return all that was sent."""
    account: list[Upload] = []

    async def client(number: int) -> None:
        uploads = Uploads(f"{name}-{number}", random.Random(dice.random()))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while True:
                upload = uploads.next()
                account.append(upload)
                at = len(account) - 1
                account[at] = upload._replace(status=await send(reader, writer, upload))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    clients = [asyncio.create_task(client(number)) for number in range(CONNECTIONS)]
    await asyncio.sleep(seconds)
    server.process.kill()
    await asyncio.gather(*clients)
    return account


async def send_again(server: Server, uploads: list[Upload]) -> None:
    """Send requests once more; each must be answered 202."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for upload in uploads:
            assert await send(reader, writer, upload) == 202, upload
    finally:
        writer.close()


def test_what_a_killed_server_took_in_is_there_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed = str(request.config.getoption("--hypothesis-seed"))
    print(f"repeat with: --hypothesis-seed={seed}")
    dice = random.Random(seed)
    lost: list[Upload] = []
    taken: list[Upload] = []
    for round_ in range(ROUNDS):
        server = launch(shop(), tmp_path)
        try:
            repeated = dice.sample(taken, min(len(taken), 50))
            asyncio.run(send_again(server, lost + repeated))
            taken += lost
            account = asyncio.run(send_until_killed(server, f"{seed}-{round_}", dice, dice.uniform(0.05, 0.5)))
        finally:
            end(server)
        assert {upload.status for upload in account} <= {0, 202}
        taken += [upload for upload in account if upload.status == 202]
        lost = [upload for upload in account if upload.status == 0]
    assert {upload.path for upload in taken} == set(PATHS)
    asyncio.run(_assert_once(tmp_path / "data", taken, lost))


async def _assert_once(folder: Path, taken: list[Upload], lost: list[Upload]) -> None:
    """Assert that each batch that was answered is on its user's timeline once, with its events, and no other is."""
    store = EmbeddedStore(folder)
    await store.open()
    try:
        found: Counter[str] = Counter()
        events: Counter[str] = Counter()
        for mpid in await store.mpids(["shop/production"], limit=10_000):
            rows = await all_activity(store, mpid, "shop")
            for record in (await store.batches([row.position for row in rows])).values():
                assert record.batch is not None
                found[record.batch.request_id] += 1
                events.update(event.id for event in record.batch.events)
    finally:
        await store.close()
    assert set(found.values()) == set(events.values()) == {1}
    answered = {id_ for upload in taken for id_ in upload.ids}
    assert answered <= found.keys()
    assert found.keys() - answered <= {id_ for upload in lost for id_ in upload.ids}
    sent = [batch for upload in taken for batch in (upload.body if isinstance(upload.body, list) else [upload.body])]
    assert {event["data"]["source_message_id"] for batch in sent for event in batch["events"]} <= events.keys()
